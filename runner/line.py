"""A call's line to the switchboard of its worker: a Unix socket, a line of JSON a message.

The kernel closes a socket when its process dies, however it dies: the call's permits are free
again in the same moment, and its place among those who wait is gone.
"""

import asyncio
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner.breaker import State
from runner.calls import Call, Caller, Calls
from runner.outcome import Key, Outcome
from runner.providers.failure import Reason
from runner.switchboard import Switchboard

log = logging.getLogger(__name__)

_LONGEST_LINE = 2**20  # bytes; an answer with its passages takes ten thousand
_LONGEST_TURN = _LONGEST_LINE // 3  # JSON in JSON, which makes it twice as long at most
_LONGEST_CAPTION = 20_000  # characters
_LONGEST_QUEUE = 4 * 2**20  # of a worker that does not read, in a call

Lost = Callable[[str], None]
"""Told the room of a call whose line broke before it was over."""


@asynccontextmanager
async def open_switchboard(
    switchboard: Switchboard, calls: Calls, path: Path, lost: Lost
) -> AsyncIterator[None]:
    """Takes lines at the socket ``path`` for as long as the block lasts."""
    extensions: set[_Extension] = set()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        extension = _Extension(switchboard, calls, reader, writer)
        extensions.add(extension)
        await extension.serve()
        extensions.discard(extension)
        if extension.call is not None:
            calls.end(extension.call)
            lost(extension.call.room)

    server = await asyncio.start_unix_server(take, path, limit=_LONGEST_LINE)
    path.chmod(0o600)  # noqa: ASYNC240  a socket file of ours
    try:
        yield
    finally:
        server.close()
        await asyncio.gather(*(extension.hang_up() for extension in list(extensions)))


