"""``task=serve``: start what is needed, take calls, end in order."""

import asyncio
import logging
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
from sqlalchemy.ext.asyncio import AsyncEngine

from runner import build, checks, database, doctor, stalls
from runner.calls import Call, Calls, Told
from runner.config import Config
from runner.errors import ServiceError
from runner.fingerprint import fingerprint, of_configuration
from runner.folders import outbox_dir
from runner.gauges import Gauges, Seen
from runner.indexing import Indexing
from runner.line import Lost, open_switchboard
from runner.metrics import Metrics
from runner.operator.api import Office, operator_api
from runner.operator.archive import Archive
from runner.origins import Composition
from runner.progress import Progress
from runner.rag import embedding
from runner.rag.search import Search
from runner.rescue import Rescue
from runner.rooms import Rooms
from runner.stack import Running, needs, stack
from runner.status import Status
from runner.store import Store
from runner.studio import Studio
from runner.switchboard import Switchboard
from runner.timeline import Timeline
from runner.upkeep import Upkeep
from runner.web import Access, start_page
from runner.worker import Entry, Worker

log = logging.getLogger(__name__)

_PROBE_TIMEOUT_S = 5.0  # of each provider, when the operator asks how it is
_REGISTER_TIMEOUT_S = 30.0
_CLOSE_TIMEOUT_S = 15.0  # livekit-agents gives a job 10 s to end


async def main(config: Config) -> int:
    """Serves until SIGINT or SIGTERM, which are its regular end.

    Raises:
        RunnerError: something that calls need did not start, or died for good.
    """
    stopping = _on_signals()
    try:
        await _serve(config, stopping)
    except asyncio.CancelledError:
        log.info("ended")
    return 0


@dataclass
class Stopping:
    """How SIGTERM ends the program: at once, but for a runner that takes calls; that one
    drains, until the next signal."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    drains: bool = False


def _on_signals() -> Stopping:
    """SIGINT cancels this task, and so does SIGTERM where nothing is to be drained, or the second
    time. Once it is being cancelled, signals are ignored.

    Set before the worker starts: livekit-agents masks SIGINT while it starts a process and puts
    back the handler that it found, which would undo a later one.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    stopping = Stopping()

    def stop() -> None:
        if not task.cancelling():
            task.cancel()

    def terminate() -> None:
        if stopping.drains and not stopping.asked.is_set():
            stopping.asked.set()
        else:
            stop()

    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGTERM, terminate)
    return stopping


async def _serve(config: Config, stopping: Stopping) -> None:
    began = time.monotonic()
    async with AsyncExitStack() as exits:
        with Progress() as progress:
            running = await exits.enter_async_context(stack(config, needs(config), progress))
            engine = await _database(config, running, exits)
            store, rooms = Store(engine), Rooms(config.livekit, running.keys)
            await store.keep_configuration(fingerprint(config), of_configuration(config))
            indexing = Indexing(config, running.endpoints.postgres_socket, progress)
            if config.rag.enabled:
                exits.push_async_callback(indexing.stop)
                indexing.start()
            worker_id = uuid.uuid4()
            rescue = Rescue(config, store, rooms, worker_id)
            seen = _seen(config, exits)

            def lost(room: str) -> None:
                rescue.lost(room, killed=worker.killed(room))

            http = await exits.enter_async_context(aiohttp.ClientSession())
            switchboard, line = await _switchboard(config, http, seen, lost, exits)
            entry = Entry(config, running.endpoints.postgres_socket, line, worker_id)
            worker = Worker(entry, running.keys)
            status = Status(config, running, store)
            page = await start_page(config.web, _access(config, running), worker, status)
            exits.push_async_callback(page.cleanup)
            office = Office(
                config=config,
                engine=engine,
                rooms=rooms,
                switchboard=switchboard,
                seen=seen,
                indexing=indexing,
                search=_search(config, engine, exits),
                examine=partial(doctor.of_running, config, running, _PROBE_TIMEOUT_S),
                composition=Composition.of_hydra(),
            )
            await exits.enter_async_context(operator_api(office))
            gauges = Gauges(seen, switchboard, outbox_dir(config.deployment))
            await exits.enter_async_context(gauges.running(Archive(engine), indexing))
            await _register(config, worker, exits)
            if config.rag.enabled:
                await indexing.looked(config.deployment.ready_timeout_s)
        await exits.enter_async_context(rescue.running())
        await exits.enter_async_context(Upkeep(config, store, rooms).running())
        _background(Studio(config, store, http, switchboard.state).record(), exits)
        await _announce(config, status, time.monotonic() - began)
        stopping.drains = True
        await _until(running.failed(), stopping.asked.wait())
        await _until(running.failed(), worker.drain())


