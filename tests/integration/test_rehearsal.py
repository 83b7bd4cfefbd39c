"""A call is rehearsed where jobs are forked from, and leaves no thread: a fork takes none."""

import os
import subprocess
import sys

import pytest

from runner import rehearsal
from tests.composed import composed

REHEARSE = """
import threading
from livekit.agents.voice.io import AudioOutput

finished, played_s = AudioOutput.on_playback_finished, []

def noted(self, **how):
    played_s.append(how["playback_position"])
    finished(self, **how)

AudioOutput.on_playback_finished = noted
import runner.rehearsal
print(threading.active_count(), sum(played_s) > 0)
"""


def rehearsed(settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", REHEARSE],
        env=os.environ | {"RUNNER_REHEARSAL": settings},
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_call_is_rehearsed_without_anybody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_REHEARSAL", "")
    assert rehearsal.announce(composed()) == ["runner.rehearsal"]
    done = rehearsed(os.environ["RUNNER_REHEARSAL"])
    assert (done.stdout, done.stderr) == ("1 True\n", "")


def test_where_it_fails_calls_work_all_the_same() -> None:
    done = rehearsed("{}")
    assert done.stdout == "1 False\n"
    assert "no call was rehearsed" in done.stderr
