"""Conversations that were, and those that are: found, and replayed."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from runner.operator.archive import Archive
from runner.operator.routes import Given, Number, Plain, Refused, Route, Shown

_PAGE = 50


class Wanted(Given):
    """``search``: a part of a caller's, room's or provider's name or of a session's id, or words
    that one of its messages holds. ``before``: the last page's ``next``."""

    search: Annotated[Plain, StringConstraints(max_length=200)] = ""
    before: Number | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = _PAGE


class SessionId(Given):
    """Of a session."""

    session_id: UUID


class Session(Shown):
    """A conversation."""

    id: int
    session_id: UUID
    room: str | None
    caller: str | None
    began_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    status: str | None
    provider: str | None
    messages: int
    language: str | None


class Page(Shown):
    """The latest first. ``next``: give it as ``before``; null: there are no more."""

    sessions: list[Session]
    next: int | None


class Message(Shown):
    """What was said. ``metadata``: who served it, from what, and how long each stage took."""

    role: str
    content: str
    created_at: AwareDatetime | None
    metadata: dict[str, Any] | None


class Replay(Shown):
    """A conversation, whole."""

    session: Session
    messages: list[Message]


class Sessions:
    """Those in the database."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def routes(self) -> list[Route]:
        """What is served of them."""
        return [
            Route("GET", "/api/sessions", self.page),
            Route("GET", "/api/sessions/{session_id}", self.replay),
        ]

    async def page(self, query: Wanted) -> Page:
        """Sessions, a page at a time."""
        found = await self._archive.sessions(query.search, query.before, query.limit + 1)
        sessions = [Session(**row) for row in found[: query.limit]]
        return Page(sessions=sessions, next=sessions[-1].id if len(found) > query.limit else None)

    async def replay(self, place: SessionId) -> Replay:
        """A session with its messages in order."""
        session = await self._archive.session(place.session_id)
        if session is None:
            raise Refused(404, "There is no such session. It may have been forgotten.")
        messages = await self._archive.messages(place.session_id)
        return Replay(
            session=Session(**session), messages=[Message(**message) for message in messages]
        )