async def _until(*ends: Awaitable[object]) -> None:
    """Waits for the first of ``ends``, and raises what it raised."""
    tasks = [asyncio.ensure_future(end) for end in ends]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        task.result()


async def _database(config: Config, running: Running, exits: AsyncExitStack) -> AsyncEngine:
    socket = running.endpoints.postgres_socket
    await database.prepare(config.database, socket, config.agent)
    engine = database.engine(
        config.database,
        socket,
        pool_size=config.database.max_connections,
        application_name="runner",
    )
    exits.push_async_callback(engine.dispose)
    await database.warm(engine, config.database.min_connections)
    return engine


def _seen(config: Config, exits: AsyncExitStack) -> Seen:
    """What is seen of the calls, and counted of this process."""
    metrics, timeline = Metrics(), Timeline()
    hear = [metrics.turn, timeline.turn, *_traces(config, exits)]
    calls = Calls(*hear, begun=metrics.begun)
    metrics.watch_calls(calls)
    exits.enter_context(stalls.watched("the runner", metrics.stalls.labels("runner").inc))
    return Seen(calls, metrics, timeline)


async def _switchboard(
    config: Config, http: aiohttp.ClientSession, seen: Seen, lost: Lost, exits: AsyncExitStack
) -> tuple[Switchboard, Path]:
    """The permits and breakers of all calls, and the socket at which calls find them."""
    switchboard = await exits.enter_async_context(build.switchboard(config, http, seen.metrics))
    folder = exits.enter_context(TemporaryDirectory(prefix="runner-"))  # a short path, ours alone
    path = Path(folder, "switchboard")
    await exits.enter_async_context(open_switchboard(switchboard, seen.calls, path, lost))
    return switchboard, path


def _search(config: Config, engine: AsyncEngine, exits: AsyncExitStack) -> Search:
    """The operator's."""
    embedder = embedding.embedder(config.rag)
    exits.push_async_callback(embedder.aclose)
    search = Search(engine, embedder, config.rag)
    exits.push_async_callback(search.aclose)
    return search


def _traces(config: Config, exits: AsyncExitStack) -> list[Callable[[Call, Told], None]]:
    """Who makes traces of turns, where somebody takes them."""
    if not config.telemetry.endpoint:
        return []
    from runner.traces import Traces

    traces = Traces(config.telemetry.endpoint)
    exits.push_async_callback(traces.aclose)
    return [traces.turn]


async def _register(config: Config, worker: Worker, exits: AsyncExitStack) -> None:
    """Runs the worker; returns when the LiveKit server knows it."""
    serving = _background(worker.server.run(), exits)
    exits.push_async_callback(_close, worker)
    registered = asyncio.create_task(worker.registered.wait())
    await asyncio.wait(
        {serving, registered},
        timeout=_REGISTER_TIMEOUT_S,
        return_when=asyncio.FIRST_COMPLETED,
    )
    registered.cancel()
    if serving.done():
        serving.result()
    if not worker.registered.is_set():
        raise ServiceError(
            f"The LiveKit server at {config.livekit.url} did not register the worker within "
            f"{_REGISTER_TIMEOUT_S:g} s (livekit.url). `task=doctor` says more."
        )


async def _close(worker: Worker) -> None:
    """Ends the calls; processes that do not end in time go with their forkserver."""
    try:
        await asyncio.wait_for(worker.server.aclose(), _CLOSE_TIMEOUT_S)
    except TimeoutError:
        log.warning("calls did not end within %g s and are cut off", _CLOSE_TIMEOUT_S)


def _access(config: Config, running: Running) -> Access:
    return Access(
        server_url=config.livekit.url,
        api_key=running.keys.api_key,
        api_secret=running.keys.api_secret,
        agent_name=config.livekit.agent_name,
        grace_s=config.sessions.grace_s,
    )


def _background(work: Coroutine[Any, Any, None], exits: AsyncExitStack) -> asyncio.Task[None]:
    """Runs ``work`` beside the rest, until it ends or the rest does."""
    task = asyncio.create_task(work)
    exits.callback(task.cancel)
    return task


async def _announce(config: Config, status: Status, seconds: float) -> None:
    """The page's address, and openly what stands in and what changes nothing."""
    for line in (*await status.stand_ins(), *status.notes, *checks.without_effect(config)):
        print(f"  {line}")
    print(f"\nReady in {seconds:.1f} s. Call the agent at http://localhost:{config.web.port}")
    print("Ctrl-C ends it.", flush=True)
