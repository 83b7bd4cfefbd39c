"""What is left behind, and what a second runner finds: real processes, really killed."""

import signal
import time
from collections.abc import Callable
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
    return start_runner(new_data_dir())


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


def test_a_second_runner_at_the_same_page_ends_in_one_sentence(started: Runner) -> None:
    try:
        second = started.task("serve")
        assert second.returncode == 1
        assert f"Port {started.page_port} is taken by another runner" in second.stderr
        assert "web.port" in second.stderr
        assert "Traceback" not in second.stderr
        assert started.process.poll() is None
    finally:
        started.stop()


def test_a_wrong_livekit_secret_ends_in_one_sentence(
    started: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "devkey")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "not-the-secret-of-this-server-at-all")
    try:
        second = started.task("serve")
        assert second.returncode == 1
        assert "LIVEKIT_API_SECRET" in second.stderr
        assert "not-the-secret" not in second.stdout + second.stderr
        assert "Traceback" not in second.stderr
    finally:
        started.stop()


def test_a_dead_model_server_is_started_again(started: Runner) -> None:
    try:
        [server] = model_servers(started)
        psutil.Process(server).kill()
        deadline = time.monotonic() + PATIENCE_S
        while not model_servers(started) - {server}:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert started.process.poll() is None
    finally:
        started.stop()
