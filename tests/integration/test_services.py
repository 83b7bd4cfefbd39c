"""Child processes, real ones: they get ready, come back when they die, and never outlive us."""

import asyncio
import contextlib
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from runner import child, guard, services
from runner.errors import ServiceError
from runner.services import Command, Report, Service, Supervisor, port_taken

PATIENCE_S = 60.0  # a test that waits longer has failed
FOREVER = "import time; time.sleep(10_000)"


class Diary:
    """A `Report` that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __call__(self, name: str, message: str) -> None:
        self.lines.append((name, message))

    def of(self, name: str) -> str:
        return "\n".join(message for owner, message in self.lines if owner == name)


def service(
    name: str,
    folder: Path,
    code: str,
    *,
    stop_signal: signal.Signals = signal.SIGTERM,
    user: str | None = None,
) -> Service:
    """A Python program that is ready once it has written ``<name>.pid``."""
    mark = folder / f"{name}.pid"
    begin = f"import os; open({str(mark)!r}, 'w').write(str(os.getpid())); "

    async def prepare(_: Report) -> Command:
        mark.unlink(missing_ok=True)
        return Command((sys.executable, "-c", begin + code), user=user)

    async def ready() -> bool:
        return mark.exists() and mark.read_text() != ""

    return Service(name, prepare, ready, stop_signal)


def pid_of(folder: Path, name: str) -> int:
    return int((folder / f"{name}.pid").read_text())


def lives(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  another process makes it true
            await asyncio.sleep(0.01)


async def test_services_are_ready_when_start_returns_and_gone_after_the_block(
    tmp_path: Path,
) -> None:
    diary = Diary()
    async with Supervisor(diary, PATIENCE_S) as supervisor:
        await supervisor.start([service(name, tmp_path, FOREVER) for name in ("one", "two")])
        pids = [pid_of(tmp_path, name) for name in ("one", "two")]
        assert all(lives(pid) for pid in pids)
    assert not any(lives(pid) for pid in pids)
    assert diary.of("one").splitlines()[0] == "starting"
    assert diary.of("two").splitlines()[-1].startswith("ready in ")


async def test_services_start_side_by_side(tmp_path: Path) -> None:
    met = asyncio.Barrier(2)

    async def prepare(_: Report) -> Command:
        await met.wait()  # one after the other would wait here for ever
        return Command((sys.executable, "-c", FOREVER))

    async def ready() -> bool:
        return True

    async with asyncio.timeout(PATIENCE_S), Supervisor(Diary(), PATIENCE_S) as supervisor:
        await supervisor.start([Service(name, prepare, ready) for name in ("one", "two")])


async def test_services_get_their_own_stop_signal_the_last_one_first(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def farewell(name: str, number: signal.Signals) -> Service:
        code = (
            f"import signal, sys\n"
            f"def end(number, frame):\n"
            f"    open({str(log)!r}, 'a').write('{name} ' + signal.Signals(number).name + '\\n')\n"
            f"    sys.exit()\n"
            f"signal.signal(signal.{number.name}, end)\n"
            f"open({str(tmp_path / f'{name}.up')!r}, 'w')\n"
            f"signal.pause()"
        )

        async def prepare(_: Report) -> Command:
            return Command((sys.executable, "-c", code))

        async def ready() -> bool:
            return (tmp_path / f"{name}.up").exists()

        return Service(name, prepare, ready, number)

    async with Supervisor(Diary(), PATIENCE_S) as supervisor:
        await supervisor.start(
            [farewell("first", signal.SIGINT), farewell("second", signal.SIGTERM)]
        )
    assert log.read_text().splitlines() == ["second SIGTERM", "first SIGINT"]


async def test_a_child_that_ignores_its_stop_signal_is_killed_with_its_own_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_STOP_EVERY_S", 0.01)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    parent = deaf + _with_grandchild(tmp_path)
    async with Supervisor(Diary(), PATIENCE_S) as supervisor:
        await supervisor.start([service("parent", tmp_path, parent)])
        await until((tmp_path / "grandchild.pid").exists)
        await until((tmp_path / "grandchild.pid").read_text)
        pids = [pid_of(tmp_path, "parent"), pid_of(tmp_path, "grandchild")]
    await until(lambda: not any(lives(pid) for pid in pids))


def _with_grandchild(folder: Path) -> str:
    """A program that starts another, which ignores SIGTERM, and waits for it."""
    grandchild = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"open({str(folder / 'grandchild.pid')!r}, 'w').write(str(os.getpid())); "
        "time.sleep(10_000)"
    )
    return f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {grandchild!r}])"


async def test_a_child_that_dies_comes_back(tmp_path: Path) -> None:
    diary = Diary()
    async with Supervisor(diary, PATIENCE_S) as supervisor:
        await supervisor.start([service("mortal", tmp_path, FOREVER)])
        first = pid_of(tmp_path, "mortal")
        os.kill(first, signal.SIGKILL)
        await until(lambda: diary.of("mortal").count("ready in") == 2)
        assert pid_of(tmp_path, "mortal") != first
        assert lives(pid_of(tmp_path, "mortal"))
    assert "was ended by SIGKILL. Next start in 0.2 s" in diary.of("mortal")


async def test_what_a_dead_child_leaves_behind_is_gone_before_its_next_start(
    tmp_path: Path,
) -> None:
    diary = Diary()
    async with Supervisor(diary, PATIENCE_S) as supervisor:
        await supervisor.start([service("parent", tmp_path, _with_grandchild(tmp_path))])
        await until((tmp_path / "grandchild.pid").exists)
        await until((tmp_path / "grandchild.pid").read_text)
        grandchild = pid_of(tmp_path, "grandchild")
        os.kill(pid_of(tmp_path, "parent"), signal.SIGKILL)
        await until(lambda: "Next start" in diary.of("parent"))
        await until(lambda: not lives(grandchild))


def _waits_for(file: Path) -> str:
    return f"import time, sys\nwhile not os.path.exists({str(file)!r}): time.sleep(.01)\n"


async def test_a_child_that_keeps_dying_is_given_up_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(services, "_FIRST_POLL_S", 0.001)
    diary, go_on = Diary(), tmp_path / "die"
    code = _waits_for(go_on) + "sys.exit('no more')"
    async with Supervisor(diary, PATIENCE_S) as supervisor:
        await supervisor.start([service("doomed", tmp_path, code)])
        go_on.touch()
        with pytest.raises(ServiceError) as given_up:
            await asyncio.wait_for(supervisor.failed(), PATIENCE_S)
    assert str(given_up.value).startswith("doomed was given up after 5 deaths within 60 s.")
    assert "no more" in str(given_up.value)
    assert diary.of("doomed").count("Next start in") == 4


async def test_the_pauses_between_starts_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(services, "_LONGEST_PAUSE_S", 0.04)
    diary, go_on = Diary(), tmp_path / "die"
    code = _waits_for(go_on) + "sys.exit(1)"
    async with Supervisor(diary, PATIENCE_S) as supervisor:
        await supervisor.start([service("doomed", tmp_path, code)])
        go_on.touch()
        with pytest.raises(ServiceError):
            await asyncio.wait_for(supervisor.failed(), PATIENCE_S)
    pauses = [line.rpartition("start in ")[2] for _, line in diary.lines if "start in" in line]
    assert pauses == ["0.01 s", "0.02 s", "0.04 s", "0.04 s"]


async def test_one_that_does_not_get_ready_is_told_with_its_last_words_and_the_key(
    tmp_path: Path,
) -> None:
    mark = tmp_path / "spoken"

    async def prepare(_: Report) -> Command:
        code = f"print('waiting for Godot', flush=True); open({str(mark)!r}, 'w'); {FOREVER}"
        return Command((sys.executable, "-c", code))

    async def never() -> bool:
        return False

    async with Supervisor(Diary(), 2.0) as supervisor:
        with pytest.raises(ServiceError) as late:
            await supervisor.start([Service("slow", prepare, never)])
    assert mark.exists()
    assert "slow was not ready within 2 s (deployment.ready_timeout_s)" in str(late.value)
    assert "    waiting for Godot" in str(late.value)


async def test_what_prepare_takes_does_not_count_as_starting(tmp_path: Path) -> None:
    quick = service("built", tmp_path, FOREVER)

    async def prepare(report: Report) -> Command:
        await asyncio.sleep(1.5)
        return await quick.prepare(report)

    async with Supervisor(Diary(), 1.4) as supervisor:
        await supervisor.start([Service("built", prepare, quick.ready)])


async def test_one_that_ends_before_it_is_ready_is_told_with_status_and_last_words(
    tmp_path: Path,
) -> None:
    async def prepare(_: Report) -> Command:
        return Command((sys.executable, "-c", "import sys; print('out of cheese'); sys.exit(7)"))

    async def never() -> bool:
        return False

    async with Supervisor(Diary(), PATIENCE_S) as supervisor:
        with pytest.raises(ServiceError, match="ended with status 7 before it was ready") as ended:
            await supervisor.start([Service("brief", prepare, never)])
    assert "    out of cheese" in str(ended.value)


async def test_when_one_fails_to_start_the_others_are_stopped(tmp_path: Path) -> None:
    healthy = service("healthy", tmp_path, FOREVER)

    async def prepare(_: Report) -> Command:
        await until((tmp_path / "healthy.pid").exists)
        raise ServiceError("There is none.")

    async with Supervisor(Diary(), PATIENCE_S) as supervisor:
        with pytest.raises(ServiceError, match="There is none"):
            await supervisor.start([healthy, Service("missing", prepare, healthy.ready)])
    await until(lambda: not lives(pid_of(tmp_path, "healthy")))


@pytest.mark.parametrize("argv", [("/nowhere/a-program",), ("/etc/hostname",)])
async def test_a_program_that_cannot_be_executed_is_named(argv: tuple[str, ...]) -> None:
    async def prepare(_: Report) -> Command:
        return Command(argv)

    async def never() -> bool:
        return False

    async with Supervisor(Diary(), PATIENCE_S) as supervisor:
        with pytest.raises(ServiceError, match=f"absent cannot be started.*{argv[0]}"):
            await supervisor.start([Service("absent", prepare, never)])


async def test_output_is_logged_at_debug_and_never_printed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG", "runner.child")
    code = f"print('a word', flush=True); {FOREVER}"
    async with Supervisor(Diary(), PATIENCE_S) as supervisor:
        await supervisor.start([service("talker", tmp_path, code)])
        await until(lambda: "talker: a word" in caplog.messages)
    assert "a word" not in "".join(capfd.readouterr())


PARENT = """
import asyncio, os, sys
from pathlib import Path
from runner.services import Command, Service, Supervisor

