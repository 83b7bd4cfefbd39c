"""What it costs to store what is said: on the audio path, through to the row, rows a second.

    .venv/bin/python benchmarks/store.py           # all three
    .venv/bin/python benchmarks/store.py latency   # on the audio path and to the row, 20 calls
    .venv/bin/python benchmarks/store.py rows      # rows a second, against single inserts

It starts a PostgreSQL of its own. Each call has a Recorder, an Outbox and a pool, as in the runner,
but all of them share one process here; the metadata is an answer's with five sources.
"""

import asyncio
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from livekit.agents import ConversationItemAddedEvent, llm
from psycopg.types.json import Jsonb
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

sys.path.insert(0, str(Path(__file__).parents[1]))

from runner import database
from runner.config import Config
from runner.outbox import Entry, Outbox
from runner.rag.search import Hit
from runner.record import Attempt, Record
from runner.sessions import Recorder, UserSession
from runner.store import Store
from runner.tables import AgentSession, ConversationMessage
from tests.faults.own_postgres import own_postgres
from tests.faults.talk import composed

CALLS = 20
SAID = "The library opens at nine in the morning and closes at six in the evening. " * 2
RATES = {"a message a second": (1.0, 30), "10 messages a second": (10.0, 200)}  # a call; messages
ROWS = 900  # a call; its outbox holds 1000 entries in memory


class TimedStore(Store):
    """Notes when each message was stored."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self.stored_at: dict[uuid.UUID, float] = {}

    async def add_message(self, session_id: uuid.UUID, message_id: uuid.UUID, **said: Any) -> None:
        await super().add_message(session_id, message_id, **said)
        self.stored_at[message_id] = time.perf_counter()


class TimedOutbox(Outbox):
    """Notes when each message was put, and how long that took."""

    def __init__(self, store: Store, path: Path) -> None:
        super().__init__(store, path)
        self.put_at: dict[uuid.UUID, float] = {}
        self.took_s: list[float] = []

    def put(self, entry: Entry) -> None:
        began = time.perf_counter()
        super().put(entry)
        self.took_s.append(time.perf_counter() - began)
        self.put_at[uuid.UUID(entry.id)] = began


class TimedRecorder(Recorder):
    """Notes how long each message took, in the session's hands and after it."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.took_s: list[float] = []
        self.later_s: list[float] = []

    def on_item(self, event: ConversationItemAddedEvent) -> None:
        began = time.perf_counter()
        super().on_item(event)
        self.took_s.append(time.perf_counter() - began)

    def _keep(self, message: llm.ChatMessage) -> None:
        began = time.perf_counter()
        super()._keep(message)
        self.later_s.append(time.perf_counter() - began)


class Call:
    """One of twenty."""

    def __init__(self, engine: AsyncEngine, folder: Path) -> None:
        self.user = UserSession("room", "caller", "vllm")
        self.store = TimedStore(engine)
        self.outbox = TimedOutbox(self.store, folder / f"{self.user.session_id}.jsonl")
        self.recorder = TimedRecorder(self.user, self.outbox, lambda: {"stt": HEARD}, _unread)
        opening = asdict(self.user.opening({}))
        self.outbox.put(Entry("open", str(self.user.session_id), opening))

    async def talk(self, rate: float, messages: int) -> None:
        """So many messages at so many a second."""
        begins = time.perf_counter()
        for number in range(messages):
            await asyncio.sleep(max(begins + number / rate - time.perf_counter(), 0))
            self.recorder.on_item(answer(number))

    def to_row_s(self) -> list[float]:
        """How long each message took from `put` to its row."""
        stored = self.store.stored_at
        return [stored[key] - at for key, at in self.outbox.put_at.items() if key in stored]

    async def aclose(self) -> None:
        await self.recorder.aclose()
        await self.outbox.aclose()


HEARD = Record([Attempt("speaches_gpu", "whisper", 0.2, None)], speaker="speaches_gpu")
SERVED = Record([Attempt("vllm", "llama", 0.3, None)], speaker="vllm", tokens={"prompt": 812})
HITS = [Hit("library.md", n, "Opening hours", SAID * 6, 0.8) for n in range(5)]


def answer(number: int) -> ConversationItemAddedEvent:
    """An answer as a session emits it."""
    metrics: Any = {"llm_node_ttft": 0.1, "tts_node_ttfb": 0.2, "e2e_latency": 0.7}
    message = llm.ChatMessage(role="assistant", content=[f"{number} {SAID}"], metrics=metrics)
    message.extra = {"passages": HITS, "service": SERVED.metadata()}
    return ConversationItemAddedEvent(item=message)


async def _unread(_: str) -> None:
    """A page that takes every line."""


@asynccontextmanager
async def engines(config: Config, socket: str, count: int) -> AsyncIterator[list[AsyncEngine]]:
    """Pools as calls have them, their connections open."""
    async with AsyncExitStack() as stack:
        pools = []
        for _ in range(count):
            pool = database.engine(
                config.database, socket, pool_size=2, application_name="benchmark"
            )
            stack.push_async_callback(pool.dispose)
            await database.warm(pool, 2)
            pools.append(pool)
        yield pools


