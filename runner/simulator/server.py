"""The simulated servers of one process: their ports, open or closed, and their end."""

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

from runner.config import Fault, Simulation
from runner.errors import ServiceError
from runner.simulator import control, live
from runner.simulator.api import application
from runner.simulator.exchange import State
from runner.simulator.service import HOST

_NO_LIMIT = aiohttp.ClientTimeout(total=None)


class Simulator:
    """All servers of a simulation, for as long as its ``async with`` block.

    A port of 0 is any free one; `url` tells which.
    """

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._exits = AsyncExitStack()
        self.states = {name: State(name, server) for name, server in simulation.servers.items()}
        self._listeners = {name: Listener(state) for name, state in self.states.items()}

    async def __aenter__(self) -> Self:
        try:
            for listener in self._listeners.values():
                self._exits.push_async_callback(listener.stop)
                await listener.start()
            await self._start_control()
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._exits.aclose()

    def url(self, name: str) -> str:
        """Where the server listens, or will once it stops to refuse."""
        return f"http://{HOST}:{self._listeners[name].port}"

    @property
    def control_url(self) -> str:
        """Where every server is watched; below it come their names."""
        return f"http://{HOST}:{self._control.addresses[0][1]}"

    async def _start_control(self) -> None:
        """The port at which every server is reached, whatever it plays."""
        app = web.Application()
        app.router.add_get("/health", control.health(self.states))
        for name, listener in self._listeners.items():
            app.add_routes(control.routes(listener.state, listener.settle, f"/{name}"))
        self._control = web.AppRunner(app, access_log=None)
        await self._control.setup()
        self._exits.push_async_callback(self._control.cleanup)
        try:
            await web.TCPSite(self._control, HOST, self._simulation.port).start()
        except OSError as error:
            raise _taken(self._simulation.port, "simulate.port") from error


class Listener:
    """One server's port: open, or closed while the script says ``refuse``."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.port = state.server.port
        app = application(state, self.settle)
        app.on_response_prepare.append(self._say_goodbye)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=0,
        )
        self._server: asyncio.Server | None = None
        self._reopening: asyncio.TimerHandle | None = None
        self._exits = AsyncExitStack()

    async def start(self) -> None:
        """Raises:
        ServiceError: the port cannot be had.
        """
        self.state.on_request = self._close_if_refusing
        if self.state.server.upstream:
            http = aiohttp.ClientSession(timeout=_NO_LIMIT)
            self.state.http = await self._exits.enter_async_context(http)
        await self._runner.setup()
        self._exits.push_async_callback(self._runner.cleanup)
        await self._open()
        self._close_if_refusing()
        if self.state.server.tls_port is not None:
            await self._exits.enter_async_context(live.tls(self.state))

    async def stop(self) -> None:
        """Close the port, and cut what still runs."""
        self._close()
        await self._exits.aclose()

    async def settle(self) -> None:
        """Open or close the port, as the script has it now."""
        self._cancel_reopening()
        if self.state.script.refusal() is None:
            await self._open()
        self._close_if_refusing()

    async def _open(self) -> None:
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        assert self._runner.server is not None
        try:
            self._server = await loop.create_server(
                self._runner.server, HOST, self.port, reuse_address=True
            )
        except OSError as error:
            key = f"simulate.servers.{self.state.name}.port"
            raise _taken(self.port, key) from error
        self.port = self._server.sockets[0].getsockname()[1]

    def _close_if_refusing(self) -> None:
        """At once, within the request before: the client cannot be quicker."""
        fault = self.state.script.refusal()
        if fault is None or self._server is None:
            return
        self._close()
        if fault.seconds is not None:
            loop = asyncio.get_running_loop()
            self._reopening = loop.call_later(fault.seconds, self._reopen, fault)

    async def _say_goodbye(self, _: web.Request, response: web.StreamResponse) -> None:
        """A client must not take the connection for one that it can ask again."""
        if self._server is None:
            response.headers["Connection"] = "close"
            response.force_close()

    def _close(self) -> None:
        """Idle connections go too: a server that is down keeps none."""
        self._cancel_reopening()
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._runner.server is not None:
            self._runner.server.pre_shutdown()

    def _reopen(self, fault: Fault) -> None:
        self._reopening = None
        self.state.script.end_refusal(fault)
        self._opening = asyncio.ensure_future(self.settle())  # kept, so that it is not collected

    def _cancel_reopening(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None


def _taken(port: int, key: str) -> ServiceError:
    return ServiceError(f"Port {port} is taken by another program. Stop that, or set {key}.")
