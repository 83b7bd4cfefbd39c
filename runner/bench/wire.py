"""How a caller reaches an agent without a room: audio and a few words over a Unix socket.

The agent's process listens; a connection is a call. A message is a kind (one byte), a length
(four bytes, network order) and so many bytes. The standard library is all that this needs.
"""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

CALLER_RATE_HZ = 16_000
"""Of the caller's microphone: mono, 16-bit, in frames of 20 ms."""

FRAME_SAMPLES = CALLER_RATE_HZ // 50

AUDIO = b"a"
"""Samples; from the agent with their rate (four bytes) before them, played as they come."""
CLEAR = b"c"
"""The agent falls silent: what it sent and was not played yet is not."""
SAID = b"s"
"""A message of the conversation, as the agent keeps it: JSON with ``role`` and ``text``."""

_HEAD = struct.Struct("!cI")
_RATE = struct.Struct("!I")
_LONGEST = 4_000_000  # bytes; a minute of 24 kHz has 2.9 million


class Line:
    """One end of a call."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Never waits. One who does not read is not measured for long."""
        if not self._writer.is_closing():
            self._writer.write(_HEAD.pack(kind, len(payload)) + payload)

    def play(self, pcm: bytes, rate_hz: int) -> None:
        """The agent's voice."""
        self.send(AUDIO, _RATE.pack(rate_hz) + pcm)

    def say(self, role: str, text: str, **more: Any) -> None:
        """A message of the conversation, with what else is known of it."""
        self.send(SAID, json.dumps({"role": role, "text": text, **more}).encode())

    async def messages(self) -> AsyncIterator[tuple[bytes, bytes]]:
        """Kind and payload of each message, until the other side hangs up.

        Raises:
            ValueError: a message is longer than any can be.
        """
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, length = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
                if length > _LONGEST:
                    raise ValueError(f"a message of {length} bytes")
                yield kind, await self._reader.readexactly(length)

    async def aclose(self) -> None:
        """Hangs up."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


def sound(payload: bytes) -> tuple[bytes, int]:
    """Samples and their rate of the agent's `AUDIO`."""
    return payload[_RATE.size :], _RATE.unpack_from(payload)[0]


async def answer(path: str, call: Callable[[Line], Awaitable[None]]) -> None:
    """Takes calls at the socket ``path`` for ever, each with ``call``."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer)
        try:
            await call(line)
        finally:
            await line.aclose()

    async with await asyncio.start_unix_server(take, path) as server:
        await server.serve_forever()


async def dial(path: str) -> Line:
    """Calls the agent at ``path``.

    Raises:
        OSError: nobody answers there.
    """
    return Line(*await asyncio.open_unix_connection(path))
