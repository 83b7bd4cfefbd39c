"""Calls outlive what carries them: jobs, workers and the LiveKit server are killed, callers are
lost and come back.

Real runners, rooms and processes; the caller is LiveKit's own client, who types.
"""

import asyncio
import json
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from livekit import rtc

from tests.calls.conftest import Runner, start_runner
from tests.ports import free_port

SERVERS = ("vllm", "ollama", "openrouter", "speaches_gpu", "speaches_cpu")
ANSWER = "It does."
GREETING = "Hello there."
BACK = "We were cut off."
_PATIENCE_S = 60


class Caller:
    """Someone in a room, who types and reads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.room = rtc.Room()
        self.token = ""
        self.read: list[str] = []
        self.left = asyncio.Event()
        self.cut_off, self.connected = asyncio.Event(), asyncio.Event()
        self._reading: set[asyncio.Task[None]] = set()
        self.room.register_text_stream_handler("lk.transcription", self._on_text)
        self.room.on("disconnected", lambda _: self.left.set())
        self.room.on("reconnecting", self.cut_off.set)
        self.room.on("reconnected", self.connected.set)

    async def dial(self, resume: str | None = None) -> None:
        """Enters a room; with ``resume`` the one for which that token was."""
        wish = {"resume": resume} if resume else {}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self._url}/api/token", json=wish) as answer,
        ):
            access = await answer.json()
            assert answer.status == 201, access
        self.token = access["participant_token"]
        await self.room.connect(access["server_url"], self.token)

    async def ask(self, text: str) -> None:
        await self.room.local_participant.send_text(text, topic="lk.chat")

    async def hears(self, part: str, times: int = 1) -> None:
        """Returns when that was said so often."""
        async with asyncio.timeout(_PATIENCE_S):
            while sum(part in text for text in self.read) < times:  # noqa: ASYNC110  streams
                await asyncio.sleep(0.02)

    async def agent(self) -> str:
        """The agent's identity, once there is one who listens."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                for found in self.room.remote_participants.values():
                    if found.attributes.get("lk.agent.state") == "listening":
                        return found.identity
                await asyncio.sleep(0.02)

    def _on_text(self, reader: rtc.TextStreamReader, _: str) -> None:
        self._reading.add(asyncio.create_task(self._read(reader)))

    async def _read(self, reader: rtc.TextStreamReader) -> None:
        self.read.append(await reader.read_all())


async def until(found: Callable[[], Any]) -> Any:
    """What is found, once it is."""
    async with asyncio.timeout(_PATIENCE_S):
        while not (value := found()):  # noqa: ASYNC110  other processes make it so
            await asyncio.sleep(0.05)
    return value


@asynccontextmanager
async def caller(runner: Runner, resume: str | None = None) -> AsyncIterator[Caller]:
    """Someone who has called."""
    someone = Caller(runner.url)
    await someone.dial(resume)
    try:
        yield someone
    finally:
        await someone.room.disconnect()


def simulated(new_data_dir: Callable[[], Path], *more: str) -> Runner:
    """A runner whose models are played: what is tried here is all around them."""
    return start_runner(
        new_data_dir(),
        "simulate=load",
        f"simulate.port={free_port()}",
        *(f"simulate.servers.{name}.port={free_port()}" for name in SERVERS),
        f'simulate.servers.vllm.answers=["{ANSWER}"]',
        f"agent.greeting={GREETING}",
        f"agent.back={BACK}",
        "rag=off",
        "stand_in.llm=null",
        "stand_in.speech=null",
        *more,
    )


@pytest.fixture(scope="module")
def runner(new_data_dir: Callable[[], Path]) -> Iterator[Runner]:
    running = simulated(new_data_dir)
    yield running
    running.stop()


