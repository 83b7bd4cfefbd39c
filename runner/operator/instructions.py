"""What the agent is told and how it greets: written, tried, put back."""

from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, StringConstraints

from runner.config import language_tag
from runner.operator.archive import Archive
from runner.operator.routes import Actor, Done, Given, Number, Plain, Refused, Route, Shown
from runner.personas import Draft, Persona, Personas, Version

_LONGEST = 100_000  # characters; an LLM's context is a fraction of it

Words = Annotated[Plain, StringConstraints(min_length=1, max_length=_LONGEST)]
Language = Annotated[
    str,
    StringConstraints(max_length=10, pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$"),
    AfterValidator(language_tag),
]
Called = Annotated[Plain, StringConstraints(min_length=1, max_length=255)]
Greeting = Annotated[Plain, StringConstraints(max_length=10_000)]


class RowId(Given):
    """Of a row."""

    id: Number


class VersionNumber(Given):
    """Of a version, whichever row it is of."""

    version: Number


class New(Given):
    """A new row. An empty greeting: the agent waits for the caller to speak."""

    name: Called
    language: Language
    greeting: Greeting = ""
    instructions: Words


class Changed(Given):
    """What is left out stays as it is."""

    name: Called | None = None
    language: Language | None = None
    greeting: Greeting | None = None
    instructions: Words | None = None


class Instructions(Shown):
    """A row. ``in_use``: callers of its language get it."""

    id: int
    name: str
    language: str | None
    greeting: str | None
    instructions: str
    is_active: bool
    is_local_mode: bool
    in_use: bool
    updated_at: AwareDatetime | None


class Content(Shown):
    """A row's words."""

    name: str | None
    language: str | None
    greeting: str | None
    instructions: str | None


class Change(Shown):
    """A version: what was done, when and by whom, and the row as it was after that."""

    version: int
    change: str
    changed_by: str | None
    changed_at: AwareDatetime | None
    content: Content


class Added(Done):
    """The new row."""

    id: int


class InstructionsApi:
    """The rows of ``agent_instructions``."""

    def __init__(self, personas: Personas, archive: Archive) -> None:
        self._personas = personas
        self._archive = archive

    def routes(self) -> list[Route]:
        """What is served of them."""
        row = "/api/instructions/{id}"
        gone = {404: "There is no such row."}
        last = gone | {409: "It cannot be (de)activated. The sentence says why."}
        restore = "/api/instructions/history/{version}/restore"
        return [
            Route("GET", "/api/instructions", self.all),
            Route("POST", "/api/instructions", self.add),
            Route("POST", restore, self.restore, {404: "There is no such version."}),
            Route("GET", f"{row}/history", self.history, gone),
            Route("PUT", row, self.edit, gone),
            Route("POST", f"{row}/activate", self.activate, last),
            Route("POST", f"{row}/deactivate", self.deactivate, last),
        ]

    async def all(self) -> list[Instructions]:
        """Every row, by language."""
        return [Instructions.model_validate(row) for row in await self._personas.all()]

    async def history(self, place: RowId) -> list[Change]:
        """The versions of a row, the latest first."""
        await self._row(place.id)
        return [_change(version) for version in await self._personas.versions(place.id)]

    async def add(self, body: New, by: Actor) -> Added:
        """Add a row. It is not active yet."""
        draft = Draft(body.name, body.instructions, body.greeting, body.language)
        await self._archive.note(by, "add instructions", body.name, after=body.model_dump())
        number = await self._personas.add(draft)
        return Added(done=f"{body.name} is added. Activate it for callers to get it.", id=number)

    async def edit(self, place: RowId, body: Changed, by: Actor) -> Done:
        """Change a row. If it is active, the next caller gets it so."""
        row = await self._row(place.id)
        after = body.model_dump(exclude_none=True)
        before = {name: getattr(row, name) for name in after}
        await self._archive.note(by, "edit instructions", _named(row), before, after)
        draft = Draft(body.name, body.instructions, body.greeting, body.language)
        await self._personas.edit(row.id, draft)
        return Done(done=f"{row.name} is changed.")

    async def activate(self, place: RowId, by: Actor) -> Done:
        """Make a row the only active one of its language: the next caller gets it."""
        row = await self._row(place.id)
        if not row.is_local_mode:
            raise Refused(409, "This runner does not use rows whose is_local_mode is false.")
        await self._note(by, "activate", row, active=True)
        await self._personas.activate(row.id)
        return Done(done=f"The next caller gets {row.name}.")

    async def deactivate(self, place: RowId, by: Actor) -> Done:
        """Make a row inactive, unless it is the last active one."""
        row = await self._row(place.id)
        await self._note(by, "deactivate", row, active=False)
        if row.is_active and not await self._personas.deactivate(row.id):
            raise Refused(409, "It is the last active one. Activate another one instead.")
        return Done(done=f"{row.name} is not active any more.")

    async def restore(self, place: VersionNumber, by: Actor) -> Done:
        """Put an older version back into its row."""
        version = await self._personas.version(place.version)
        if version is None:
            raise Refused(404, "There is no such version.")
        rows = [row for row in await self._personas.all() if row.id == version.instructions_id]
        before = _words(rows[0]) if rows else None
        await self._archive.note(
            by, "restore instructions", f"{version.instructions_id}", before, version.content
        )
        number = await self._personas.restore(place.version)
        return Done(done=f"Row {number} is as it was in version {place.version}.")

    async def _row(self, number: int) -> Persona:
        for row in await self._personas.all():
            if row.id == number:
                return row
        raise Refused(404, "There are no such instructions.")

    async def _note(self, by: Actor, action: str, row: Persona, *, active: bool) -> None:
        before, after = {"is_active": row.is_active}, {"is_active": active}
        await self._archive.note(by, f"{action} instructions", _named(row), before, after)


def _named(row: Persona) -> str:
    return f"{row.id} ({row.name})"


def _words(row: Persona) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("name", "language", "greeting", "instructions")}


def _change(version: Version) -> Change:
    content = version.content
    return Change(
        version=version.version,
        change=version.change,
        changed_by=version.changed_by,
        changed_at=version.changed_at,
        content=Content(
            name=content.get("name"),
            language=content.get("language"),
            greeting=content.get("initial_greeting"),
            instructions=content.get("instructions"),
        ),
    )