async def latency(config: Config, socket: str, folder: Path) -> None:
    """On the audio path, and through to the row."""
    heads = ("on_item", "then, on the loop", "put", "to the row")
    print(f"{'20 calls, ms p50 / p95 / p99':<29}" + "".join(f"{head:>24}" for head in heads))
    for name, (rate, messages) in RATES.items():
        async with engines(config, socket, CALLS) as pools:
            calls = [Call(pool, folder) for pool in pools]
            await asyncio.sleep(0.5)
            talks = [_staggered(n, call, rate, messages) for n, call in enumerate(calls)]
            await asyncio.gather(*talks)
            await asyncio.gather(*(call.aclose() for call in calls))
        figures = [
            [took for call in calls for took in call.recorder.took_s],
            [took for call in calls for took in call.recorder.later_s],
            [took for call in calls for took in call.outbox.took_s],
            [took for call in calls for took in call.to_row_s()],
        ]
        assert len(figures[-1]) == CALLS * messages
        print(f"{name:<29}" + "".join(f"{_ms(each):>24}" for each in figures), flush=True)


async def _staggered(number: int, call: Call, rate: float, messages: int) -> None:
    await asyncio.sleep(number / CALLS / rate)
    await call.talk(rate, messages)


async def rows(config: Config, socket: str, folder: Path) -> None:
    """Rows a second that a backlog is written with."""
    print(f"{ROWS} rows a call, rows a second{'1 call':>16}{'20 calls':>12}")
    for name, write in WAYS.items():
        figures = []
        for count in (1, CALLS):
            async with engines(config, socket, count) as pools:
                began = time.perf_counter()
                await asyncio.gather(*(write(pool, folder) for pool in pools))
                figures.append(count * ROWS / (time.perf_counter() - began))
        print(f"{name:<34}{figures[0]:>10.0f}{figures[1]:>12.0f}", flush=True)


async def _by_outbox(pool: AsyncEngine, folder: Path) -> None:
    call = Call(pool, folder)
    metadata = {"stages_s": {"e2e": 0.7}}
    for number in range(ROWS):
        values = {"role": "user", "content": f"{number} {SAID}", "metadata": metadata}
        call.outbox.put(Entry("message", str(call.user.session_id), values))
    while len(call.store.stored_at) < ROWS:  # noqa: ASYNC110  a benchmark may ask
        await asyncio.sleep(0.001)
    await call.aclose()


async def _by_insert(pool: AsyncEngine, _: Path) -> None:
    """One INSERT a transaction; nothing is counted, nothing is safe from a repetition."""
    session_id = await _session(pool)
    insert = text(
        "INSERT INTO conversation_messages (session_id, role, content, metadata) "
        "VALUES (:session_id, 'user', :content, :metadata)"
    )
    values = {"session_id": session_id, "metadata": Jsonb({"stages_s": {"e2e": 0.7}})}
    for number in range(ROWS):
        async with pool.begin() as connection:
            await connection.execute(insert, {**values, "content": f"{number} {SAID}"})


async def _by_orm(pool: AsyncEngine, _: Path) -> None:
    """As one writes it by hand: read the session, add the message, count it, commit."""
    session_id = await _session(pool)
    for number in range(ROWS):
        async with AsyncSession(pool) as session:
            query = select(AgentSession).where(AgentSession.session_id == session_id)
            row = (await session.exec(query)).one()
            meta = {"stages_s": {"e2e": 0.7}}
            said = ConversationMessage(
                session_id=session_id, role="user", content=f"{number} {SAID}", meta=meta
            )
            session.add(said)
            row.message_count = (row.message_count or 0) + 1
            await session.commit()


async def _session(pool: AsyncEngine) -> uuid.UUID:
    user = UserSession("room", "caller", "vllm")
    await Store(pool).open_session(user.session_id, user.opening({}))
    return user.session_id


WAYS: dict[str, Callable[[AsyncEngine, Path], Awaitable[None]]] = {
    "outbox (counted, once, spooled)": _by_outbox,
    "an INSERT a transaction": _by_insert,
    "ORM, three statements": _by_orm,
}


def _ms(values: list[float]) -> str:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return " / ".join(f"{cuts[at] * 1000:.3f}" for at in (49, 94, 98))


PARTS = {"latency": latency, "rows": rows}


async def main(names: list[str], folder: Path) -> None:
    """The parts, one after the other, in one database."""
    config = composed()
    async with own_postgres(folder / "data", config.database, config.agent) as socket:
        for name in names or PARTS:
            await PARTS[name](config, socket, folder / "outbox")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="runner-", dir="/tmp") as root:
        Path(root).chmod(0o755)  # root's Postgres runs as another account
        asyncio.run(main(sys.argv[1:], Path(root)))
