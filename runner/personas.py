"""The rows of ``agent_instructions`` as those see them who look after them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runner.store import Store

_HISTORY_ROWS = 200


@dataclass(frozen=True)
class Persona:
    """A row. ``in_use``: callers of its language get it."""

    id: int
    name: str
    instructions: str
    greeting: str | None
    language: str | None
    is_active: bool
    is_local_mode: bool
    updated_at: datetime | None
    in_use: bool


@dataclass(frozen=True)
class Version:
    """A row as it was after a change (``removed``: before it), and ``before`` as it had been."""

    version: int
    instructions_id: int
    change: str
    content: dict[str, Any]
    changed_by: str | None
    changed_at: datetime | None
    before: dict[str, Any] | None


@dataclass(frozen=True)
class Draft:
    """What is written into a row; None: as it is."""

    name: str | None
    instructions: str | None
    greeting: str | None
    language: str | None


class Personas(Store):
    """Changes them, each in one statement. The database keeps the history by itself.

    All methods raise `DatabaseError` when the database does not carry them out.
    """

    async def all(self) -> list[Persona]:
        """Every row, by language."""
        result = await self._run("all_instructions")
        return [Persona(**row) for row in result.mappings()]

    async def add(self, draft: Draft) -> int:
        """A new row, not active; its id."""
        result = await self._run("add_instructions", **vars(draft))
        return int(result.scalar_one())

    async def edit(self, row: int, draft: Draft) -> None:
        """Writes what ``draft`` has."""
        await self._run("edit_instructions", id=row, **vars(draft))

    async def activate(self, row: int) -> list[str]:
        """Makes a row the only active one of its language; the names of those that were."""
        result = await self._run("activate_instructions", id=row)
        return [other.name for other in result if not other.is_active]

    async def deactivate(self, row: int) -> bool:
        """Makes a row inactive; False: it is the last active one, and stays so."""
        return (await self._run("deactivate_instructions", id=row)).rowcount > 0

    async def versions(self, row: int | None) -> list[Version]:
        """The latest changes of a row, or of all, the last one first."""
        result = await self._run("instructions_history", id=row, limit=_HISTORY_ROWS)
        return [Version(**row) for row in result.mappings()]

    async def version(self, number: int) -> Version | None:
        """One version, whichever row it is of."""
        result = await self._run("instructions_version", version=number)
        row = result.mappings().one_or_none()
        return Version(**row) if row else None

    async def restore(self, version: int) -> int:
        """Puts an older version back; the id of its row."""
        result = await self._run("restore_instructions", version=version)
        return int(result.scalar_one())
