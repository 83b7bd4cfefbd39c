"""Calls in processes of their own share the permits and breakers of their worker."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from runner.breaker import State
from runner.calls import Caller, Calls, Told
from runner.config import Breaker as Settings
from runner.line import connect, open_switchboard
from runner.metrics import Metrics
from runner.outcome import Key, Outcome
from runner.providers.failure import Reason
from runner.switchboard import Switchboard

VLLM: Key = ("LLM", "vllm")
CALL = """
import asyncio, pathlib, sys
from runner.line import connect

async def main():
    line = await connect(pathlib.Path(sys.argv[1]))
    line.begin("call-1")
    async with line.permit():
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def silent(_: Key) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def lost() -> list[str]:
    """The rooms of calls that died."""
    return []


@pytest.fixture
async def switchboard(tmp_path: Path, lost: list[str]) -> AsyncIterator[Switchboard]:
    settings = Settings(failures=1, window_s=30, probe_after_s=60, probe_longest_s=60)
    board = Switchboard(1, settings, silent, Metrics())
    async with board, open_switchboard(board, Calls(), tmp_path / "switchboard", lost.append):
        yield board


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  another process or task makes it so
            await asyncio.sleep(0.001)


async def test_a_permit_is_held_and_given_back(switchboard: Switchboard, tmp_path: Path) -> None:
    line = await connect(tmp_path / "switchboard")
    async with line.permit() as waited_s:
        assert switchboard.in_flight == 1
        assert waited_s > 0
    await until(lambda: switchboard.in_flight == 0)
    await line.aclose()


async def test_the_permits_of_a_killed_call_are_free(
    switchboard: Switchboard, tmp_path: Path
) -> None:
    path = tmp_path / "switchboard"
    call = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CALL, str(path), stdout=asyncio.subprocess.PIPE
    )
    assert call.stdout
    assert await call.stdout.readline() == b"held\n"
    line = await connect(path)
    async with AsyncExitStack() as held:
        waiting = asyncio.create_task(held.enter_async_context(line.permit()))
        await until(lambda: switchboard.waiting == 1)
        call.kill()
        await waiting
        assert (switchboard.in_flight, switchboard.waiting) == (1, 0)
    await call.wait()
    await line.aclose()
    await until(lambda: switchboard.in_flight == 0)


async def test_a_call_that_dies_is_told_and_one_that_is_over_is_not(
    switchboard: Switchboard, tmp_path: Path, lost: list[str]
) -> None:
    path = tmp_path / "switchboard"
    ended = await connect(path)
    ended.begin("call-0")
    await ended.aclose()
    call = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CALL, str(path), stdout=asyncio.subprocess.PIPE
    )
    assert call.stdout
    await call.stdout.readline()
    call.kill()
    await call.wait()
    await until(lambda: bool(lost))
    assert lost == ["call-1"]


async def test_a_worker_that_ends_misses_none_of_its_calls(tmp_path: Path) -> None:
    settings = Settings(failures=1, window_s=30, probe_after_s=60, probe_longest_s=60)
    path, missed = tmp_path / "switchboard", list[str]()
    board = Switchboard(1, settings, silent, Metrics())
    async with open_switchboard(board, Calls(), path, missed.append):
        line = await connect(path)
        line.begin("call-1")
        async with line.permit():
            await until(lambda: board.in_flight == 1)
    await line.aclose()
    assert missed == []


async def test_one_who_hangs_up_while_waiting_leaves_the_line(
    switchboard: Switchboard, tmp_path: Path
) -> None:
    path = tmp_path / "switchboard"
    holder, waiter = await connect(path), await connect(path)
    async with holder.permit():
        waiting = asyncio.create_task(waiter.permit().__aenter__())
        await until(lambda: switchboard.waiting == 1)
        waiting.cancel()
        await until(lambda: switchboard.waiting == 0)
    await until(lambda: switchboard.in_flight == 0)
    await asyncio.gather(holder.aclose(), waiter.aclose())


