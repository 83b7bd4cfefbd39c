"""The embedded PostgreSQL: its folders, who owns it, its process.

One runner owns the server: a lock in the data folder says which, for as long as that process
lives. Others are its guests. The server listens on a Unix socket alone, in a folder that only its
own account and root can enter: that folder is the access control, and log-ins are trusted.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import signal
import time
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from runner import pgcluster
from runner.child import Command
from runner.dbserver import EMBEDDED_PORT, EMBEDDED_USER
from runner.errors import ServiceError
from runner.pgwheel import binaries
from runner.services import Report, Service

_NAME = "postgres"
_SOCKET = f".s.PGSQL.{EMBEDDED_PORT}"
_LONGEST_SOCKET_BYTES = 103  # sockaddr_un.sun_path and its NUL: 108 on Linux, 104 on macOS
_POLL_S = 0.05
_LOCK_TRIES = 20  # a guest that looks whether there is an owner holds the lock for a moment
_STARTING_S = 30.0
_CONNECT_TIMEOUT_S = 2
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "512MB",  # holds the index of 100,000 embeddings; less halves its speed
    "timezone": "UTC",  # the schema's times name no zone, and this one never jumps
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
# glibc would give the memory of a search back after each one: a hundred pages, fetched again by the
# next, are a quarter of its time.
_ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": "4194304"}
_OWNED: set[Path] = set()  # data folders whose lock this process holds, until it ends


def socket_dir(data_dir: Path) -> str:
    """The folder of the server's socket: in ``data_dir``, or in /tmp if that path will not do."""
    folder = data_dir / "run"
    if len(os.fsencode(folder / _SOCKET)) > _LONGEST_SOCKET_BYTES or "," in str(folder):
        digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
        folder = Path("/tmp") / f"voice-agent-runner-{digest}"  # noqa: S108  see pgcluster.make_private
    return str(folder)


def find_running(data_dir: Path) -> str | None:
    """The socket's folder of the server that another runner owns; None: there is no such runner.

    Blocks while that runner is starting or stopping the server, up to 30 s.
    """
    deadline = time.monotonic() + _STARTING_S
    while _another_owns(data_dir) and time.monotonic() < deadline:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(_conninfo(data_dir)).close()
            return socket_dir(data_dir)
        time.sleep(_POLL_S)
    return None


def service(data_dir: Path) -> Service:
    """The server as a child process, with its cluster in ``data_dir``/postgres.

    Both of its functions raise ServiceError where waiting does not help: no wheel, a folder that
    cannot be used, a cluster of another version, another owner, a processor without AVX2.
    """
    owner = _Owner(data_dir)
    return Service(_NAME, owner.prepare, owner.ready, signal.SIGINT)  # SIGINT: a fast shutdown


class _Owner:
    """The one process that starts the server of a data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._vector_works = False

    async def prepare(self, report: Report) -> Command:
        """What to execute, once folders, binaries and cluster are in place."""
        try:
            return await self._prepare(report)
        except OSError as error:
            raise ServiceError(
                f"The database cannot be kept in {self._data_dir}: {error.strerror}. Set "
                "deployment.data_dir to a folder that can be written to."
            ) from error

    async def _prepare(self, report: Report) -> Command:
        cluster, sockets = self._data_dir / "postgres", Path(socket_dir(self._data_dir))
        pgcluster.make_data_dir(self._data_dir)
        await self._become_owner()
        account = pgcluster.account(cluster)
        pgcluster.let_enter(self._data_dir, account)
        programs = binaries(self._data_dir, shared=account is not None)
        if not cluster.exists():
            report(_NAME, f"creating a database in {cluster}, this once")
            await pgcluster.create(cluster, programs / "initdb", account)
        pgcluster.check_version(cluster)
        await pgcluster.end_orphan(cluster, sockets / _SOCKET)
        pgcluster.make_private(sockets, account)
        settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        argv = (programs / "postgres", "-D", cluster, "-k", sockets, "-p", EMBEDDED_PORT, *settings)
        return Command(tuple(map(str, argv)), cwd=cluster, user=account, env=_ENVIRONMENT)

    async def ready(self) -> bool:
        """Whether queries are answered, the first time also whether pgvector works here."""
        try:
            async with await psycopg.AsyncConnection.connect(
                _conninfo(self._data_dir), autocommit=True
            ) as connection:
                await connection.execute("SELECT 1")
                if not self._vector_works:
                    await _check_vector(connection)
                    self._vector_works = True
        except psycopg.OperationalError:
            return False
        return True

    async def _become_owner(self) -> None:
        """Take the lock for as long as this process lives."""
        if self._data_dir in _OWNED:
            return
        file = os.open(_lock_file(self._data_dir), os.O_RDWR | os.O_CREAT, 0o600)
        for _ in range(_LOCK_TRIES):
            if _try_lock(file, fcntl.LOCK_EX):
                _OWNED.add(self._data_dir)
                return
            await asyncio.sleep(_POLL_S)
        os.close(file)
        raise ServiceError(
            f"The database in {self._data_dir} belongs to another runner on this machine. Stop "
            "that one, or set deployment.data_dir to another folder."
        )


async def _check_vector(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
    try:
        async with connection.transaction(force_rollback=True):
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            await connection.execute("SELECT '[1]'::vector")
    except psycopg.OperationalError as error:
        if error.sqlstate:
            raise
        raise ServiceError(
            "The embedded pgvector does not run on this processor (it is built for AVX2). Start a "
            "PostgreSQL with pgvector of this machine's system, and set database.host and "
            "database.port (POSTGRES_HOST, POSTGRES_PORT) to where it runs."
        ) from error


def _conninfo(data_dir: Path) -> str:
    return make_conninfo(
        host=socket_dir(data_dir),
        port=EMBEDDED_PORT,
        user=EMBEDDED_USER,
        dbname="postgres",
        connect_timeout=_CONNECT_TIMEOUT_S,
    )


def _another_owns(data_dir: Path) -> bool:
    if data_dir in _OWNED:
        return False
    try:
        file = os.open(_lock_file(data_dir), os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _try_lock(file, fcntl.LOCK_SH)
    finally:
        os.close(file)


def _lock_file(data_dir: Path) -> Path:
    return data_dir / "postgres.lock"


def _try_lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
