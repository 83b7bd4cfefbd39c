"""The calls of this worker as they are now: each job tells of its own over its line
(`runner.line`). Nothing that a caller said is kept beyond the call.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Told = dict[str, Any]
"""A message as the page gets it (`runner.sessions.Turn.line`); ``interim``: so far."""

Attend = Callable[[bool], None]
"""Tells a call whether somebody listens to its captions."""

_WAITING_CAPTIONS = 100
_WAITING_INTERIM = 20  # the place of the others is kept for whole messages


@dataclass(frozen=True)
class Caller:
    """Who calls: known when the session is open. ``provider``: the LLM that is asked first."""

    session_id: str | None = None
    caller: str | None = None
    provider: str | None = None
    language: str | None = None


@dataclass
class Call:
    """A call that is on. ``turns`` counts the answers; ``last``: of the latest one who served it,
    and its times, without its words."""

    room: str
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    who: Caller = field(default_factory=Caller)
    state: str = "initializing"
    turns: int = 0
    last: Told | None = None
    attend: Attend = field(default=lambda _: None, repr=False)


class Calls:
    """All of them, the oldest first. ``begun`` hears of every call, ``hear`` of every turn."""

    def __init__(
        self, *hear: Callable[[Call, Told], None], begun: Callable[[], None] = lambda: None
    ) -> None:
        self._hear = hear
        self._begun = begun
        self._calls: dict[str, Call] = {}
        self._captions: dict[str, set[asyncio.Queue[Told | None]]] = {}
        self._changes = 0

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._calls.values()))

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def changes(self) -> int:
        """Counts up whenever a call begins, says something, or ends."""
        return self._changes

    def get(self, room: str) -> Call | None:
        """The call in a room."""
        return self._calls.get(room)

    def begin(self, room: str, attend: Attend = lambda _: None) -> Call:
        """A job is in ``room``; it takes the place of one that died there. ``attend`` is told when
        its captions are listened to, and when no longer."""
        before = self._calls.pop(room, None)
        call = self._calls[room] = Call(room, attend=attend)
        self._attend(room)
        if before is None:
            self._begun()
        self._changes += 1
        return call

    def introduce(self, call: Call, who: Caller) -> None:
        """Takes note of who calls."""
        call.who = who
        self._changes += 1

    def be(self, call: Call, state: str) -> None:
        """Takes note of what the agent does: such as listening, thinking or speaking."""
        call.state = state

    def turn(self, call: Call, told: Told) -> None:
        """Hands a message on to those who listen to the captions, and to ``hear``."""
        if told["role"] == "assistant":
            call.turns += 1
            call.last = {name: told[name] for name in ("stages_s", "served_by", "services")}
            self._changes += 1
        self._tell(call, told, _WAITING_CAPTIONS)
        for hear in self._hear:
            hear(call, told)

    def caption(self, call: Call, role: str, text: str) -> None:
        """Hands on what ``role`` said so far, to those who keep up."""
        self._tell(call, {"role": role, "text": text, "interim": True}, _WAITING_INTERIM)

    def end(self, call: Call) -> None:
        """The call is over, or its job is dead."""
        if self._calls.get(call.room) is call:
            del self._calls[call.room]
            self._tell(call, None, _WAITING_CAPTIONS)
        self._changes += 1

    @contextmanager
    def captions(self, room: str) -> Iterator[asyncio.Queue[Told | None]]:
        """What is said in a room from now on, while it is said and once it was; None: the call is
        over. One who does not read misses what has no place."""
        heard: asyncio.Queue[Told | None] = asyncio.Queue(_WAITING_CAPTIONS)
        listeners = self._captions.setdefault(room, set())
        listeners.add(heard)
        self._attend(room)
        try:
            yield heard
        finally:
            listeners.discard(heard)
            if not listeners:
                self._captions.pop(room, None)
                self._attend(room)

    def _attend(self, room: str) -> None:
        if call := self._calls.get(room):
            call.attend(room in self._captions)

    def _tell(self, call: Call, told: Told | None, most: int) -> None:
        for captions in self._captions.get(call.room, ()):
            if captions.qsize() < most:
                captions.put_nowait(told)
