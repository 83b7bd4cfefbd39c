"""Nothing of a caller in the log by default."""

import logging

import pytest

from runner import logs
from runner.config import Log

SAID = "my account number is four two"


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> object:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield lambda **settings: logs.set_up(Log(level="DEBUG", **settings))
    root.handlers, root.level = before, level


def test_what_a_caller_says_is_not_in_the_log(log, capsys) -> None:
    log(transcripts=False)
    logging.getLogger("livekit.agents").debug("transcript", extra={"lk.pii.user_transcript": SAID})
    logging.getLogger("livekit.agents").error("no audio frames were pushed for text: %s", SAID)
    logging.getLogger("runner").info("still here")
    shown = capsys.readouterr().err
    assert SAID not in shown
    assert "still here" in shown


def test_hanging_up_is_no_error(log, capsys) -> None:
    log(transcripts=False)
    logging.getLogger("livekit").error("publisher data channel '_lossy' closed unexpectedly")
    logging.getLogger("livekit").error("the connection failed")
    shown = capsys.readouterr().err
    assert "data channel" not in shown
    assert "the connection failed" in shown


def test_it_is_there_when_configured(log, capsys) -> None:
    log(transcripts=True)
    logging.getLogger("livekit.agents").error("no audio frames were pushed for text: %s", SAID)
    assert SAID in capsys.readouterr().err