async def test_what_one_call_learns_all_calls_know(
    switchboard: Switchboard, tmp_path: Path
) -> None:
    path = tmp_path / "switchboard"
    one, other = await connect(path), await connect(path)
    one.report(Outcome(VLLM, Reason.SILENT))
    await until(lambda: other.state(VLLM) is State.OPEN)
    late = await connect(path)
    await until(lambda: late.state(VLLM) is State.OPEN)
    other.missed_search()
    other.report(Outcome(VLLM, instead_of=(("ollama", Reason.CUT),)))
    await until(lambda: one.state(VLLM) is State.CLOSED)
    await asyncio.gather(one.aclose(), other.aclose(), late.aclose())


async def test_a_call_whose_worker_is_gone_is_not_held_up(tmp_path: Path) -> None:
    settings = Settings(failures=1, window_s=30, probe_after_s=60, probe_longest_s=60)
    path = tmp_path / "switchboard"
    board = Switchboard(1, settings, silent, Metrics())
    async with AsyncExitStack() as held:
        async with open_switchboard(board, Calls(), path, lambda _: None):
            line, holder = await connect(path), await connect(path)
            await held.enter_async_context(holder.permit())
            waiting = asyncio.create_task(held.enter_async_context(line.permit()))
            await until(lambda: board.waiting == 1)
        await waiting
        await held.enter_async_context(line.permit())
    await asyncio.gather(holder.aclose(), line.aclose())


async def test_a_call_tells_of_itself_until_it_is_over(tmp_path: Path) -> None:
    settings = Settings(failures=1, window_s=30, probe_after_s=60, probe_longest_s=60)
    path, heard = tmp_path / "switchboard", list[Told]()
    calls = Calls(lambda _, told: heard.append(told))
    board = Switchboard(1, settings, silent, Metrics())
    async with open_switchboard(board, calls, path, lambda _: None):
        line = await connect(path)
        line.begin("call-1")
        line.introduce(Caller("a-session", "caller-1", "vllm", "de"))
        line.be("thinking")
        line.turn(json.dumps({"role": "user", "text": "Grüß Gott"}))
        line.turn(json.dumps({"role": "user", "text": "ß" * 2**20}))  # too long to be told
        line.turn(json.dumps({"role": "user", "text": "\N{GRINNING FACE}" * 10_000}))
        await until(lambda: len(heard) == 2)
        (call,) = calls
        assert (call.who.caller, call.state) == ("caller-1", "thinking")
        assert heard[0] == {"role": "user", "text": "Grüß Gott"}
        await line.aclose()
        await until(lambda: len(calls) == 0)


async def test_a_call_tells_what_is_being_said_while_somebody_listens(tmp_path: Path) -> None:
    settings = Settings(failures=1, window_s=30, probe_after_s=60, probe_longest_s=60)
    calls, path = Calls(), tmp_path / "switchboard"
    board = Switchboard(1, settings, silent, Metrics())
    async with open_switchboard(board, calls, path, lambda _: None):
        line = await connect(path)
        line.caption("user", "Nobody hears it")
        line.begin("call-1")
        await until(lambda: len(calls) == 1)
        with calls.captions("call-1") as heard:
            await until(lambda: line._listened)
            line.caption("user", "x" * 2**20)  # too long to be told
            line.caption("user", "Grüß")
            told = await heard.get()
        assert told == {"role": "user", "text": "Grüß", "interim": True}
        await until(lambda: not line._listened)
        await line.aclose()


async def test_what_is_switched_off_no_call_asks(switchboard: Switchboard, tmp_path: Path) -> None:
    line = await connect(tmp_path / "switchboard")
    switchboard.switch(VLLM, off=True)
    await until(lambda: line.state(VLLM) is State.OFF)
    line.report(Outcome(VLLM, instead_of=(("ollama", Reason.CUT),)))  # one that was on its way
    await until(lambda: switchboard.tally(VLLM).requests == 1)
    assert switchboard.state(VLLM) is State.OFF
    switchboard.switch(VLLM, off=False)
    await until(lambda: line.state(VLLM) is State.CLOSED)
    await line.aclose()
