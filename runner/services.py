"""Child processes: start, wait until truly ready, restart what dies, die with the parent."""

import asyncio
import errno
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn, Self

from runner.child import Child, Command
from runner.errors import RunnerError, ServiceError
from runner.guard import Guard

__all__ = ["READY", "Command", "Report", "Service", "Supervisor", "port_taken"]

READY = "ready"
"""How the last line of a service's progress begins."""

_FIRST_POLL_S, _LONGEST_POLL_S = 0.02, 0.2
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0  # between a death and the next start
_DEATHS, _DEATHS_WITHIN_S = 5, 60.0  # so many deaths in so long, and it is given up

Report = Callable[[str, str], None]
"""Called with a service's name and a line of progress, such as ``("livekit", "building …")``."""


@dataclass(frozen=True)
class Service:
    """A child process and how to tell that it is ready.

    ``prepare`` may take long (build a binary, create a database) and reports as it goes; it runs
    before every start. ``ready`` answers whether the service truly serves now.
    """

    name: str
    prepare: Callable[[Report], Awaitable[Command]]
    ready: Callable[[], Awaitable[bool]]
    stop_signal: signal.Signals = signal.SIGTERM


class Supervisor:
    """Keeps services running for as long as its ``async with`` block.

    ``ready_timeout_s`` is the time from a process' start until it serves; what `Service.prepare`
    takes does not count.
    """

    def __init__(self, report: Report, ready_timeout_s: float) -> None:
        self._report = report
        self._ready_timeout_s = ready_timeout_s
        self._children: dict[str, Child] = {}
        self._keepers: list[asyncio.Task[NoReturn]] = []

    async def __aenter__(self) -> Self:
        self._guard = Guard()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
        self._guard.close()

    async def start(self, services: Sequence[Service]) -> None:
        """Start ``services`` side by side; return when all of them are ready.

        Raises:
            RunnerError: of the first that failed, with its last words; the others are stopped
                when the block is left.
        """
        launches = [asyncio.create_task(self._launch(service)) for service in services]
        try:
            children = await asyncio.gather(*launches)
        except BaseException:
            for launch in launches:
                launch.cancel()
            await asyncio.gather(*launches, return_exceptions=True)
            raise
        for service, child in zip(services, children, strict=True):
            self._children[service.name] = self._children.pop(service.name)  # in the order given
            self._keepers.append(asyncio.create_task(self._keep(service, child)))

    async def failed(self) -> NoReturn:
        """Wait for as long as every service lives or comes back.

        Raises:
            ServiceError: one died for good.
        """
        while True:
            if not self._keepers:
                await asyncio.Event().wait()
            done, _ = await asyncio.wait(self._keepers, return_when=asyncio.FIRST_COMPLETED)
            for keeper in done:
                keeper.result()

    async def stop(self) -> None:
        """End all services, the last started first."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for child in reversed(self._children.values()):
            await child.stop()
            self._guard.forget(child.pid)
        self._children.clear()

    async def _launch(self, service: Service) -> Child:
        """Start one service and wait until it is ready; a child that is not is stopped."""
        self._report(service.name, "starting")
        try:
            command = await service.prepare(self._report)
            child = await Child.spawn(service.name, command, service.stop_signal)
        except OSError as error:
            raise ServiceError(f"{service.name} cannot be started: {error}.") from error
        self._guard.watch(child.pid, service.stop_signal)
        self._children[service.name] = child
        began = time.monotonic()
        try:
            await self._until_ready(service, child)
        except RunnerError:
            await child.stop()
            self._guard.forget(child.pid)
            raise
        self._report(service.name, f"{READY} in {time.monotonic() - began:.1f} s")
        return child

    async def _until_ready(self, service: Service, child: Child) -> None:
        pause_s = _FIRST_POLL_S
        try:
            async with asyncio.timeout(self._ready_timeout_s):
                while child.alive and not await service.ready():
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 1.5, _LONGEST_POLL_S)
        except TimeoutError:
            raise ServiceError(
                f"{service.name} was not ready within {self._ready_timeout_s:g} s "
                f"(deployment.ready_timeout_s).\n{child.last_words()}"
            ) from None
        if not child.alive:
            how = await child.wait()
            raise ServiceError(f"{service.name} {how} before it was ready.\n{child.last_words()}")

    async def _keep(self, service: Service, child: Child) -> NoReturn:
        """Restart a service whenever it dies, until it dies too often."""
        deaths: list[float] = []
        reason = await self._death(service, child)
        while True:
            now = time.monotonic()
            deaths = [*(at for at in deaths if now - at < _DEATHS_WITHIN_S), now]
            if len(deaths) >= _DEATHS:
                raise ServiceError(
                    f"{service.name} was given up after {_DEATHS} deaths within "
                    f"{_DEATHS_WITHIN_S:g} s. The last one: {reason}"
                )
            pause_s = min(_FIRST_PAUSE_S * 2 ** (len(deaths) - 1), _LONGEST_PAUSE_S)
            what = reason.splitlines()[0].removeprefix(f"{service.name} ")
            self._report(service.name, f"{what} Next start in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            try:
                reason = await self._death(service, await self._launch(service))
            except RunnerError as error:
                reason = str(error)

    async def _death(self, service: Service, child: Child) -> str:
        """Wait for a ready service's end; the sentence about it."""
        how = await child.wait()
        self._guard.forget(child.pid)
        return f"{service.name} {how}.\n{child.last_words()}"


def port_taken(host: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
    """Whether a server at ``host`` could not have ``port``, because another one has it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if kind is socket.SOCK_STREAM:  # connections of a server that has gone do not count
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