folder = Path(sys.argv[1])
code = '''
import os, signal, subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10_000)"])
open(sys.argv[1], "w").write(f"{os.getpid()} {grandchild.pid}")
time.sleep(10_000)
'''

async def prepare(report):
    return Command((sys.executable, "-c", code, str(folder / "pids")))

async def ready():
    return (folder / "pids").exists() and " " in (folder / "pids").read_text()

async def main():
    async with Supervisor(lambda name, message: None, 60) as supervisor:
        await supervisor.start([Service("child", prepare, ready)])
        print(supervisor._guard._process.pid, flush=True)
        await supervisor.failed()

asyncio.run(main())
"""


@pytest.fixture
def parent(tmp_path: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )


async def test_kill_9_of_the_parent_takes_child_and_grandchild_along(
    parent: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    guardian, family = _family(parent, tmp_path)
    assert all(lives(pid) for pid in family)
    parent.kill()
    parent.wait()
    await until(lambda: not any(lives(pid) for pid in [*family, guardian]))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")
async def test_kill_9_of_parent_and_guard_still_takes_the_child_along(
    parent: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    guardian, (direct, grandchild) = _family(parent, tmp_path)
    os.kill(guardian, signal.SIGKILL)
    parent.kill()
    parent.wait()
    await until(lambda: not lives(direct))
    os.kill(grandchild, signal.SIGKILL)  # beyond the reach of the kernel's signal


async def test_a_terminated_parent_that_cannot_clean_up_leaves_nothing(
    parent: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    _, family = _family(parent, tmp_path)
    parent.terminate()  # its default action: no `finally` runs
    parent.wait()
    await until(lambda: not any(lives(pid) for pid in family))


def _family(parent: "subprocess.Popen[str]", folder: Path) -> tuple[int, list[int]]:
    """The guard's pid, and those of child and grandchild."""
    assert parent.stdout
    guardian = int(parent.stdout.readline())
    return guardian, [int(pid) for pid in (folder / "pids").read_text().split()]


