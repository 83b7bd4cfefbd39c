"""A copy of the database in one file, and the way back into it: all of it or nothing.

The file is a ZIP archive: ``manifest.json``, and a file a table in the text format of COPY. It is
of no PostgreSQL version, and needs neither pg_dump nor extensions (docs/decisions/0013).
"""

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Composed, Identifier

from runner import sql
from runner.config import Agent
from runner.dbserver import SCHEMA_VERSION, Connection
from runner.errors import DatabaseError

TABLES = {
    "agent_instructions": "id",
    "agent_instructions_history": "version",
    "agent_sessions": "id",
    "conversation_messages": "id",
    "system_config": None,
    "conversation_archive": None,
    "operator_audit": "id",
    "rag_documents": "id",
}
"""What is copied, in the order in which it comes back, and the columns that count. Not the workers:
those that lived then are not those that live now."""

_FORMAT = 1
_MANIFEST = "manifest.json"
_LONGEST_MANIFEST_BYTES = 1024 * 1024
_PIECE_BYTES = 1024 * 1024
_OPTIONAL = "conversation_archive"
_NO_LIMIT = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '5s'"
_GO_ON_COUNTING = (
    "SELECT setval(pg_get_serial_sequence(%s, %s), coalesce(max({}), 1), max({}) IS NOT NULL) "
    "FROM {}"
)

Report = Callable[[str, str], None]


@dataclass(frozen=True)
class Copy:
    """A table in the file."""

    columns: list[str]
    rows: int


@dataclass(frozen=True)
class Manifest:
    """What the file holds."""

    format: int
    schema: int
    tables: dict[str, Copy]

    @property
    def rows(self) -> int:
        """Of all tables."""
        return sum(copy.rows for copy in self.tables.values())


