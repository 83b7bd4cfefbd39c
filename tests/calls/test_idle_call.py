"""A call in which nobody says a word ends after a while, the row and the room."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.calls.conftest import ROOT, start_runner

PATIENCE_S = 60


def test_a_call_without_a_word_for_so_long_is_ended(
    new_data_dir: Callable[[], Path], say: Callable[..., Path]
) -> None:
    running = start_runner(new_data_dir(), "sessions.idle_check_s=1", "rag=off")
    try:
        thinking = say("Well.", silence_s=100.0)
        caller = subprocess.Popen(
            [
                *(sys.executable, "-m", "runner", "task=call", *running.overrides),
                *(f"task.audio=[{thinking}]", "task.reply_timeout_s=90"),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        greeted = "SELECT 1 FROM agent_sessions WHERE status = 'active' AND message_count > 0"
        running.until(greeted)
        running.query(
            "UPDATE agent_sessions SET last_activity = NOW() - INTERVAL '31 minutes' "
            "WHERE status = 'active' RETURNING id"
        )
        running.until("SELECT 1 FROM agent_sessions WHERE status = 'ended'")
        assert caller.wait(PATIENCE_S) == 1
        assert running.query("SELECT 1 FROM agent_sessions WHERE status = 'active'") == []
    finally:
        caller.kill()
        running.stop()
