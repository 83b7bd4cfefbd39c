"""The worker: full is full, and what a job runs can travel to its process."""

import pickle
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest

from runner.config import Config
from runner.livekit_server import Keys
from runner.worker import Entry, Worker


def entry(config: Config) -> Entry:
    return Entry(config, "/run/socket", Path("/run/switchboard"), uuid.uuid4())


@pytest.fixture
def worker(composed: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker(entry(composed("livekit.max_calls=2")), Keys("key", "secret" * 8))
    worker.busy = []
    monkeypatch.setattr(Worker, "rooms", property(lambda self: self.busy))
    return worker


def test_what_a_job_runs_survives_pickling(settings: Config) -> None:
    travels = entry(settings)
    assert pickle.loads(pickle.dumps(travels)) == travels


def test_no_call_is_taken_before_the_server_knows_the_worker(worker: Worker) -> None:
    assert "connecting" in (worker.refusal("call-1") or "")


def test_a_call_is_taken_while_a_line_is_free(worker: Worker) -> None:
    worker.registered.set()
    worker.busy = ["call-2"]
    assert worker.refusal("call-1") is None


def test_one_more_call_than_there_are_lines_is_told_so(worker: Worker) -> None:
    worker.registered.set()
    worker.busy = ["call-2", "call-3"]
    assert "All lines are busy" in (worker.refusal("call-1") or "")


def test_who_was_cut_off_comes_back_though_all_lines_are_busy(worker: Worker) -> None:
    worker.registered.set()
    worker.busy = ["call-1", "call-2"]
    assert worker.refusal("call-1") is None


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_the_livekit_server_asks_it_whether_a_line_is_free_or_not(
    worker: Worker, calls: int
) -> None:
    load = worker.server.load_fnc(SimpleNamespace(active_jobs=[object()] * calls))
    assert load < 0.7  # its default agents.target_load, from which on it does not ask


@pytest.mark.parametrize(
    ("busy", "answer"), [pytest.param(1, "accept", id="the last line"), (2, "reject")]
)
async def test_it_takes_calls_for_every_line_and_no_more(
    worker: Worker, busy: int, answer: str
) -> None:
    worker.busy = ["call"] * busy
    request = AsyncMock()
    await worker._accept(request)
    assert [name for name, _, _ in request.mock_calls] == [answer]


def test_the_load_is_a_share_of_the_lines(composed: Callable[..., Config]) -> None:
    worker = Worker(entry(composed("livekit.max_calls=1000")), Keys("key", "secret" * 8))
    assert worker.server.load_fnc(SimpleNamespace(active_jobs=[object()] * 999)) < 0.7