def jobs(runner: Runner) -> list[psutil.Process]:
    """The processes of calls, known by the journal in the outbox that each has open."""
    outbox, found = str(runner.data_dir / "outbox"), []
    for child in psutil.Process(runner.process.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            if any(file.path.startswith(outbox) for file in child.open_files()):
                found.append(child)
    return found


def livekit_server(runner: Runner) -> psutil.Process:
    [server] = [
        child
        for child in psutil.Process(runner.process.pid).children(recursive=True)
        if "livekit-server" in child.name()
    ]
    return server


def prompts(runner: Runner) -> list[str]:
    """What the language model was asked last, all of its messages."""
    [port] = [one.partition("=")[2] for one in runner.overrides if "simulate.port=" in one]
    url = f"http://127.0.0.1:{port}/vllm/_simulator/log"
    with urllib.request.urlopen(url, timeout=10) as answer:
        asked: list[str] = json.load(answer)["requests"][-1]["asked"]
    return [text.partition(": ")[2] for text in asked]


def session(runner: Runner, room: str) -> list[str]:
    """What was said in the one session of a room, once that has ended."""
    ended = f"SELECT 1 FROM agent_sessions WHERE room_id = '{room}' AND status = 'ended'"
    runner.until(ended)
    [found] = runner.query("SELECT session_id FROM agent_sessions WHERE room_id = %s", room)
    said = runner.query(
        "SELECT content FROM conversation_messages WHERE session_id = %s ORDER BY created_at, id",
        found["session_id"],
    )
    return [str(row["content"]) for row in said]


async def conversed(someone: Caller, question: str, answers: int) -> None:
    """Asks, hears the answer to its end, which is so many answers by now."""
    await someone.ask(question)
    await someone.hears(ANSWER, answers)
    await someone.agent()


async def test_21_the_caller_of_a_killed_job_is_served_again_with_the_history(
    runner: Runner,
) -> None:
    async with caller(runner) as someone:
        await someone.hears(GREETING)
        await conversed(someone, "Does the first question count?", 1)
        [job] = jobs(runner)
        job.kill()
        await someone.hears(BACK)
        await conversed(someone, "And the second one?", 2)
        assert "Does the first question count?" in prompts(runner)
        room = someone.room.name
    assert session(runner, room) == [
        GREETING, "Does the first question count?", ANSWER, BACK, "And the second one?", ANSWER,
    ]  # fmt: skip


async def test_21_a_job_that_is_killed_over_a_question_leaves_it_to_the_next(
    runner: Runner,
) -> None:
    async with caller(runner) as someone:
        await someone.hears(GREETING)
        await someone.agent()
        await someone.ask("Is this answered?")
        runner.until("SELECT 1 FROM conversation_messages WHERE content = 'Is this answered?'")
        [job] = jobs(runner)
        job.kill()
        await someone.hears(ANSWER)
        room = someone.room.name
    said = session(runner, room)
    assert said[:2] == [GREETING, "Is this answered?"]
    assert BACK not in said


async def test_21_an_agent_that_dies_again_and_again_ends_the_call(runner: Runner) -> None:
    async with caller(runner) as someone:
        await someone.hears(GREETING)
        for _ in range(4):
            [job] = await until(lambda: jobs(runner))
            job.kill()
            job.wait(_PATIENCE_S)
        await asyncio.wait_for(someone.left.wait(), _PATIENCE_S)
        room = someone.room.name
    assert session(runner, room)[0] == GREETING


async def test_21_the_callers_of_a_killed_worker_are_served_by_another(
    runner: Runner,
) -> None:
    ports = [f"{key}={free_port()}" for key in ("web.port", "operator.port")]
    guest = start_runner(runner.data_dir, *runner.overrides, *ports)
    try:
        async with AsyncExitStack() as calls:
            callers = [await calls.enter_async_context(caller(runner)) for _ in range(6)]
            for someone in callers:
                await someone.hears(GREETING)
            assert jobs(guest), "the LiveKit server gave every call to one worker"
            guest.process.kill()
            served = len(jobs(runner))
            await until(lambda: len(jobs(runner)) == len(callers))
            assert served < len(callers)
            for someone in callers:
                await conversed(someone, "Who is there?", 1)
        await until(
            lambda: not runner.query("SELECT 1 FROM agent_sessions WHERE status = 'active'")
        )
        assert len(runner.query("SELECT 1 FROM workers")) == 1
    finally:
        guest.process.kill()


async def test_22_a_runner_that_is_told_to_end_lets_its_calls_end_in_peace(
    new_data_dir: Callable[[], Path],
) -> None:
    running = simulated(new_data_dir)
    try:
        async with caller(running) as someone:
            await someone.hears(GREETING)
            running.process.send_signal(signal.SIGTERM)
            await until(lambda: any("no new calls; 1 are on" in line for line in running.output))
            with pytest.raises(AssertionError, match="is being stopped and takes no new calls"):
                await Caller(running.url).dial()
            await conversed(someone, "Are you still there?", 1)
        assert running.process.wait(_PATIENCE_S) == 0
    finally:
        running.process.kill()


async def test_22_calls_that_go_on_for_too_long_are_ended(
    new_data_dir: Callable[[], Path],
) -> None:
    running = simulated(new_data_dir, "livekit.drain_s=1")
    try:
        async with caller(running) as someone:
            await someone.hears(GREETING)
            running.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(someone.left.wait(), _PATIENCE_S)
        assert running.process.wait(_PATIENCE_S) == 0
    finally:
        running.process.kill()


async def test_25_a_call_outlives_the_livekit_server(runner: Runner) -> None:
    async with caller(runner) as someone:
        await someone.hears(GREETING)
        await conversed(someone, "Does the first question count?", 1)
        livekit_server(runner).kill()
        await asyncio.wait_for(someone.cut_off.wait(), _PATIENCE_S)
        await asyncio.wait_for(someone.connected.wait(), _PATIENCE_S)
        await someone.agent()
        while sum(ANSWER in text for text in someone.read) < 2:
            with suppress(TimeoutError):  # what is sent before the agent is back is lost
                await asyncio.wait_for(conversed(someone, "And the second one?", 2), 5)
        assert "Does the first question count?" in prompts(runner)
        room = someone.room.name
    said = session(runner, room)
    assert said[:3] == [GREETING, "Does the first question count?", ANSWER]
    assert said[-2:] == ["And the second one?", ANSWER]


async def test_26_a_network_that_is_gone_for_five_seconds_costs_no_word(runner: Runner) -> None:
    async with caller(runner) as someone:
        await someone.hears(GREETING)
        await conversed(someone, "Does the first question count?", 1)
        server = livekit_server(runner)
        server.suspend()
        await asyncio.sleep(5)  # this is the fault itself
        server.resume()
        await conversed(someone, "And the second one?", 2)
        room = someone.room.name
    assert session(runner, room) == [
        GREETING, "Does the first question count?", ANSWER, "And the second one?", ANSWER,
    ]  # fmt: skip


async def test_27_the_same_identity_twice_is_one_agent_and_one_session(runner: Runner) -> None:
    async with caller(runner) as first:
        await first.hears(GREETING)
        await first.agent()
        async with caller(runner, resume=first.token) as second:
            await asyncio.wait_for(first.left.wait(), _PATIENCE_S)
            await second.agent()
            assert len(second.room.remote_participants) == 1
            await conversed(second, "Who is it?", 1)
            assert len(jobs(runner)) == 1
            room = second.room.name
    assert session(runner, room) == [GREETING, "Who is it?", ANSWER]


VANISHING = """
import asyncio, sys
from tests.faults.test_rescue import GREETING, Caller
from tests.calls.conftest import Runner

async def main():
    someone = Caller(sys.argv[1])
    await someone.dial()
    await someone.hears(GREETING)
    await someone.agent()
    print(someone.token, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_caller_who_was_lost_comes_back_to_the_same_session(runner: Runner) -> None:
    lost = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", VANISHING, runner.url), stdout=asyncio.subprocess.PIPE
    )
    assert lost.stdout
    token = (await lost.stdout.readline()).decode().strip()
    lost.kill()
    await lost.wait()
    async with caller(runner, resume=token) as again:
        await again.agent()
        await conversed(again, "Is it you?", 1)
        room = again.room.name
    assert session(runner, room) == [GREETING, "Is it you?", ANSWER]
