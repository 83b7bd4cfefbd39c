"""A caller without a room: a real AgentSession and real chains, over sockets to simulated servers.

Time is real, but for playback: the caller's ear may hear faster than that.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
from livekit import rtc
from livekit.agents import Agent, AgentSession, ConversationItemAddedEvent, llm
from livekit.agents.voice import io
from pydantic_core import to_json

from runner import build
from runner.agent import VoiceAgent
from runner.config import Config, Fault
from runner.conversation import agent_session
from runner.metrics import Metrics
from runner.rag.embedding import Embedder
from runner.simulator.server import Simulator
from runner.switchboard import Switchboard
from tests.composed import composed as compose
from tests.ports import free_port

ANSWER = "It opens at nine in the morning, and on Sunday it stays shut. Bring your card along."
QUESTION = "When does the library open?"
_PACE = 20.0  # so many seconds of speech are heard in one
_MIC_RATE_HZ = 16_000
_FRAME_S = 0.02
_END_OF_SPEECH_S = 1.5
_SERVERS = ("vllm", "ollama", "openrouter", "speaches_gpu", "speaches_cpu")


def composed(*overrides: str) -> Config:
    """Everything simulated, on free ports, with one short answer; nothing stands in."""
    given = [
        "simulate=load",
        f"simulate.port={free_port()}",
        *(f"simulate.servers.{name}.port={free_port()}" for name in _SERVERS),
        f'simulate.servers.vllm.answers=["{ANSWER}"]',
        "stand_in.llm=null",
        "stand_in.speech=null",
        "failover.backoff_s=0.01",
        *(f"++simulate.servers.{name}.first_s=0.02" for name in _SERVERS),
        *(f"++simulate.servers.{name}.per_token_s=0.002" for name in _SERVERS),
        *(f"++simulate.servers.{name}.realtime_factor=0.01" for name in _SERVERS[-2:]),
        *overrides,
    ]
    return compose(*given)


class Ear(io.AudioOutput):
    """Plays what it is given in the time that it takes, and notes where it ran dry."""

    def __init__(self, pace: float) -> None:
        super().__init__(label="ear", capabilities=io.AudioOutputCapabilities(pause=False))
        self.pace = pace
        self.heard: list[np.ndarray[Any, Any]] = []
        self.first_at: float | None = None
        self.gaps_s: list[float] = []
        self._ends_at = 0.0
        self._position_s = 0.0
        self._finish: asyncio.TimerHandle | None = None

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        now = time.monotonic()
        if self._position_s == 0:
            self.first_at = self.first_at or now
            self.on_playback_started(created_at=time.time())
        elif now > self._ends_at:
            self.gaps_s.append(now - self._ends_at)
        self._ends_at = max(now, self._ends_at) + frame.duration / self.pace
        self._position_s += frame.duration
        self.heard.append(np.frombuffer(frame.data, np.int16))

    def flush(self) -> None:
        super().flush()
        if self._position_s and self._finish is None:
            wait = max(self._ends_at - time.monotonic(), 0)
            self._finish = asyncio.get_running_loop().call_later(wait, self._finished, False)

    def clear_buffer(self) -> None:
        if self._finish is not None:
            self._finish.cancel()
        if self._position_s:
            self._finished(interrupted=True)

    def _finished(self, interrupted: bool) -> None:
        position, self._position_s, self._finish = self._position_s, 0.0, None
        self.on_playback_finished(playback_position=position, interrupted=interrupted)


class Mic(io.AudioInput):
    """Silence, and what the caller says, in real time."""

    def __init__(self) -> None:
        super().__init__(label="mic")
        self._voice: list[np.ndarray[Any, Any]] = []
        self._next_at = 0.0

    def say(self, samples: np.ndarray[Any, Any]) -> None:
        """Says 16-bit samples at 16 kHz, from now on."""
        size = int(_MIC_RATE_HZ * _FRAME_S)
        self._voice += [samples[at : at + size] for at in range(0, len(samples) - size, size)]

    @property
    def speaks(self) -> bool:
        """Whether the caller has not said everything yet."""
        return bool(self._voice)

    async def __anext__(self) -> rtc.AudioFrame:
        self._next_at = max(self._next_at + _FRAME_S, time.monotonic() - 1)
        await asyncio.sleep(max(self._next_at - time.monotonic(), 0))
        size = int(_MIC_RATE_HZ * _FRAME_S)
        samples = self._voice.pop(0) if self._voice else np.zeros(size, np.int16)
        return rtc.AudioFrame(samples.tobytes(), _MIC_RATE_HZ, 1, size)


@dataclass
class Talk:
    """A conversation that was begun."""

    config: Config
    simulator: Simulator
    switchboard: Switchboard
    metrics: Metrics
    session: AgentSession[None]
    ear: Ear
    mic: Mic
    messages: list[llm.ChatMessage] = field(default_factory=list)

    def note(self, event: ConversationItemAddedEvent) -> None:
        """Keeps what is said."""
        if isinstance(event.item, llm.ChatMessage):
            self.messages.append(event.item)

    async def ask(self, text: str = QUESTION) -> str:
        """Asks in writing; the answer as it is kept, once it was heard."""
        count = len(self.messages)
        await self.session.run(user_input=text)
        return " ".join(
            message.text_content or ""
            for message in self.messages[count:]
            if message.role == "assistant"
        )

    async def until(self, role: str, count: int = 1) -> str:
        """Waits for so many messages of ``role``; the last of them."""
        async with asyncio.timeout(60):
            while len(said := self._said_by(role)) < count:  # noqa: ASYNC110  LiveKit says so
                await asyncio.sleep(0.01)
        return said[-1]

    def _said_by(self, role: str) -> list[str]:
        return [message.text_content or "" for message in self.messages if message.role == role]

    async def fail(self, server: str, *faults: Fault) -> None:
        """From now on ``server`` does this; its port is open or closed by then."""
        url = f"{self.simulator.control_url}/{server}/_simulator/faults"
        async with aiohttp.request("POST", url, data=to_json(faults)) as response:
            assert response.status == 200, await response.text()

    def service(self) -> dict[str, Any]:
        """The record of the latest answer's LLM."""
        return self.messages[-1].extra["service"]

    def requests(self, server: str) -> list[Any]:
        """What a server was asked, but for probes."""
        return [
            entry
            for entry in self.simulator.states[server].journal.entries
            if not any("Hi" in asked or asked == PROBE_WORD for asked in entry.asked)
        ]

    def spoken(self) -> str:
        """Every text that a voice was given, in order, with single spaces."""
        entries = [
            entry
            for name in ("speaches_gpu", "speaches_cpu")
            for entry in self.requests(name)
            if entry.path.endswith("/speech")
        ]
        texts = [" ".join(entry.asked) for entry in sorted(entries, key=lambda entry: entry.begin)]
        return re.sub(r"\s+", " ", " ".join(texts)).strip()