async def backup(connection: Connection, path: Path, report: Report) -> Manifest:
    """Writes everything into ``path``, as it is at one moment; calls go on meanwhile.

    Raises:
        DatabaseError: the file cannot be written; there is none then.
        psycopg.Error: the server does not carry it out.
    """
    draft = path.with_name(f"{path.name}.part")
    try:
        with os.fdopen(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                manifest = await _copy_out(connection, archive, report)
                archive.writestr(_MANIFEST, json.dumps(asdict(manifest), indent=1))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError as error:
        raise DatabaseError(f"{path} (task.file) cannot be written: {error.strerror}.") from None
    finally:
        draft.unlink(missing_ok=True)
    return manifest


async def _copy_out(connection: Connection, archive: zipfile.ZipFile, report: Report) -> Manifest:
    copies = {}
    await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
    async with connection.transaction():
        await connection.execute(_NO_LIMIT)
        for table in TABLES:
            if columns := await _columns(connection, table):
                report(table, "copying")
                copies[table] = await _table_out(connection, archive, table, columns)
                report(table, f"ready, {copies[table].rows} rows")
    return Manifest(_FORMAT, SCHEMA_VERSION, copies)


async def _table_out(
    connection: Connection, archive: zipfile.ZipFile, table: str, columns: list[str]
) -> Copy:
    statement = _copy("COPY {} ({}) TO STDOUT", table, columns)
    async with connection.cursor() as cursor:
        with archive.open(_member(table), "w", force_zip64=True) as member:
            async with cursor.copy(statement) as copy:
                async for block in copy:
                    member.write(block)
        return Copy(columns, cursor.rowcount)


def read_manifest(path: Path) -> Manifest:
    """What ``path`` holds, once it is known to be whole.

    Raises:
        DatabaseError: it is no backup, is damaged, or of a newer runner.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_MANIFEST) as file:
            told: dict[str, Any] = json.loads(file.read(_LONGEST_MANIFEST_BYTES))
            copies = {name: Copy(**copy) for name, copy in told.pop("tables").items()}
            manifest = Manifest(**told, tables=copies)
            whole = archive.testzip() is None
    except OSError as error:
        raise DatabaseError(f"{path} (task.file) cannot be read: {error.strerror}.") from None
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, EOFError):
        whole = False
    if not whole:
        raise DatabaseError(f"{path} (task.file) is no backup, or a damaged one.")
    if manifest.format != _FORMAT or manifest.schema > SCHEMA_VERSION:
        raise DatabaseError(f"{path} (task.file) is of a newer runner. Restore it with that one.")
    return manifest


async def restore(
    connection: Connection,
    path: Path,
    manifest: Manifest,
    seed: Agent,
    report: Report,
    *,
    overwrite: bool,
) -> None:
    """Puts everything back, in one transaction, in place of what is there.

    Raises:
        DatabaseError: a runner works there; or there is something, and not ``overwrite``; or the
            file does not fit. Nothing has changed then.
        psycopg.Error: the server does not carry it out. Nothing has changed, either.
    """
    async with connection.transaction():
        await connection.execute(_NO_LIMIT)
        await _check_target(connection, seed, overwrite=overwrite)
        if _OPTIONAL in manifest.tables:
            await connection.execute(sql.queries()["create_archive"].encode())
        tables = [table for table in TABLES if await _columns(connection, table)]
        names = SQL(", ").join(map(Identifier, tables))
        await connection.execute(SQL("TRUNCATE {}").format(names))
        with zipfile.ZipFile(path) as archive:
            for table in tables:
                if table in manifest.tables:
                    report(table, "restoring")
                    await _table_in(connection, archive, table, manifest.tables[table])
                    report(table, f"ready, {manifest.tables[table].rows} rows")


async def _check_target(connection: Connection, seed: Agent, *, overwrite: bool) -> None:
    queries = sql.queries("backup.sql")
    [(users,)] = await (await connection.execute(queries["users"].encode())).fetchall()
    if users:
        raise DatabaseError("A runner works on this database. Stop it, then restore.")
    cursor = await connection.execute(queries["contents"].encode(), asdict(seed))
    [counts] = await cursor.fetchall()
    names = [column.name for column in cursor.description or []]
    there = [f"{name}: {count}" for name, count in zip(names, counts, strict=True) if count]
    if there and not overwrite:
        raise DatabaseError(
            f"The database is not empty ({', '.join(there)}). With task.overwrite=true all of it "
            "is deleted, and the backup takes its place."
        )


async def _table_in(
    connection: Connection, archive: zipfile.ZipFile, table: str, copy: Copy
) -> None:
    if unknown := set(copy.columns) - set(await _columns(connection, table)):
        raise DatabaseError(f"The backup does not fit: {table} has no column {min(unknown)}.")
    # Triggers of the tables before it may have written some rows already.
    await connection.execute(SQL("DELETE FROM {}").format(Identifier(table)))
    statement = _copy("COPY {} ({}) FROM STDIN", table, copy.columns)
    async with connection.cursor() as cursor:
        with archive.open(_member(table)) as member:
            async with cursor.copy(statement) as incoming:
                while block := member.read(_PIECE_BYTES):
                    await incoming.write(block)
        if cursor.rowcount != copy.rows:
            raise DatabaseError(f"The backup is damaged: {table} has not {copy.rows} rows.")
    if counted := TABLES[table]:
        column, name = Identifier(counted), Identifier(table)
        statement = SQL(_GO_ON_COUNTING).format(column, column, name)
        await connection.execute(statement, [table, counted])


async def _columns(connection: Connection, table: str) -> list[str]:
    query = sql.queries("backup.sql")["columns"].encode()
    return [
        name for (name,) in await (await connection.execute(query, {"table": table})).fetchall()
    ]


def _copy(statement: str, table: str, columns: list[str]) -> Composed:
    return SQL(statement).format(Identifier(table), SQL(", ").join(map(Identifier, columns)))


def _member(table: str) -> str:
    return f"{table}.copy"