def test_the_guard_kills_a_group_that_ignores_the_stop_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "_EVERY_S", 0.01)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print(flush=True); time.sleep(10_000)"
    )
    deaf = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert deaf.stdout
    deaf.stdout.readline()
    guard._end({deaf.pid: signal.SIGTERM})
    assert deaf.wait(PATIENCE_S) == -signal.SIGKILL


DROPPING_PARENT = """
import asyncio
from runner.child import Child, Command

async def main():
    child = await Child.spawn("other", Command(("sleep", "10000"), user="nobody"))
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""


@pytest.fixture
def dropping_parent() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", DROPPING_PARENT], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="only root can become another user"
)
async def test_a_service_of_root_may_have_another_user_and_dies_with_the_parent_all_the_same(
    dropping_parent: "subprocess.Popen[str]",
) -> None:
    assert dropping_parent.stdout
    pid = int(dropping_parent.stdout.readline())
    assert set(_status(pid, "Uid").split()) == {str(pwd.getpwnam("nobody").pw_uid)}
    assert _status(pid, "Groups").split() == []
    dropping_parent.kill()
    dropping_parent.wait()
    await until(lambda: not lives(pid))


def _status(pid: int, field: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":", 1) for line in lines)[field]


async def test_an_unknown_user_is_told() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with pytest.raises(ServiceError, match="no user no-such-user"):
        await child.Child.spawn("other", Command(("true",), user="no-such-user"))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_is_taken_for_as_long_as_someone_has_it(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            holder.listen()
        port = holder.getsockname()[1]
        assert port_taken("127.0.0.1", port, kind)
    assert not port_taken("127.0.0.1", port, kind)


def test_connections_of_a_server_that_has_gone_do_not_take_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as caller:
            served, _ = server.accept()
            served.close()  # the server's side closes first and stays in TIME_WAIT
            assert caller.recv(1) == b""
    assert not port_taken("127.0.0.1", port)


def test_the_guard_ends_when_it_is_dismissed() -> None:
    keeper = guard.Guard()
    keeper.close()
    assert keeper._process.returncode == 0
