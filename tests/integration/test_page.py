"""The call page in a real Chromium: against a real LiveKit server, with an agent that is acted."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import jwt
import platformdirs
import pytest
import pytest_asyncio
from livekit import api, rtc
from playwright.async_api import Browser, Page, async_playwright, expect

from runner.config import LiveKit, Web
from runner.livekit_server import Keys, service
from runner.services import Supervisor
from runner.web import Access, start_page
from tests.chromium import CHROMIUM, FLAGS

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS = Keys("page-test", "a-secret-that-is-thirty-two-bytes")
READY_TIMEOUT_S = 30
PATIENCE_S = 30  # for what must come at all
STAND_IN = {
    "for": "LLM",
    "provider": "retrieval",
    "instead_of": ["vllm", "ollama"],
    "reason": "vLLM at http://localhost:8000/v1: connection refused",
}
ANSWER = "One word switches the <b>language</b> model."
TURN = {
    "role": "assistant",
    "text": ANSWER,
    "sources": [
        {
            "filename": "providers.md",
            "heading": "Switching",
            "quote": "Put <i>llm=ollama</i> behind the command.",
            "similarity": 0.81,
        }
    ],
    "served_by": {"stt": "embedded", "llm": "retrieval", "tts": "embedded"},
    "services": {"llm": {"failovers": [{"provider": "vllm", "reason": "cut"}]}},
    "stages_s": {"end_of_turn": 0.4, "stt": 0.1, "llm_ttft": 0.02, "tts_ttfb": 0.1, "e2e": 0.71},
}

expect.set_options(timeout=PATIENCE_S * 1000)


@dataclass
class Worker:
    """The worker's side of the page."""

    sentence: str | None = None

    def refusal(self, _: str) -> str | None:
        return self.sentence


async def status() -> dict[str, object]:
    return {"agent": "voice-agent", "stand_ins": [STAND_IN]}


@dataclass
class Visit:
    """A browser's tab with the page in it. ``complaints``: the console's errors and warnings."""

    tab: Page
    complaints: list[str] = field(default_factory=list)

    def part(self, name: str):
        return self.tab.get_by_test_id(name)

    async def call(self) -> dict[str, str]:
        """Press Call; the claims of the token that came."""
        async with self.tab.expect_response("**/api/token") as answer:
            await self.part("call").click()
        token = (await (await answer.value).json())["participant_token"]
        return jwt.decode(token, KEYS.api_secret, algorithms=["HS256"])


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(type=kind) as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def livekit() -> AsyncIterator[str]:
    """The address of a LiveKit server."""
    config = LiveKit(
        url=f"ws://127.0.0.1:{free_port()}",
        tcp_port=free_port(),
        udp_port=free_port(socket.SOCK_DGRAM),
        api_key_env="LIVEKIT_API_KEY",
        api_secret_env="LIVEKIT_API_SECRET",
        agent_name="voice-agent",
        drain_s=120,
        max_calls=1,
        idle_processes=0,
    )
    cache = Path(platformdirs.user_cache_dir("voice-agent-runner"))
    async with Supervisor(lambda *_: None, READY_TIMEOUT_S) as supervisor:
        await supervisor.start([service(config, KEYS, cache)])
        yield config.url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as browsers:
        running = await browsers.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        await running.close()


Open = Callable[..., AbstractAsyncContextManager[Visit]]


@pytest.fixture
def opened(browser: Browser) -> Open:
    return partial(visit, browser)


@asynccontextmanager
async def visit(
    browser: Browser,
    livekit: str,
    worker: Worker | None = None,
    before: str = "",
    tokens_per_minute: int = 30,
) -> AsyncIterator[Visit]:
    """The page, served and open. ``before``: JavaScript that runs ahead of the page's own."""
    config = Web("127.0.0.1", 0, tokens_per_minute, 600)
    access = Access(livekit, KEYS.api_key, KEYS.api_secret, "voice-agent", grace_s=30)
    server = await start_page(config, access, worker or Worker(), status)
    context = await browser.new_context()
    try:
        tab = await context.new_page()
        await tab.add_init_script(before)
        visit = Visit(tab)
        tab.on(
            "console",
            lambda entry: (
                visit.complaints.append(entry.text) if entry.type in ("error", "warning") else None
            ),
        )
        tab.on("pageerror", lambda error: visit.complaints.append(str(error)))
        await tab.goto(f"http://127.0.0.1:{server.addresses[0][1]}/")
        await expect(visit.part("standins")).to_contain_text(STAND_IN["reason"])
        yield visit
    finally:
        await context.close()
        await server.cleanup()