class _Extension:
    """The switchboard's end of one call's line."""

    def __init__(
        self,
        switchboard: Switchboard,
        calls: Calls,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._switchboard = switchboard
        self._calls = calls
        self._reader = reader
        self._writer = writer
        self._permits: dict[int, asyncio.Task[None]] = {}
        self.call: Call | None = None
        """None: it has not begun, or is over."""

    async def serve(self) -> None:
        """Answers until the call hangs up, or dies; then all that it held is free."""
        deafen = self._switchboard.listen(self._tell_breakers)
        self._tell_breakers()
        try:
            async for line in self._reader:
                self._on(json.loads(line))
        except ConnectionError:
            pass  # a process that was killed hangs up like this
        finally:
            deafen()
            for permit in self._permits.values():
                permit.cancel()
            self._writer.close()

    async def hang_up(self) -> None:
        """Ends the line from this end."""
        self._over()
        self._writer.close()
        await self._writer.wait_closed()

    def _on(self, message: dict[str, Any]) -> None:
        match message:
            case {"take": number}:
                self._permits[number] = asyncio.create_task(self._hold(number))
            case {"free": number}:
                self._permits.pop(number).cancel()
            case {"room": room}:
                self._begin(room)
            case {"missed_search": True}:
                self._switchboard.missed_search()
            case {"stalled": True}:
                self._switchboard.stalled()
            case {"report": fields}:
                self._switchboard.report(_outcome(fields))
            case _ if self.call:
                self._hear(self.call, message)

    def _begin(self, room: str | None) -> None:
        """The call is in ``room``; None: it is over."""
        if room is None:
            self._over()
        else:
            self.call = self._calls.begin(room, self._attend)

    def _hear(self, call: Call, message: dict[str, Any]) -> None:
        match message:
            case {"caller": who}:
                self._calls.introduce(call, Caller(**who))
            case {"state": state}:
                self._calls.be(call, state)
            case {"turn": turn}:
                self._calls.turn(call, json.loads(turn))
            case {"caption": [role, text]}:
                self._calls.caption(call, role, text)

    def _attend(self, listened: bool) -> None:  # noqa: FBT001  as `runner.calls.Attend` has it
        self._send({"listened": listened})

    async def _hold(self, number: int) -> None:
        async with self._switchboard.permit():
            self._send({"granted": number})
            await asyncio.get_running_loop().create_future()  # until it is cancelled

    def _over(self) -> None:
        if self.call is not None:
            self._calls.end(self.call)
            self.call = None

    def _tell_breakers(self) -> None:
        states = [(*key, self._switchboard.state(key)) for key in self._switchboard.known()]
        self._send({"not_closed": [known for known in states if known[-1] is not State.CLOSED]})

    def _send(self, message: dict[str, Any]) -> None:
        self._writer.write(json.dumps(message).encode() + b"\n")


class Line:
    """The call's end: a `runner.switchboard.Desk`.

    When the switchboard is gone its worker is gone, and this call soon too: until then nothing is
    held up for a permit.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._not_closed: dict[Key, State] = {}
        self._listened = False
        self._listening = asyncio.create_task(self._listen(reader), name="line")

    @asynccontextmanager
    async def permit(self) -> AsyncIterator[float]:
        number, began = next(self._numbers), time.perf_counter()
        granted = self._asked[number] = asyncio.get_running_loop().create_future()
        self._send({"take": number})
        try:
            if not self._listening.done():
                await granted
            yield time.perf_counter() - began
        finally:
            self._asked.pop(number, None)
            self._send({"free": number})

    def state(self, key: Key) -> State:
        return self._not_closed.get(key, State.CLOSED)

    def report(self, outcome: Outcome) -> None:
        self._send({"report": asdict(outcome)})

    def missed_search(self) -> None:
        self._send({"missed_search": True})

    def stalled(self) -> None:
        """Counts a stall of this call's event loop."""
        self._send({"stalled": True})

    def begin(self, room: str) -> None:
        """The call is in ``room``: should its process die, another one is sent there."""
        self._send({"room": room})

    def introduce(self, who: Caller) -> None:
        """Tells who calls."""
        self._send({"caller": asdict(who)})

    def be(self, state: str) -> None:
        """Tells what the agent does."""
        self._send({"state": state})

    def turn(self, line: str) -> None:
        """Tells a message that was said, as the page gets it. Nobody waits for it: one that is too
        long, or has no place any more, is left out."""
        waiting = self._writer.transport.get_write_buffer_size()
        if len(line) < _LONGEST_TURN and waiting < _LONGEST_QUEUE:
            self._send({"turn": line})

    def caption(self, role: str, text: str) -> None:
        """Tells what ``role`` said so far, if somebody listens: left out when it is very long, or
        while anything else waits to be read."""
        if (
            self._listened
            and len(text) < _LONGEST_CAPTION
            and not self._writer.transport.get_write_buffer_size()
        ):
            self._send({"caption": [role, text]})

    async def aclose(self) -> None:
        """The call is over."""
        self._send({"room": None})
        self._listening.cancel()
        self._writer.close()
        with suppress(asyncio.CancelledError, ConnectionError):
            await self._listening

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            async for line in reader:
                self._on(json.loads(line))
        finally:
            for granted in self._asked.values():
                if not granted.done():
                    granted.set_result(None)

    def _on(self, message: dict[str, Any]) -> None:
        match message:
            case {"granted": number} if number in self._asked:
                self._asked[number].set_result(None)
            case {"not_closed": states}:
                self._not_closed = {
                    (capability, name): State(state) for capability, name, state in states
                }
            case {"listened": bool(listened)}:
                self._listened = listened

    def _send(self, message: dict[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")


async def connect(path: Path) -> Line:
    """A line to the switchboard at ``path``.

    Raises:
        OSError: nobody answers there.
    """
    return Line(*await asyncio.open_unix_connection(path))


def _outcome(fields: dict[str, Any]) -> Outcome:
    capability, provider = fields["key"]
    reason = fields["reason"]
    return Outcome(
        key=(capability, provider),
        reason=None if reason is None else Reason(reason),
        retry_after_s=fields["retry_after_s"],
        instead_of=tuple((name, Reason(why)) for name, why in fields["instead_of"]),
        lost=fields["lost"],
    )
