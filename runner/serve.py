"""``task=serve``: start what is needed, take calls, end in order."""

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
from sqlalchemy.ext.asyncio import AsyncEngine

from runner import build, checks, database, probes
from runner.config import Config
from runner.errors import ServiceError
from runner.fingerprint import fingerprint, of_configuration
from runner.indexing import Indexing
from runner.line import open_switchboard
from runner.metrics import Metrics
from runner.operator_api import start_operator_api
from runner.probes import StandIn
from runner.progress import Progress
from runner.stack import Running, needs, stack
from runner.store import Store
from runner.switchboard import Switchboard
from runner.upkeep import Upkeep
from runner.web import Access, start_page
from runner.worker import Worker

log = logging.getLogger(__name__)

_PROBE_TIMEOUT_S = 2.0
_STATUS_AGE_S = 5.0  # an answer of /api/status serves all pages for so long
_REGISTER_TIMEOUT_S = 30.0
_CLOSE_TIMEOUT_S = 15.0  # livekit-agents gives a job 10 s to end


async def main(config: Config) -> int:
    """Serves until SIGINT or SIGTERM, which are its regular end.

    Raises:
        RunnerError: something that calls need did not start, or died for good.
    """
    _cancel_on_signal()
    try:
        await _serve(config)
    except asyncio.CancelledError:
        log.info("ended")
    return 0


def _cancel_on_signal() -> None:
    """The first SIGINT or SIGTERM cancels this task, the others are ignored.

    Set before the worker starts: livekit-agents masks SIGINT while it starts a process and puts
    back the handler that it found, which would undo a later one.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop() -> None:
        if not task.cancelling():
            task.cancel()

    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop)


async def _serve(config: Config) -> None:
    began = time.monotonic()
    async with AsyncExitStack() as exits:
        with Progress() as progress:
            running = await exits.enter_async_context(stack(config, needs(config), progress))
            engine = await _database(config, running, exits)
            await Store(engine).keep_configuration(fingerprint(config), of_configuration(config))
            indexing = Indexing(config, running.endpoints.postgres_socket, progress)
            if config.rag.enabled:
                exits.push_async_callback(indexing.stop)
                indexing.start()
            metrics = Metrics()
            switchboard, line = await _switchboard(config, metrics, exits)
            worker = Worker(config, running.keys, running.endpoints.postgres_socket, line)
            status = Status(config, running)
            page = await start_page(config.web, _access(config, running), worker, status)
            exits.push_async_callback(page.cleanup)
            operator = await start_operator_api(
                config.operator, switchboard, metrics, indexing.state
            )
            exits.push_async_callback(operator.cleanup)
            await _register(config, worker, exits)
            if config.rag.enabled:
                await indexing.looked(config.deployment.ready_timeout_s)
        upkeep = Upkeep(config, Store(engine), running.keys)
        await exits.enter_async_context(upkeep.running())
        await _announce(config, status, time.monotonic() - began)
        await running.failed()


class Status:
    """What the page shows beside the call: who stands in for whom, and why."""

    def __init__(self, config: Config, running: Running) -> None:
        self._config = config
        self.notes = list(running.endpoints.notes)
        self._lock = asyncio.Lock()
        self._asked_at = -_STATUS_AGE_S
        self._stand_ins: list[StandIn] = []

    async def stand_ins(self) -> list[StandIn]:
        """Probed anew when the last answer is too old."""
        async with self._lock:
            if time.monotonic() - self._asked_at >= _STATUS_AGE_S:
                self._stand_ins = await probes.stand_ins(self._config, _PROBE_TIMEOUT_S)
                self._asked_at = time.monotonic()
            return self._stand_ins

    async def __call__(self) -> dict[str, object]:
        """The JSON of ``GET /api/status``."""
        return {
            "agent": self._config.livekit.agent_name,
            "notes": self.notes,
            "stand_ins": [
                {
                    "for": found.capability,
                    "provider": found.provider,
                    "instead_of": found.instead_of,
                    "reason": found.reason,
                }
                for found in await self.stand_ins()
            ],
        }


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


async def _switchboard(
    config: Config, metrics: Metrics, exits: AsyncExitStack
) -> tuple[Switchboard, Path]:
    """The permits and breakers of all calls, and the socket at which calls find them."""
    http = await exits.enter_async_context(aiohttp.ClientSession())
    switchboard = await exits.enter_async_context(build.switchboard(config, http, metrics))
    folder = exits.enter_context(TemporaryDirectory(prefix="runner-"))  # a short path, ours alone
    path = Path(folder, "switchboard")
    await exits.enter_async_context(open_switchboard(switchboard, path))
    return switchboard, path


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
