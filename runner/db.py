"""``task=db``: where the database is, a copy of it, and the way back."""

import shlex
import shutil
from pathlib import Path

import psycopg

from runner import backup, database, pgwheel
from runner.config import Config, DbTask
from runner.dbserver import Server
from runner.errors import DatabaseError, ServiceError
from runner.progress import Progress
from runner.stack import Need, stack


async def main(config: Config) -> int:
    """Prints the address, without a password; or what has been copied.

    Raises:
        RunnerError: the database or the file does not serve; nothing has changed then.
    """
    task = config.task
    assert isinstance(task, DbTask)
    path = Path(task.file).expanduser()  # noqa: ASYNC240  before anything runs
    manifest = backup.read_manifest(path) if task.action == "restore" else None
    with Progress() as progress:
        async with stack(config, frozenset({Need.POSTGRES}), progress) as running:
            server = Server(config.database, running.endpoints.postgres_socket)
            await database.prepare(config.database, server.socket_dir, config.agent)
            if task.action == "url":
                print(_where(server))
                return 0
            try:
                async with await server.enter() as connection:
                    if manifest is None:
                        manifest = await backup.backup(connection, path, progress)
                    else:
                        await backup.restore(
                            connection,
                            path,
                            manifest,
                            config.agent,
                            progress,
                            overwrite=task.overwrite,
                        )
            except psycopg.Error as error:
                raise DatabaseError(await server.explain(error)) from error
    done = "copied to" if task.action == "backup" else "restored from"
    print(f"{manifest.rows} rows of {len(manifest.tables)} tables were {done} {path}.")
    return 0


def _where(server: Server) -> str:
    """The address; for the embedded server also how psql gets there while a runner runs."""
    if server.socket_dir is None:
        return server.address
    words = (_psql(), "-h", server.host, "-U", server.user, "-d", server.database.name)
    return f"{server.address}\n{shlex.join(words)}"


def _psql() -> str:
    """The machine's, else the one beside the embedded server."""
    if shutil.which("psql"):
        return "psql"
    try:
        return str(pgwheel.binaries(Path(), shared=False) / "psql")
    except ServiceError:
        return "psql"
