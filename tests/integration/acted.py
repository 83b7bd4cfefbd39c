"""The call page in a real Chromium, with an agent that is acted in a real LiveKit room."""

import asyncio
import json
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
from tests.ports import free_port

KEYS = Keys("page-test", "a-secret-that-is-thirty-two-bytes")
READY_TIMEOUT_S = 30
PATIENCE_S = 30  # for what must come at all
STAND_IN = {
    "for": "LLM",
    "provider": "retrieval",
    "instead_of": ["vllm", "ollama"],
    "reason": "vLLM at http://localhost:8000/v1: connection refused",
}
STATUS = {"agent": "voice-agent", "stand_ins": [STAND_IN], "languages": ["en", "de"]}
ANSWER = "One word switches the <b>language</b> model."
TURN = {
    "role": "assistant",
    "text": ANSWER,
    "sources": [
        {
            "filename": "providers.md",
            "heading": "Switching",
            "quote": "Put <i>llm=ollama</i> behind the command.",
            "passage": "A provider is an option. Put <i>llm=ollama</i> behind the command.",
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def livekit() -> AsyncIterator[str]:
    """The address of a LiveKit server."""
    config = LiveKit(
        url=f"ws://127.0.0.1:{free_port()}",
        tcp_port=free_port(),
        udp_port=free_port(),
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
    """A Chromium whose microphone is pretended."""
    async with async_playwright() as browsers:
        running = await browsers.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        await running.close()


@asynccontextmanager
async def visit(
    browser: Browser,
    livekit: str,
    worker: Worker | None = None,
    before: str = "",
    tokens_per_minute: int = 30,
    **status: object,
) -> AsyncIterator[Visit]:
    """The page, served and open. ``before``: JavaScript that runs ahead of the page's own;
    ``status``: what ``GET /api/status`` answers otherwise."""
    answer = STATUS | status

    async def answered() -> dict[str, object]:
        return answer

    config = Web("127.0.0.1", 0, tokens_per_minute, 600)
    access = Access(livekit, KEYS.api_key, KEYS.api_secret, "voice-agent", grace_s=30)
    server = await start_page(config, access, worker or Worker(), answered)
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
        await expect(visit.part("standins")).to_contain_text("connection refused")
        yield visit
    finally:
        await context.close()
        await server.cleanup()


@pytest.fixture
def opened(browser: Browser) -> Callable[..., AbstractAsyncContextManager[Visit]]:
    """`visit` with the browser."""
    return partial(visit, browser)


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
