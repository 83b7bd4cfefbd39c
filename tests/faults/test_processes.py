"""What is left behind, and what a second runner finds: real processes, really killed."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.calls.conftest import Runner, start_runner

PATIENCE_S = 20


def family(runner: Runner) -> list[psutil.Process]:
    """Everything that the runner started, directly or not."""
    return psutil.Process(runner.process.pid).children(recursive=True)


def left(processes: list[psutil.Process]) -> list[str]:
    """Those that are still there when all had time to go."""
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    return [" ".join(process.cmdline()) for process in alive]


def model_servers(runner: Runner) -> set[int]:
    """The process numbers of the runner's model servers."""
    return {process.pid for process in family(runner) if "runner.models" in command(process)}


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has just died
        return []


@pytest.fixture
def started(new_data_dir: Callable[[], Path]) -> Runner:
    """One that the test ends."""
    return start_runner(new_data_dir())


@pytest.fixture(scope="module")
def lasting(new_data_dir: Callable[[], Path]) -> Iterator[Runner]:
    """One that goes on after the test."""
    runner = start_runner(new_data_dir())
    yield runner
    runner.stop()


def test_ctrl_c_ends_everything_and_is_no_error(started: Runner) -> None:
    processes = family(started)
    assert len(processes) >= 4
    assert started.stop(signal.SIGINT) == 0
    assert left(processes) == []
    assert "Traceback" not in "".join(started.output)


def test_kill_9_leaves_no_process_behind(started: Runner) -> None:
    processes = family(started)
    assert len(processes) >= 4
    started.stop(signal.SIGKILL)
    assert left(processes) == []


def test_a_second_runner_at_the_same_page_ends_in_one_sentence(lasting: Runner) -> None:
    second = lasting.task("serve")
    assert second.returncode == 1
    assert f"Port {lasting.page_port} is taken by another runner" in second.stderr
    assert "web.port" in second.stderr
    assert "Traceback" not in second.stderr
    assert lasting.process.poll() is None


def test_a_wrong_livekit_secret_ends_in_one_sentence(
    lasting: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "devkey")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "not-the-secret-of-this-server-at-all")
    second = lasting.task("serve")
    assert second.returncode == 1
    assert "LIVEKIT_API_SECRET" in second.stderr
    assert "not-the-secret" not in second.stdout + second.stderr
    assert "Traceback" not in second.stderr


def test_a_dead_model_server_is_started_again(lasting: Runner) -> None:
    [server] = model_servers(lasting)
    psutil.Process(server).kill()
    deadline = time.monotonic() + PATIENCE_S
    while not model_servers(lasting) - {server}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert lasting.process.poll() is None