@dataclass
class Acted:
    """An agent's part in a call, acted."""

    room: rtc.Room
    caller: str

    async def be(self, state: str) -> None:
        await self.room.local_participant.set_attributes({"lk.agent.state": state})

    async def write(self, text: str, segment: str, of: str = "", final: str = "true") -> None:
        """A transcript's segment, word by word: of the agent, or of somebody else."""
        stream = await self.room.local_participant.stream_text(
            topic="lk.transcription",
            sender_identity=of or self.room.local_participant.identity,
            attributes={"lk.segment_id": segment, "lk.transcription_final": final},
        )
        for word in text.split(" "):
            await stream.write(f"{word} ")
        await stream.aclose()

    def event(self, name: str) -> Awaitable[None]:
        """Wait from now on until the room tells of ``name``."""
        came = asyncio.get_running_loop().create_future()
        self.room.once(name, lambda *_: came.set_result(None))
        return asyncio.wait_for(came, PATIENCE_S)

    def message(self) -> Awaitable[str]:
        """Wait from now on for what the caller types next."""
        typed = asyncio.get_running_loop().create_future()
        self.room.register_text_stream_handler(
            "lk.chat", lambda stream, _: typed.set_result(stream)
        )

        async def read() -> str:
            return await (await asyncio.wait_for(typed, PATIENCE_S)).read_all()

        return read()

    async def tell(self, turn: dict[str, object]) -> None:
        await self.room.local_participant.send_text(json.dumps(turn), topic="runner.turn")


@asynccontextmanager
async def joined(page: Visit, livekit: str, claims: dict) -> AsyncIterator[Acted]:
    """An agent in the caller's room, which the page knows of."""
    token = (
        api.AccessToken(KEYS.api_key, KEYS.api_secret)
        .with_identity("agent")
        .with_kind("agent")
        .with_grants(
            api.VideoGrants(
                room_join=True, room=claims["video"]["room"], can_update_own_metadata=True
            )
        )
        .to_jwt()
    )
    room = rtc.Room()
    await room.connect(livekit, token)
    try:
        agent = Acted(room, claims["sub"])
        await agent.be("listening")
        await expect(page.part("state")).to_have_text("Listening")
        yield agent
    finally:
        await room.disconnect()


async def test_the_page_lists_what_stands_in_and_its_policy_stops_nothing_of_it(opened, livekit):
    async with opened(livekit) as page:
        await expect(page.part("standins")).to_contain_text("retrieval instead of vllm, ollama")
        await expect(page.part("call")).to_be_enabled()
        assert page.complaints == []


async def test_a_call_that_the_worker_refuses_is_refused_in_its_words(opened, livekit):
    async with opened(livekit, Worker("All lines are busy. Call again in a minute.")) as page:
        await page.part("call").click()
        await expect(page.part("notice")).to_have_text(
            "All lines are busy. Call again in a minute."
        )
        await expect(page.part("call")).to_be_focused()


async def test_a_call_beyond_the_rate_is_told_when_to_try_again(opened, livekit):
    async with opened(livekit, tokens_per_minute=1) as page:
        await page.call()
        await page.part("hangup").click()
        await page.part("call").click()
        await expect(page.part("notice")).to_contain_text(re.compile(r"Try again in \d+ seconds"))


async def test_a_runner_that_is_gone_is_named_with_what_to_do(opened, livekit):
    async with opened(livekit) as page:
        await page.tab.route("**/api/token", lambda route: route.abort("connectionrefused"))
        await page.part("call").click()
        await expect(page.part("notice")).to_contain_text("Start it again with “make run”")


async def test_a_livekit_server_that_is_not_there_is_named_with_what_to_do(opened):
    async with opened(f"ws://127.0.0.1:{free_port()}") as page:
        await page.call()
        await expect(page.part("notice")).to_contain_text("The LiveKit server cannot be reached")
        await expect(page.part("notice")).to_contain_text("task=doctor")


