"""One simulated server's state, and one request to it: its fault, its place in the log."""

import asyncio
import hmac
import socket
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from runner.config import Fault, SimulatedServer
from runner.models.shapes import ApiError
from runner.simulator.script import Pace, Script

_LONGEST_LOG = 20_000  # requests
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time


class Refusal(Exception):  # noqa: N818  an answer, not a failure of the simulator
    """An answer with an error status; each kind of server has its own body for it."""

    def __init__(
        self, status: int, message: str, code: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = {} if retry_after_s is None else {"Retry-After": f"{retry_after_s:g}"}


@dataclass
class Entry:
    """A request as the log keeps it. Times are in seconds of the machine's monotonic clock.

    ``struck``: when its fault ended what it had to say. ``ended``: running · whole · fault ·
    hung up (by the client). ``tokens``: of text, or bytes of sound, that were sent. ``dropped``:
    turns that were silently left out, because they were too many for the context.
    """

    number: int
    path: str
    begin: float
    first_byte: float | None = None
    struck: float | None = None
    end: float | None = None
    ended: str = "running"
    fault: str = ""
    status: int = 200
    asked: list[str] = field(default_factory=list)
    tokens: int = 0
    dropped: int = 0


class Journal:
    """The latest requests to one server since the last reset."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=_LONGEST_LOG)
        self.in_flight = self.peak = self._number = 0

    def reset(self) -> None:
        """Forget every request; those that still run remain in flight."""
        self.entries.clear()
        self.peak = self.in_flight
        self._number = 0

    def begin(self, path: str) -> Entry:
        """A new entry, in flight from now on."""
        self._number += 1
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        entry = Entry(self._number, path, time.monotonic())
        self.entries.append(entry)
        return entry

    def end(self, entry: Entry, how: str) -> None:
        """It is not in flight any more."""
        entry.ended = how if entry.struck is None else "fault"
        entry.end = time.monotonic()
        self.in_flight -= 1


class State:
    """A simulated server: what it is, what it does wrong, and what it was asked."""

    def __init__(self, name: str, server: SimulatedServer) -> None:
        self.name = name
        self.server = server
        self.script = Script(server.faults)
        self.pace = Pace(server)
        self.journal = Journal()
        self.on_request: Callable[[], None] = lambda: None  # the script has moved on
        parallel = server.parallel or (1 if server.speaks == "ollama" else None)
        self.places: AbstractAsyncContextManager[object] = (
            asyncio.Semaphore(parallel) if parallel else nullcontext()
        )
        self.http: aiohttp.ClientSession | None = None  # to `upstream`
        self.heard = 0  # transcripts are given in turn

    @asynccontextmanager
    async def exchange(self, request: web.Request) -> AsyncIterator["Exchange"]:
        """One request, from its headers to its end: counted, logged, in flight."""
        entry = self.journal.begin(request.path)
        fault = self.script.strike(_endpoint(request.path))
        self.on_request()
        how = "hung up"
        try:
            yield Exchange(self, request, entry, fault)
            how = "whole"
        except (Refusal, ApiError) as refusal:
            entry.status = refusal.status
            how = "whole"
            raise
        finally:
            self.journal.end(entry, how)

    @asynccontextmanager
    async def glance(self, request: web.Request) -> AsyncIterator["Exchange"]:
        """A request that asks for no answer, such as a probe: logged as number 0."""
        entry = Entry(0, request.path, time.monotonic())
        self.journal.entries.append(entry)
        try:
            yield Exchange(self, request, entry, self.script.standing())
        except Refusal as refusal:
            entry.status = refusal.status
            raise
        finally:
            entry.ended, entry.end = "whole", time.monotonic()


def _endpoint(path: str) -> str:
    """Of OpenAI's, by its last word; chat, where it is none of them."""
    last = path.rsplit("/", 1)[-1]
    return last if last in ("transcriptions", "speech", "embeddings") else "chat"


class Exchange:
    """A request that has arrived. ``fault``: what goes wrong with it, if anything."""

    def __init__(
        self, state: State, request: web.Request, entry: Entry, fault: Fault | None
    ) -> None:
        self.state = state
        self.request = request
        self.entry = entry
        self.fault = fault
        entry.fault = fault.kind if fault else ""
        self._thinking_since = entry.begin

    def meets(self, *kinds: str) -> Fault | None:
        """The fault, if it is one of ``kinds``."""
        return self.fault if self.fault and self.fault.kind in kinds else None

    async def begin(self) -> None:
        """What goes wrong before an answer: an error status, or none at all.

        Raises:
            Refusal: the script's status.
        """
        if fault := self.meets("status"):
            self.strike()
            words = "The script says so (simulate)."
            raise Refusal(fault.status, words, retry_after_s=fault.retry_after_s)
        if fault := self.meets("hang"):
            await self.pause(fault)

    def think(self) -> None:
        """Its turn has come: it waited in a queue until now."""
        self._thinking_since = time.monotonic()

    def check_key(self, given: str | None, message: str = "Incorrect API key provided.") -> None:
        """Raises:
        Refusal: 401, the key is not the server's.
        """
        wanted = self.state.server.api_key
        if wanted and not hmac.compare_digest((given or "").encode(), wanted.encode()):
            raise Refusal(401, message, "invalid_api_key")

    async def pause(self, fault: Fault) -> None:
        """Say nothing for as long as ``fault`` lasts: for ever, where it names no time."""
        if fault.seconds is None:
            self.strike()
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(fault.seconds)

    def strike(self) -> None:
        """The fault has done its work: whatever follows, the request ended by it."""
        self.entry.struck = time.monotonic()

    async def until_first(self) -> float:
        """Wait as long as the server thinks; the moment on the loop's clock that was waited for.

        The wait counts from the arrival, so that it does not add to what reading took.
        """
        loop = asyncio.get_running_loop()
        elapsed_s = time.monotonic() - self._thinking_since
        due = loop.time() - elapsed_s + self.state.pace.first_s()
        await asyncio.sleep(max(0.0, due - loop.time()))
        return due

    def sent(self, amount: int = 1) -> None:
        """Some of the answer's own tokens or bytes went out."""
        if self.entry.first_byte is None:
            self.entry.first_byte = time.monotonic()
        self.entry.tokens += amount

    def cut(self) -> None:
        """Reset the connection, as a machine does whose process was killed."""
        self.strike()
        if transport := self.request.transport:
            raw = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
