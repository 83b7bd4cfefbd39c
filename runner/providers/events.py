"""Server-sent events, as servers send them and as the HTML standard has them."""

from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from typing import NamedTuple

_LINE_BYTES = 1_000_000
_STREAM_BYTES = 32_000_000


class Event(NamedTuple):
    """An event's name, empty for most, and its data."""

    name: str
    data: str


async def events(body: AsyncIterable[bytes]) -> AsyncGenerator[Event, None]:
    """The events of a body that comes in pieces; comments, the usual keep-alive, are none.

    A body that begins like JSON is one event, whole: some servers answer so though a stream was
    asked for. llama.cpp's ``error:`` lines are events of that name. An event that the end of the
    body cuts short is dropped.

    Raises:
        ValueError: no UTF-8, a web page, or longer than a sane answer.
    """
    lines, reader = _Lines(), _Reader()
    async for piece in body:
        for line in lines.split(piece):
            if event := reader.take(line):
                yield event
    if event := reader.end(lines.rest):
        yield event


class _Lines:
    """Cuts a stream of bytes at LF, CRLF and CR."""

    def __init__(self) -> None:
        self.rest = b""
        self._after_cr = False
        self._read_bytes = 0

    def split(self, piece: bytes) -> Iterator[str]:
        """The lines that ``piece`` completes."""
        self._read_bytes += len(piece)
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        self._after_cr = piece.endswith(b"\r")
        text = self.rest + piece
        *whole, self.rest = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        if len(self.rest) > _LINE_BYTES or self._read_bytes > _STREAM_BYTES:
            raise ValueError("the stream is too long")
        for line in whole:
            yield line.decode()


class _Reader:
    """Makes events of lines."""

    def __init__(self) -> None:
        self._name = ""
        self._data: list[str] = []
        self._json: list[str] | None = None
        self._json_chars = 0
        self._begun = False

    def take(self, line: str) -> Event | None:
        """The event that ``line`` completes."""
        if not self._begun and (start := line.lstrip("\ufeff \t")):
            self._begun = True
            if start.startswith("<"):
                raise ValueError("the answer is a web page")
            self._json = [] if start.startswith(("{", "[")) else None
            line = start
        if self._json is not None:
            self._keep(line)
            return None
        if not line:
            return self._complete()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "data":
                self._data.append(value)
            case "event":
                self._name = value
            case "error":
                return Event("error", value)
        return None

    def end(self, rest: bytes) -> Event | None:
        """What is left when the body has ended after the unfinished line ``rest``."""
        if not self._begun and rest.lstrip(b"\xef\xbb\xbf \t").startswith((b"{", b"[")):
            self._json = []
        if self._json is None:
            return None
        return Event("", "\n".join([*self._json, rest.decode()]))

    def _keep(self, line: str) -> None:
        assert self._json is not None
        self._json.append(line)
        self._json_chars += len(line)
        if self._json_chars > _LINE_BYTES:
            raise ValueError("the answer is too long")

    def _complete(self) -> Event | None:
        event = Event(self._name, "\n".join(self._data)) if self._data else None
        self._name, self._data = "", []
        return event
