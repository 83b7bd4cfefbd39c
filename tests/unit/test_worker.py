"""The worker: full is full, and what a job runs can travel to its process."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config import Config
from runner.livekit_server import Keys
from runner.worker import Entry, Worker


@pytest.fixture
def worker(composed: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker(
        composed("livekit.max_calls=2"), Keys("key", "secret" * 8), None, Path("switchboard")
    )
    worker.busy = 0
    monkeypatch.setattr(Worker, "calls", property(lambda self: self.busy))
    return worker


def test_what_a_job_runs_survives_pickling(settings: Config) -> None:
    entry = Entry(settings, "/run/socket", Path("/run/switchboard"))
    assert pickle.loads(pickle.dumps(entry)) == entry


def test_no_call_is_taken_before_the_server_knows_the_worker(worker: Worker) -> None:
    assert "connecting" in (worker.refusal() or "")


def test_a_call_is_taken_while_a_line_is_free(worker: Worker) -> None:
    worker.registered.set()
    worker.busy = 1
    assert worker.refusal() is None


def test_one_more_call_than_there_are_lines_is_told_so(worker: Worker) -> None:
    worker.registered.set()
    worker.busy = 2
    assert "All 2 lines are busy" in (worker.refusal() or "")
