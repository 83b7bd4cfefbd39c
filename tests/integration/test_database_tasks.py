"""``task=db`` and ``task=instructions`` as their user starts them, with an embedded database."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_instructions_are_kept_copied_and_put_back(data_dir: Path, tmp_path: Path) -> None:
    def runner(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-m", "runner", "database.port=1"),
                *(f"deployment.data_dir={data_dir}", *arguments),
            ],
            cwd=ROOT,
            env=os.environ | {"COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    text, copy = tmp_path / "bank.txt", tmp_path / "agent.zip"
    text.write_text("You are a banking assistant.\n")
    added = runner("task=instructions", "task.action=add", "task.persona=bank", f"task.file={text}")
    assert added.stdout == (
        "Added as 2. Callers get it after: "
        "python -m runner task=instructions task.action=activate task.id=2\n"
    )
    done = runner("task=instructions", "task.action=activate", "task.id=2")
    assert done.stdout == "The next caller gets bank (en) in place of assistant.\n"

    copied = runner("task=db", "task.action=backup", f"task.file={copy}")
    assert copied.returncode == 0, copied.stderr
    assert "agent_instructions: ready, 2 rows" in copied.stderr
    refused = runner("task=db", "task.action=restore", f"task.file={copy}")
    assert refused.returncode == 1
    assert "The database is not empty (personas: 1)" in refused.stderr
    assert "Traceback" not in refused.stderr

    where = runner("task=db")
    folder = str(data_dir / "run").replace("/", "%2F")
    assert where.stdout.splitlines()[0] == (
        f"postgresql://postgres@/voice_agent?host={folder}&port=5432"
    )
    assert f"-h {data_dir}/run -U postgres -d voice_agent" in where.stdout


def test_what_a_task_lacks_is_told_before_anything_starts(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "runner", "task=instructions", "task.action=add"),
            f"deployment.data_dir={tmp_path / 'data'}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    for key in ("task.persona", "task.text"):
        assert f"{key} is None; it must be set for this task.action" in done.stderr
    assert not (tmp_path / "data").exists()
