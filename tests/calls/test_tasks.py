"""The other tasks, beside a running runner, as their users have them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.calls.conftest import ROOT, Runner, start_runner

VLLM_IS_AWAY = "vllm at http://localhost:8000/v1: connection refused"


def test_doctor_names_every_part_and_why_something_stands_in(runner: Runner) -> None:
    done = runner.task("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("database", "livekit", "LLM vllm", "STT embedded", "TTS embedded", "documents"):
        assert f" {part} " in done.stdout
    assert VLLM_IS_AWAY in done.stdout
    assert "vllm serve" in done.stdout
    assert "embedded hears" in done.stdout
    assert "first word of retrieval" in done.stdout


def test_doctor_fails_when_no_call_could_be_served(runner: Runner) -> None:
    done = runner.task("doctor", "stand_in.llm=null")
    assert done.returncode == 1
    assert "could NOT be served" in done.stdout


def test_chat_answers_from_the_documents_and_is_stored(runner: Runner) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "task=chat", *runner.overrides],
        cwd=ROOT,
        input="Which port does the page use?\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "3000" in done.stdout
    rows = runner.query(
        "SELECT content FROM conversation_messages JOIN agent_sessions USING (session_id) "
        "WHERE room_id = 'chat' AND role = 'user'"
    )
    assert {"content": "Which port does the page use?"} in rows


def test_index_takes_in_what_is_new_and_names_what_cannot_be_read(
    runner: Runner, tmp_path: Path
) -> None:
    (tmp_path / "tea.md").write_text("# Tea\n\nThe tea is kept in the blue cupboard.\n")
    (tmp_path / "noise.txt").write_bytes(bytes(range(256)) * 20)
    done = runner.task("index", f"rag.docs_dir={tmp_path}", "database.name=another")
    assert done.returncode == 1
    assert "1 indexed" in done.stdout
    assert "noise.txt" in done.stdout


def test_an_empty_documents_folder_is_told_in_a_sentence(runner: Runner, tmp_path: Path) -> None:
    done = runner.task("index", f"rag.docs_dir={tmp_path}", "database.name=another")
    assert "holds no file to index" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_choices_compose_start_and_say_what_stands_in(
    new_data_dir: Callable[[], Path],
) -> None:
    other = start_runner(new_data_dir(), "llm=ollama", "gpu=cpu_fallback")
    try:
        said = "".join(other.output)
        assert "LLM: retrieval stands in. ollama at http://localhost:11434/v1" in said
        assert "STT: embedded stands in. speaches_cpu at http://localhost:8002/v1" in said
        assert "speaches_gpu" not in said
        assert "Postgres: the embedded one is used." in said
    finally:
        assert other.stop() == 0
