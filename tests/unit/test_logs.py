"""Nothing of a caller in the log by default."""

import json
import logging

import pytest

from runner import logs
from runner.config import Log
from runner.sessions import Turn

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


def test_a_line_of_json_holds_the_facts_of_a_turn_and_nothing_that_was_said(log, capsys) -> None:
    log(transcripts=False, format="json")
    turn = Turn("assistant", SAID, False, [{"quote": SAID}], {}, {"e2e": 0.7})
    logging.getLogger("runner").info("%s", turn, extra={"turn": turn.facts()})
    logging.getLogger("runner").info("a\nb")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first["turn"]["stages_s"] == {"e2e": 0.7}
    assert (first["level"], first["logger"]) == ("INFO", "runner")
    assert second["message"] == "a\nb"
    assert SAID not in json.dumps(first)


def test_a_failure_has_its_traceback_in_its_line(log, capsys) -> None:
    log(transcripts=False, format="json")
    try:
        int(SAID)
    except ValueError:
        logging.getLogger("runner").exception("it failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError" in json.loads(line)["error"]
