"""What operators changed."""

from typing import Annotated

from pydantic import AwareDatetime, Field, JsonValue

from runner.operator.archive import Archive
from runner.operator.routes import Given, Number, Route, Shown


class Wanted(Given):
    """``before``: the last page's ``next``."""

    before: Number | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class Entry(Shown):
    """A change."""

    id: int
    at: AwareDatetime
    who: str
    what: str
    before: JsonValue
    after: JsonValue


class Changes(Shown):
    """The latest first. ``next``: give it as ``before``; null: there are no more."""

    entries: list[Entry]
    next: int | None


class Audit:
    """The table ``operator_audit``."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def routes(self) -> list[Route]:
        """What is served of it."""
        return [Route("GET", "/api/audit", self.page)]

    async def page(self, query: Wanted) -> Changes:
        """Who changed what, a page at a time."""
        found = await self._archive.changes(query.before, query.limit + 1)
        entries = [Entry(**row) for row in found[: query.limit]]
        return Changes(entries=entries, next=entries[-1].id if len(found) > query.limit else None)
