"""What the operator's page reads and writes of the tables."""

from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from runner.operator.routes import Actor
from runner.store import Store, storable

_MOST_MESSAGES = 5000  # of a conversation; a call of hours has a few hundred

Row = dict[str, Any]


class Archive(Store):
    """Sessions, documents, settings, and the changes that operators made.

    All methods raise `DatabaseError` when the database does not carry them out.
    """

    _file = "operator.sql"

    async def sessions(self, search: str, before: int | None, limit: int) -> list[Row]:
        """A page of sessions, the latest first; ``before``: an id, for the next page."""
        wanted = storable(search.strip())
        return await self._rows("sessions", search=wanted, before=before, limit=limit)

    async def session(self, session_id: UUID) -> Row | None:
        """One of them."""
        found = await self._rows("session", session_id=session_id)
        return found[0] if found else None

    async def messages(self, session_id: UUID) -> list[Row]:
        """What was said in it."""
        return await self._rows("messages", session_id=session_id, limit=_MOST_MESSAGES)

    async def end_call(self, room: str) -> None:
        """Ends the session of a room."""
        await self._run("end_call", room=storable(room))

    async def indexed(self) -> dict[str, Row]:
        """The documents that are indexed, by name."""
        return {row["filename"]: row for row in await self._rows("indexed")}

    async def failed(self) -> dict[str, str]:
        """Why files are not, by name."""
        return {row["filename"]: row["reason"] for row in await self._rows("failed")}

    async def index_again(self, filename: str) -> None:
        """Makes the indexer take a file for a changed one."""
        await self._run("forget_hash", filename=filename)
        await self._run("forget_failure", filename=filename)

    async def set_setting(self, key: str, value: object, description: str) -> None:
        """Writes a row of ``system_config``."""
        await self._run(
            "set_setting", key=key, value=Jsonb(storable(value)), description=description
        )

    async def delete_setting(self, key: str) -> None:
        """Removes one that is a setting."""
        await self._run("delete_setting", key=key)

    async def note(
        self, by: Actor, action: str, subject: str, before: object = None, after: object = None
    ) -> None:
        """Writes down a change. It is done before the change, so that none is made unseen."""
        await self._run(
            "note_change",
            by=str(by),
            action=action,
            subject=storable(subject),
            before=None if before is None else Jsonb(storable(before)),
            after=None if after is None else Jsonb(storable(after)),
        )

    async def changes(self, before: int | None, limit: int) -> list[Row]:
        """A page of what was changed, the latest first."""
        return await self._rows("changes", before_id=before, limit=limit)

    async def _rows(self, query: str, **values: object) -> list[Row]:
        result = await self._run(query, **values)
        return [dict(row) for row in result.mappings()]
