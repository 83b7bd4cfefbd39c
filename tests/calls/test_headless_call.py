"""A real call by ``task=call``: what was heard, what was said, what was stored."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.calls.conftest import Runner
from tests.calls.words import word_error_rate

QUESTIONS = [
    "How do I change the greeting?",
    "Which port does the page use?",
    "What is the capital of France?",
]
WELL_HEARD = 0.2  # word error rate; Whisper tiny on a synthetic voice


@pytest.fixture(scope="module")
def call(
    runner: Runner, say: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[dict[str, object]], Path]:
    """One call with all the questions: the printed turns, and the folder of recordings."""
    out = tmp_path_factory.mktemp("call")
    audio = ",".join(str(say(question)) for question in QUESTIONS)
    done = runner.task("call", f"task.audio=[{audio}]", f"task.out={out}")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], out


def test_every_question_is_heard(call: tuple[list[dict[str, object]], Path]) -> None:
    turns, _ = call
    assert len(turns) == len(QUESTIONS)
    for question, turn in zip(QUESTIONS, turns, strict=True):
        assert word_error_rate(question, str(turn["heard"])) <= WELL_HEARD


def test_the_answers_come_from_the_documents_and_name_them(
    call: tuple[list[dict[str, object]], Path],
) -> None:
    turns, _ = call
    assert "greeting" in str(turns[0]["said"]).lower()
    assert "3000" in str(turns[1]["said"])
    assert "faq.md" in turns[0]["sources"]


def test_what_no_document_holds_is_declined(
    call: tuple[list[dict[str, object]], Path],
) -> None:
    turns, _ = call
    assert "paris" not in str(turns[2]["said"]).lower()
    assert "document" in str(turns[2]["said"]).lower()


def test_what_was_said_is_what_is_heard(
    call: tuple[list[dict[str, object]], Path], hear: Callable[[Path], str]
) -> None:
    turns, out = call
    assert "voice assistant" in hear(out / "greeting.wav").lower()
    for turn in turns:
        heard = hear(out / f"turn-{turn['turn']}.wav")
        assert word_error_rate(str(turn["said"]), heard) <= 0.35, (turn["said"], heard)


def test_each_turn_tells_who_served_and_how_long_it_took(
    call: tuple[list[dict[str, object]], Path],
) -> None:
    turns, _ = call
    for turn in turns:
        assert turn["served_by"] == {"stt": "embedded", "llm": "retrieval", "tts": "embedded"}
        assert turn["e2e_s"] is not None
        assert {"stt", "end_of_turn", "llm_ttft", "tts_ttfb", "e2e"} <= turn["stages_s"].keys()


def test_the_conversation_is_in_the_database(
    call: tuple[list[dict[str, object]], Path], runner: Runner
) -> None:
    turns, _ = call
    session = runner.until(
        "SELECT * FROM (SELECT * FROM agent_sessions WHERE room_id <> 'chat' "
        "ORDER BY id DESC LIMIT 1) AS latest WHERE status = 'ended' AND ended_at IS NOT NULL"
    )
    assert str(session["room_id"]).startswith("call-")
    rows = runner.query(
        "SELECT role, content, metadata FROM conversation_messages "
        "WHERE session_id = %s ORDER BY id",
        session["session_id"],
    )
    assert [row["role"] for row in rows] == ["assistant"] + ["user", "assistant"] * len(turns)
    assert session["message_count"] == len(rows)
    assert [row["content"] for row in rows[2::2]] == [turn["said"] for turn in turns]
    assert rows[2]["metadata"]["served_by"]["llm"] == "retrieval"
    assert rows[2]["metadata"]["stages_s"]["e2e"] > 0
    assert rows[2]["metadata"]["sources"]


def test_the_next_caller_has_the_row_of_their_language_and_the_settings_of_the_moment(
    runner: Runner, say: Callable[..., Path], hear: Callable[[Path], str], tmp_path: Path
) -> None:
    runner.query(
        "INSERT INTO agent_instructions (name, instructions, initial_greeting, is_local_mode, "
        "language) VALUES ('spanish', 'Be brief.', 'Hello.', true, 'es') RETURNING id"
    )
    runner.query(
        "UPDATE agent_instructions SET initial_greeting = 'Good evening from the lighthouse.' "
        "WHERE language = 'es' RETURNING id"
    )
    runner.query("INSERT INTO system_config (key, value) VALUES ('rag.top_k', '2') RETURNING key")
    try:
        done = runner.task(
            "call",
            f"task.audio=[{say('Thank you.')}]",
            f"task.out={tmp_path}",
            "task.language=es-MX",
        )
        assert done.returncode == 0, done.stderr
        assert "lighthouse" in hear(tmp_path / "greeting.wav").lower()
        [session] = runner.query(
            "SELECT session.context ->> 'language' AS language, config.value AS configuration "
            "FROM agent_sessions AS session JOIN system_config AS config "
            "ON config.key = 'configuration:' || (session.context ->> 'configuration') "
            "WHERE session.room_id <> 'chat' ORDER BY session.id DESC LIMIT 1"
        )
        assert session["language"] == "es"
        ran_with: Any = session["configuration"]
        assert ran_with["rag"]["top_k"] == 2
        assert ran_with["stt_tts"]["tts"]["voice"] == "ef_dora"
    finally:
        runner.query("DELETE FROM agent_instructions WHERE language = 'es' RETURNING id")
        runner.query("DELETE FROM system_config WHERE key = 'rag.top_k' RETURNING key")
