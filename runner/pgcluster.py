"""The folders of an embedded PostgreSQL: whose they are, what is in them, making them."""

import asyncio
import errno
import os
import pwd
import shutil
import signal
import stat
from pathlib import Path

import psutil

from runner.child import Child, Command
from runner.dbserver import EMBEDDED_USER
from runner.errors import ServiceError
from runner.pgwheel import MAJOR_VERSION

_ACCOUNTS = ("postgres", "nobody")  # the first that the machine has
_LEAST_FREE_MB = 100  # a new cluster takes 39 MB, and its log grows by 16 MB at a time
_MB = 1024 * 1024
_ORPHAN_S = 10.0


def make_data_dir(folder: Path) -> None:
    """Make the runner's data folder, and see that there is room in it."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (free_mb := shutil.disk_usage(folder).free // _MB) < _LEAST_FREE_MB:
        raise ServiceError(
            f"The disk of {folder} (deployment.data_dir) has {free_mb} MB free, and the database "
            f"needs {_LEAST_FREE_MB} MB. Free some, or set deployment.data_dir to another disk."
        )


def account(cluster: Path) -> str | None:
    """Who PostgreSQL runs as, where the runner is root: PostgreSQL refuses to be root.

    The owner of an existing cluster; for a new one ``postgres`` or ``nobody``.
    """
    if os.geteuid() != 0:
        return None
    if not cluster.exists():
        return next(name for name in _ACCOUNTS if _exists(name))
    try:
        return cluster.owner()
    except KeyError:
        raise ServiceError(
            f"The database in {cluster} belongs to the user number {cluster.stat().st_uid}, whom "
            "this machine does not know. Give it with chown -R to the account nobody."
        ) from None


def _exists(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True


def let_enter(data_dir: Path, account: str | None) -> None:
    """See that ``account`` gets through ``data_dir`` to its own folders in there."""
    if account is None:
        return
    data_dir.chmod(data_dir.stat().st_mode | 0o011)
    for folder in data_dir.parents:
        if not folder.stat().st_mode & 0o001:
            raise ServiceError(
                f"The database cannot be kept in {data_dir}: for root it runs as the account "
                f"{account}, which may not enter {folder}. Set deployment.data_dir to a folder "
                "elsewhere, such as /var/lib/voice-agent-runner."
            )


def make_private(folder: Path, account: str | None) -> None:
    """A folder that only ``account`` (None: this one) and root can enter.

    One that is there already must be so: below /tmp it could be anybody's.
    """
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        status = folder.lstat()
        owner = os.geteuid() if account is None else pwd.getpwnam(account).pw_uid
        private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
        if status.st_uid != owner or not private:
            raise ServiceError(
                f"{folder} is in the way: the database would keep its socket there, but it can be "
                "entered by others. Remove it."
            ) from None
    else:
        if account is not None:
            shutil.chown(folder, account, pwd.getpwnam(account).pw_gid)


async def create(cluster: Path, initdb: Path, account: str | None) -> None:
    """A new cluster, whole or not at all."""
    draft = cluster.with_name(f"{cluster.name}.new")
    shutil.rmtree(draft, ignore_errors=True)  # of a runner that was killed meanwhile
    make_private(draft, account)
    options = ("-U", EMBEDDED_USER, "-E", "UTF8", "--no-locale", "--no-instructions")
    logins = ("--auth-local=trust", "--auth-host=reject")
    argv = (str(initdb), "-D", str(draft), *options, *logins)
    child = await Child.spawn("initdb", Command(argv, cwd=draft, user=account))
    try:
        how = await child.wait()
    finally:
        await child.stop()
    if how != "ended with status 0":
        raise ServiceError(
            f"The database cannot be created in {cluster} (deployment.data_dir): initdb {how}. "
            f"{child.last_words()}"
        )
    draft.rename(cluster)


def check_version(cluster: Path) -> None:
    """See that the cluster was made by this major version: PostgreSQL reads no other's files."""
    try:
        version = (cluster / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise ServiceError(
            f"{cluster} is not a database. Move it away, or set deployment.data_dir to another "
            "folder."
        ) from None
    if version != MAJOR_VERSION:
        raise ServiceError(
            f"The database in {cluster} was made by PostgreSQL {version}, and the embedded one is "
            f"{MAJOR_VERSION}. Move it over with pg_dump and pg_restore, or set "
            "deployment.data_dir to another folder."
        )


async def end_orphan(cluster: Path, socket: Path) -> None:
    """End the server that a dead runner left behind, and unlock what a dead server locked."""
    pid_file = cluster / "postmaster.pid"
    process = _named_in(pid_file)
    if process is None:
        return  # PostgreSQL itself clears away what a dead process left
    if not _runs_in(cluster, process):
        # The number is another program's by now, and PostgreSQL would take that for a server.
        for file in (pid_file, socket, socket.with_name(f"{socket.name}.lock")):
            file.unlink(missing_ok=True)
        return
    process.send_signal(signal.SIGINT)
    try:
        await asyncio.to_thread(process.wait, _ORPHAN_S)
    except psutil.TimeoutExpired:
        raise ServiceError(
            f"The server of an earlier run still works on {cluster} (deployment.data_dir) and does "
            f"not end. End it by hand: kill -INT {process.pid}"
        ) from None


def _named_in(pid_file: Path) -> psutil.Process | None:
    """The living process whose number is in ``pid_file``."""
    try:
        return psutil.Process(int(pid_file.read_text().split(maxsplit=1)[0]))
    except (FileNotFoundError, ValueError, IndexError, psutil.NoSuchProcess):
        return None


def _runs_in(folder: Path, process: psutil.Process) -> bool:
    """Whether ``folder`` is where ``process`` works, as a server does in its cluster."""
    try:
        return Path(process.cwd()) == folder.resolve()
    except psutil.Error:
        return False