async def test_a_call_that_no_agent_takes_says_so_until_one_comes_and_when_it_leaves(
    opened, livekit
):
    async with opened(livekit) as page:
        claims = await page.call()
        await expect(page.part("notice")).to_contain_text("No agent has joined")
        async with joined(page, livekit, claims):
            await expect(page.part("notice")).to_be_empty()
        await expect(page.part("notice")).to_contain_text("The agent has left")


async def test_both_sides_are_shown_as_text_with_the_source_of_an_answer(opened, livekit):
    async with opened(livekit) as page:
        claims = await page.call()
        async with joined(page, livekit, claims) as agent:
            for state in ("thinking", "speaking"):
                await agent.be(state)
                await expect(page.part("state")).to_have_text(state.capitalize())
            lines = page.part("transcript").get_by_role("listitem")
            await agent.write("How do I", "first", of=agent.caller, final="false")
            await expect(lines).to_contain_text(["How do I"])
            await agent.write(ANSWER, "second")
            await expect(lines).to_contain_text(["How do I", ANSWER])
            await agent.write("How do I <u>switch</u>?", "first", of=agent.caller)
            await agent.tell(TURN)
            await expect(lines).to_contain_text(["How do I <u>switch</u>?", ANSWER])
            await expect(lines.nth(0)).to_have_attribute("data-role", "user")
            await expect(lines.nth(1)).to_have_attribute("data-role", "assistant")
            await expect(lines.nth(1)).to_contain_text(
                "answered by retrieval in 0.7 s, after vllm (cut)"
            )
            await page.part("sources").locator("summary").click()
            await expect(page.part("sources")).to_contain_text(TURN["sources"][0]["quote"])
        await page.part("hangup").click()
        await expect(page.part("call")).to_be_visible()
        await expect(page.part("transcript")).to_contain_text(ANSWER)
        assert page.complaints == []


async def test_a_call_that_is_ended_at_the_other_side_leaves_its_transcript(opened, livekit):
    async with opened(livekit) as page:
        claims = await page.call()
        async with joined(page, livekit, claims) as agent:
            await agent.write("Goodbye!", "first")
            await expect(page.part("transcript")).to_contain_text("Goodbye!")
            async with api.LiveKitAPI(livekit, KEYS.api_key, KEYS.api_secret) as server:
                await server.room.delete_room(api.DeleteRoomRequest(room=agent.room.name))
            await expect(page.part("notice")).to_contain_text("ended at the other side")
            await expect(page.part("transcript")).to_contain_text("Goodbye!")


async def test_an_answer_that_could_not_be_spoken_can_be_read(opened, livekit):
    async with opened(livekit) as page:
        claims = await page.call()
        async with joined(page, livekit, claims) as agent:
            await agent.write("Hello!", "greeting")
            await agent.tell(TURN)
            lines = page.part("transcript").get_by_role("listitem")
            await expect(lines).to_contain_text(["Hello!", ANSWER])
            await expect(lines.nth(1).get_by_test_id("sources")).to_be_visible()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("NotAllowedError", "The microphone is blocked"),
        ("NotFoundError", "No microphone was found"),
        ("NotReadableError", "in use by another program"),
    ],
)
async def test_without_a_microphone_the_page_says_why_and_takes_text(
    opened, livekit, error, sentence
):
    refuse = (
        "navigator.mediaDevices.getUserMedia = async () => "
        f"{{ throw new DOMException('', '{error}') }}"
    )
    async with opened(livekit, before=refuse) as page:
        claims = await page.call()
        async with joined(page, livekit, claims) as agent:
            typed = agent.message()
            await expect(page.part("notice")).to_contain_text(sentence)
            await page.part("chat-input").fill("Which models are there?")
            await page.tab.keyboard.press("Enter")
            assert await typed == "Which models are there?"
            await expect(page.part("transcript")).to_contain_text("Which models are there?")


async def test_the_microphone_is_silent_to_the_room_while_muted(opened, livekit):
    async with opened(livekit) as page:
        claims = await page.call()
        async with joined(page, livekit, claims) as agent:
            await expect(page.part("mute")).to_have_text("Mute")
            muted, unmuted = agent.event("track_muted"), agent.event("track_unmuted")
            await page.part("mute").click()
            await muted
            await expect(page.part("mute")).to_have_text("Unmute")
            await page.part("mute").click()
            await unmuted
            await expect(page.part("mute")).to_have_text("Mute")
