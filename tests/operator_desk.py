"""An operator's port with much behind it: calls, sessions, documents, an hour of turns."""

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from aiohttp import web
from hydra import compose, initialize_config_dir
from psycopg.types.json import Jsonb
from sqlalchemy.ext.asyncio import AsyncEngine

from runner import config
from runner.calls import Call, Caller, Calls
from runner.config import Breaker, Config
from runner.doctor import Line, State
from runner.folders import RESOURCES
from runner.gauges import Seen
from runner.indexing import Indexing
from runner.metrics import Metrics
from runner.operator.api import Office, operator_api
from runner.origins import Composition
from runner.outcome import Outcome
from runner.providers.failure import Reason
from runner.rag.search import Search
from runner.switchboard import Switchboard
from runner.timeline import Timeline
from tests.ports import free_port

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
SESSION = "0d1c5f0e-8a64-4a36-9d3a-52f0a1c1a001"
SESSIONS = 60  # more than a page
SCAN = "It holds pictures of text, and no text. Save it with its text recognised."
SEED = Path(__file__).with_name("operator_desk.sql")
LINES = [
    Line("database", State.OK, "PostgreSQL 18.1 with pgvector, 1.2 ms", vital=True),
    Line("LLM vllm", State.OK, "first word after 0.14 s"),
    Line("LLM ollama", State.BROKEN, "http://localhost:11434/v1: connection refused",
         "Start it (ollama serve), or take it out of failover.order."),
    Line("STT embedded", State.STAND_IN, "Whisper tiny.en stands in for Speaches"),
    Line("search", State.SLOW, "61 ms over 600,000 chunks", "Raise rag.deadline_ms."),
]  # fmt: skip


def answer(e2e: float, *failed: str, text: str = "You can return them within thirty days.") -> Any:
    """A turn as a call tells it. ``failed``: LLMs that were asked before."""
    served = "ollama" if failed else "vllm"
    return {
        "role": "assistant",
        "text": text,
        "interrupted": False,
        "sources": [
            {
                "filename": "returns.pdf",
                "heading": "Returns",
                "quote": "Goods can be returned within thirty days.",
                "similarity": 0.74,
            }
        ],
        "served_by": {"stt": "embedded", "llm": served, "tts": "embedded"},
        "services": {
            "llm": {
                "provider": served,
                "model": "a-model",
                "failovers": [{"provider": name, "reason": "cut"} for name in failed],
                "tokens": {"prompt": 640, "completion": 52},
            }
        },
        "stages_s": {
            "stt": 0.21,
            "end_of_turn": 0.4,
            "retrieval": 0.02,
            "llm_ttft": round(e2e - 0.56, 2),
            "tts_ttfb": 0.14,
            "e2e": e2e,
        },
    }


class Rooms:
    """Remembers which were closed, and that the calls in them are over."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.closed: list[str] = []

    async def close(self, room: str) -> None:
        self.closed.append(room)
        if call := self._calls.get(room):
            self._calls.end(call)


class Embedder:
    """Everything means the same to it."""

    async def embed(self, texts: list[str]) -> list[list[float]]:
        return [[0.1] * 384 for _ in texts]


@dataclass
class Desk:
    """What the operator sees."""

    office: Office
    calls: Calls
    rooms: Rooms
    folder: Path

    @property
    def url(self) -> str:
        """Where."""
        return f"http://127.0.0.1:{self.office.config.operator.port}"

    @asynccontextmanager
    async def served(self) -> AsyncIterator[web.AppRunner]:
        """The page and its API."""
        async with operator_api(self.office) as site:
            yield site

    def call(self, room: str, caller: str, provider: str = "vllm", session: str = SESSION) -> Call:
        """A call that begins."""
        call = self.calls.begin(room)
        self.calls.introduce(call, Caller(session, caller, provider, "en"))
        self.calls.be(call, "listening")
        return call


def desk(engine: AsyncEngine, folder: Path) -> Desk:
    """One without calls."""
    changed = _config(folder)
    metrics, timeline = Metrics(), _hour()
    calls = Calls(timeline.turn)
    rooms = Rooms(calls)

    async def examine() -> list[Line]:
        return LINES

    async def probe(key: object) -> None:
        raise AssertionError(f"{key} was probed")

    switchboard = Switchboard(20, Breaker(1, 3600, 3600, 3600), probe, metrics)
    for _ in range(40):
        switchboard.report(Outcome(("LLM", "vllm")))
    switchboard.report(Outcome(("LLM", "ollama"), Reason.UNREACHABLE))
    office = Office(
        config=changed,
        engine=engine,
        rooms=rooms,
        switchboard=switchboard,
        seen=Seen(calls, metrics, timeline),
        indexing=Indexing(changed, None, lambda *_: None),
        search=Search(engine, Embedder(), changed.rag),
        examine=examine,
        composition=Composition(("rag.top_k=3",), {"llm": "vllm"}, ()),
    )
    return Desk(office, calls, rooms, folder)


def fill(connection: psycopg.Connection, folder: Path) -> None:
    """Sessions, documents and what failed, as a runner leaves them."""
    for name in ("faq.md", "returns.pdf", "scan-2019.pdf"):
        (folder / name).write_bytes(b"x" * 20_000)
    connection.execute(
        SEED.read_text("utf-8"),
        {
            "sessions": SESSIONS,
            "session": SESSION,
            "hostile": HOSTILE,
            "metadata": Jsonb(answer(1.62, "vllm")),
            "scan": SCAN,
        },
    )


def _config(folder: Path) -> Config:
    with initialize_config_dir(str(RESOURCES / "conf"), version_base="1.3"):
        found = config.load(compose("config"))
    return replace(
        found,
        rag=replace(found.rag, docs_dir=str(folder), min_similarity=-1.0),
        operator=replace(found.operator, port=free_port()),
    )


def _hour() -> Timeline:
    """An hour with turns, a few of them slow, and a minute in which a provider failed."""
    now = [time.time()]
    timeline = Timeline(lambda: now[0])
    call = Call("call-of-the-past")
    for step in range(240, 0, -1):
        now[0] = time.time() - 15 * step
        for turn in range(2 + round(2 * math.sin(step / 30))):
            slow = 0.25 * (1 + math.sin(step / 17)) * turn / 3
            timeline.turn(call, answer(0.68 + slow, *(["vllm"] if step in (90, 91) else [])))
        timeline.wait(2 if step == 90 else 0)
    now[0] = time.time()
    return timeline
