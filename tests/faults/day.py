"""A day of calls in minutes: the runner's own conversations, store and upkeep over a real Postgres,
at simulated providers. Nothing waits for a clock: after each hour's calls all rows move an hour
into the past.

Some callers talk and leave, some are cancelled in the middle of a turn, some say nothing more and
stay, and now and then a process with calls in it is killed, or the database.
"""

import asyncio
import gc
import itertools
import pickle
import random
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil
import psycopg
from livekit.agents import ConversationItemAddedEvent, llm

from runner import build, database
from runner.config import Config
from runner.conversation import Conversation, conversation
from runner.dbserver import EMBEDDED_PORT, EMBEDDED_USER
from runner.folders import outbox_dir
from runner.metrics import Metrics
from runner.sessions import UserSession
from runner.simulator.server import Simulator
from runner.store import Store
from runner.switchboard import Desk
from runner.upkeep import Upkeep
from tests.faults.own_postgres import kill_postgres, own_postgres
from tests.faults.talk import Ear, composed, simulator_of

HOURS = 24
_AT_ONCE = 8
_KILLED_AT_ONCE = 3  # calls in a process that is killed
_MB = 1024 * 1024
_ROOT = Path(__file__).parents[2]
_HOUR_LATER = """
UPDATE agent_sessions SET created_at = created_at - INTERVAL '1 hour',
    last_activity = last_activity - INTERVAL '1 hour', ended_at = ended_at - INTERVAL '1 hour';
UPDATE conversation_messages SET created_at = created_at - INTERVAL '1 hour';
"""


def settings(data_dir: Path) -> Config:
    """Everything simulated and quick; documents are searched for, too."""
    return composed(
        f"deployment.data_dir={data_dir}",
        "rag.embedding_url=http://127.0.0.1:${simulate.servers.speaches_gpu.port}/v1",
        "rag.embedding_model=${stt_tts.stt.model}",  # one that is listed there
        "++simulate.servers.speaches_gpu.realtime_factor=0",
        *(f"++simulate.servers.{name}.first_s=0" for name in ("vllm", "speaches_gpu")),
        "++simulate.servers.vllm.per_token_s=0",
    )


@dataclass(frozen=True)
class Sample:
    """What the process holds after so many sessions."""

    sessions: int
    rss_mb: float
    tasks: int
    threads: int
    files: int
    sockets: int
    connections: int

    def __str__(self) -> str:
        return (
            f"{self.sessions:>8}{self.rss_mb:>9.1f}{self.tasks:>7}{self.threads:>9}"
            f"{self.files:>7}{self.sockets:>9}{self.connections:>13}"
        )


HEAD = "sessions   RSS MB  tasks  threads  files  sockets  connections"


