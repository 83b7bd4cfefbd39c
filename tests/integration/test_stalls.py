"""Stalls of an event loop."""

import asyncio
import subprocess
import sys
import time

import pytest

from runner import stalls
from runner.stalls import watched

BLOCKED_S = 0.4


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of the times, for a quick test."""
    for name in ("STALL_S", "_BEAT_S", "_LOOK_S"):
        monkeypatch.setattr(stalls, name, getattr(stalls, name) / 5)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "runner.stalls"]


def read_a_book(until: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """Blocks the loop until it was named."""
    while not messages(caplog):
        time.sleep(0.01)
    until.append(messages(caplog)[0])


async def test_a_stall_is_named_while_it_lasts_and_told_once_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    named: list[str] = []
    over = asyncio.Event()
    with watched("the call 7", over.set):
        await asyncio.sleep(0)
        read_a_book(named, caplog)
        await over.wait()
    assert "the call 7 is blocked" in named[0]
    assert "read_a_book" in named[0]
    assert len(messages(caplog)) == 2
    assert "the call 7 goes on" in messages(caplog)[1]


async def test_a_loop_that_waits_is_not_stalled(caplog: pytest.LogCaptureFixture) -> None:
    with watched("the call 7", lambda: pytest.fail("no stall")):
        await asyncio.to_thread(time.sleep, BLOCKED_S)
    assert messages(caplog) == []


async def test_a_clock_that_is_set_makes_no_stall(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with watched("the call 7", lambda: pytest.fail("no stall")):
        await asyncio.to_thread(time.sleep, BLOCKED_S)
    assert messages(caplog) == []


SUSPENDED = """
import asyncio, logging, os, signal, subprocess, sys
from runner.stalls import watched

async def main():
    logging.basicConfig(level="INFO")
    with watched("the call 7", lambda: print("stall")):
        await asyncio.sleep(0.3)
        subprocess.Popen(["sh", "-c", f"sleep 1.2; kill -CONT {os.getpid()}"])
        os.kill(os.getpid(), signal.SIGSTOP)
        await asyncio.sleep(0.5)

asyncio.run(main())
"""


def test_a_process_that_was_suspended_blames_no_function() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SUSPENDED], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert "the call 7 was not run for" in done.stderr
    assert "blocked" not in done.stderr


async def test_what_keeps_python_s_lock_is_told_as_well(caplog: pytest.LogCaptureFixture) -> None:
    over = asyncio.Event()
    with watched("the call 7", over.set):
        await asyncio.sleep(0)
        took_s, power = 0.0, 500_000
        while took_s < BLOCKED_S:
            began, power = time.monotonic(), power * 2
            pow(3, power)
            took_s = time.monotonic() - began
        await over.wait()
    assert "the call 7" in messages(caplog)[-1]
