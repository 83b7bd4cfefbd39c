"""``task=eval`` and ``task=search`` as their user starts them, on a small corpus."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
QUESTIONS = """
- question: What does the fish soup cost?
  file: menu.md
  fact: [7 euros]
- question: When does the pool open?
  file: sub/pool.txt
  fact: [nine o'clock, "9:00"]
- question: Who painted the Mona Lisa?
"""

Runner = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def runner(data_dir: Path) -> Runner:
    """Starts tasks that share a database of their own."""
    ports = [f"{key}={free_port()}" for key in ("models.port", "web.port", "operator.port")]
    own = ["database.port=1", f"deployment.data_dir={data_dir}", *ports]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "runner", *own, *arguments],
            cwd=ROOT,
            env=os.environ | {"COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def test_a_corpus_is_measured_in_a_database_of_its_own_and_can_be_searched(
    runner: Runner, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    (corpus / "sub").mkdir(parents=True)
    (corpus / "menu.md").write_text("# Menu\n\nThe fish soup costs 7 euros. Bread is free.\n")
    (corpus / "sub" / "pool.txt").write_text("The pool opens at nine o'clock in the morning.\n")
    (tmp_path / "questions.yaml").write_text(QUESTIONS)

    evaluated = runner(
        "task=eval",
        f"task.corpus={corpus}",
        f"task.questions={tmp_path / 'questions.yaml'}",
        "task.misses=true",
    )
    assert evaluated.returncode == 0, evaluated.stderr
    assert evaluated.stdout.count("2 of 2") >= 2
    assert "1 of 1" in evaluated.stdout
    assert "wrong:" not in evaluated.stdout

    asked = "task.query='What does the soup cost?'"
    found = runner("task=search", "database.name=voice_agent_eval", asked, "task.format=json")
    assert found.returncode == 0, found.stderr
    best = json.loads(found.stdout)[0]
    assert (best["filename"], best["heading"], best["page"]) == ("menu.md", "Menu", None)

    nothing = runner("task=search", asked)
    assert nothing.returncode == 1
    assert nothing.stdout == "Nothing is indexed yet. Do it with: python -m runner task=index\n"


def test_a_search_without_documents_ends_in_a_sentence(runner: Runner) -> None:
    done = runner("task=search", "task.query=anything", "rag=off")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Leave out rag=off" in done.stderr
    assert "Traceback" not in done.stderr