@dataclass
class Day:
    """The day so far. ``said``: what each caller that was not killed said and heard."""

    config: Config
    socket: str
    data_dir: Path
    simulator: Simulator
    desk: Desk
    rooms: "Rooms"
    upkeep: Upkeep
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    said: dict[uuid.UUID, list[str]] = field(default_factory=dict)
    sessions: int = 0

    async def hour(self, sessions: int, *, kill_database: bool, kill_process: bool) -> None:
        """So many sessions, some of which are left over; then an hour goes by."""
        calls = [self._kind() for _ in range(sessions - _KILLED_AT_ONCE * kill_process)]
        waiting = iter(calls)
        lines = [asyncio.create_task(self._line(waiting)) for _ in range(_AT_ONCE)]
        if kill_database:
            await asyncio.sleep(0.5)  # calls are in progress
            kill_postgres(self.data_dir)
        if kill_process:
            await self._kill_process()
        await asyncio.gather(*lines)
        self.sessions += sessions
        await self._later()
        await self.rooms.all_closed()

    def query(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Rows of the database."""
        with psycopg.connect(
            host=self.socket,
            port=EMBEDDED_PORT,
            user=EMBEDDED_USER,
            dbname=self.config.database.name,
        ) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def sample(self) -> Sample:
        """What is held now."""
        for state in self.simulator.states.values():
            state.journal.reset()  # the simulator's memory of its requests is not the runner's
        gc.collect()
        process = psutil.Process()
        [(connections,)] = self.query(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'runner-call'"
        )
        return Sample(
            sessions=self.sessions,
            rss_mb=process.memory_info().rss / _MB,
            tasks=len(asyncio.all_tasks()),
            threads=threading.active_count(),
            files=process.num_fds(),
            sockets=len(process.net_connections("all")),
            connections=int(str(connections)),
        )

    def lost_or_doubled(self) -> list[uuid.UUID]:
        """The sessions whose messages are not those that were said."""
        stored: dict[uuid.UUID, list[str]] = {session_id: [] for session_id in self.said}
        for session_id, content in self.query(
            "SELECT session_id, content FROM conversation_messages ORDER BY created_at, id"
        ):
            if session_id in stored:
                stored[session_id].append(str(content))  # type: ignore[index]
        return [session_id for session_id, said in self.said.items() if stored[session_id] != said]

    def _kind(self) -> str:
        return self.dice.choices(["leaves", "cancelled", "idle"], [75, 15, 10])[0]

    async def _line(self, waiting: Iterator[str]) -> None:
        for kind in waiting:
            user = UserSession(f"room-{uuid.uuid4()}", "caller", self.config.llm.name)
            talking = asyncio.Event()
            call = asyncio.create_task(self._call(user, kind, talking))
            if kind == "cancelled":
                await talking.wait()
                await asyncio.sleep(self.dice.random() / 10)
                call.cancel()
            elif kind == "idle":
                self.rooms.calls[user.room_id] = call
                continue
            with suppress(asyncio.CancelledError):
                await call

    async def _call(self, user: UserSession, kind: str, talking: asyncio.Event) -> None:
        async with talk_of(self.config, self.socket, self.desk, user) as talk:
            said = self.said.setdefault(user.session_id, [])

            def note(event: ConversationItemAddedEvent) -> None:
                if isinstance(event.item, llm.ChatMessage):
                    said.append(event.item.text_content or "")

            talk.session.on("conversation_item_added", note)
            talking.set()
            turns = itertools.count() if kind == "cancelled" else range(self.dice.randint(1, 3))
            for number in turns:
                await talk.session.run(user_input=f"When does it open? ({number})")
            if kind == "idle":
                await asyncio.Event().wait()

    async def _kill_process(self) -> None:
        given = pickle.dumps((self.config, self.socket))
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__),
            cwd=_ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdin
        assert child.stdout
        child.stdin.write(given)
        child.stdin.write_eof()
        for _ in range(_KILLED_AT_ONCE):
            assert await child.stdout.readline() == b"talking\n"
        child.kill()
        await child.wait()

    async def _later(self) -> None:
        """An hour goes by; the upkeep does what it does in it."""
        async with asyncio.timeout(60):
            while True:
                try:
                    self.query("SELECT 1")
                    break
                except psycopg.OperationalError:  # it is being started again
                    await asyncio.sleep(0.1)
        await self.upkeep.deliver_left()
        await asyncio.to_thread(self.query, _HOUR_LATER)
        await self.upkeep.end_idle()


class Rooms:
    """Rooms whose calls end when they are closed."""

    def __init__(self) -> None:
        self.calls: dict[str, asyncio.Task[None]] = {}
        self._ended: list[asyncio.Task[None]] = []

    async def close(self, room: str) -> None:
        """Ends the call, if it is one of this process."""
        if call := self.calls.pop(room, None):
            call.cancel()
            self._ended.append(call)

    async def all_closed(self) -> None:
        """Waits for the calls that were ended."""
        await asyncio.gather(*self._ended, return_exceptions=True)
        self._ended.clear()


@asynccontextmanager
async def talk_of(
    config: Config, socket: str, desk: Desk, user: UserSession
) -> AsyncIterator[Conversation]:
    """A conversation that has begun, with a caller who reads and listens."""

    async def publish(_: str) -> None:
        pass

    async with conversation(config, socket, desk, user, publish) as talk:
        talk.session.output.audio = Ear(pace=1000.0)
        await talk.session.start(talk.agent, session_host=False, record=False)
        try:
            yield talk
        finally:
            await talk.session.aclose()


@asynccontextmanager
async def day(data_dir: Path) -> AsyncIterator[Day]:
    """The beginning of one; ``data_dir`` is for the database and all else."""
    config = settings(data_dir)
    async with AsyncExitStack() as stack:
        socket = await stack.enter_async_context(
            own_postgres(data_dir, config.database, config.agent)
        )
        simulator = await stack.enter_async_context(simulator_of(config))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        desk = await stack.enter_async_context(build.switchboard(config, http, Metrics()))
        pool = database.engine(config.database, socket, pool_size=2, application_name="upkeep")
        stack.push_async_callback(pool.dispose)
        rooms = Rooms()
        upkeep = Upkeep(config, Store(pool), rooms)  # type: ignore[arg-type]
        await stack.enter_async_context(upkeep.running())
        yield Day(config, socket, data_dir, simulator, desk, rooms, upkeep)


def files_left(config: Config) -> list[str]:
    """What calls have left for the worker."""
    return [path.name for path in outbox_dir(config.deployment).iterdir()]


async def _talk_until_killed() -> None:
    config, socket = pickle.loads(sys.stdin.buffer.read())
    http = aiohttp.ClientSession()

    async def call(desk: Desk) -> None:
        user = UserSession(f"room-{uuid.uuid4()}", "caller", config.llm.name)
        async with talk_of(config, socket, desk, user) as talk:
            await talk.session.run(user_input="When does it open?")
            print("talking", flush=True)
            while True:
                await talk.session.run(user_input="When does it open?")

    async with http, build.switchboard(config, http, Metrics()) as desk:
        await asyncio.gather(*(call(desk) for _ in range(_KILLED_AT_ONCE)))


if __name__ == "__main__":
    asyncio.run(_talk_until_killed())