PROBE_WORD = "Yes."


@asynccontextmanager
async def simulator_of(settings: Config) -> AsyncIterator[Simulator]:
    """The simulated servers of a configuration, in this process."""
    assert settings.simulate
    async with Simulator(settings.simulate) as simulator:
        yield simulator


@asynccontextmanager
async def talk(
    *overrides: str,
    agent: Agent | None = None,
    pace: float = _PACE,
    hears: bool = False,
    keeps: bool = False,
    beside: Talk | None = None,
) -> AsyncIterator[Talk]:
    """A conversation; ``beside`` another, with whom it shares servers and switchboard. ``hears``:
    the caller has a microphone. ``keeps``: the sound of what is always the same is kept."""
    async with AsyncExitStack() as stack:
        settings = beside.config if beside else composed(*overrides)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        if beside:
            simulator, switchboard, metrics = beside.simulator, beside.switchboard, beside.metrics
        else:
            simulator = await stack.enter_async_context(simulator_of(settings))
            metrics = Metrics()
            switchboard = await stack.enter_async_context(
                build.switchboard(settings, http, metrics)
            )
        embedder = Embedder(settings.rag.embedding_url, settings.rag.embedding_model)
        kept = await build.kept(settings, settings.agent.greeting) if keeps else None
        session = agent_session(settings, switchboard, http, nothing, embedder.embed, kept)
        ear, mic = Ear(pace), Mic()
        session.input.audio, session.output.audio = mic if hears else None, ear
        if not hears:  # no last words are on their way
            session.options.session_close_transcript_timeout = 0
        talk = Talk(settings, simulator, switchboard, metrics, session, ear, mic)
        session.on("conversation_item_added", talk.note)
        persona = agent or VoiceAgent(
            instructions="Be brief.",
            search=None,
            apology=settings.agent.apology,
        )
        await session.start(persona, record=False, session_host=False)
        stack.push_async_callback(session.aclose)
        yield talk


async def nothing(_: object) -> list[Any]:
    """A search that finds nothing."""
    return []
