"""The program as its user starts it: one clear message and an exit status, never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runner.audio import write_wav

ROOT = Path(__file__).parents[2]
SECRET = "hunter2-hunter2-hunter2-hunter2-hunter2"


def runner(
    *arguments: str, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LIVEKIT")}
    return subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        cwd=cwd,
        env=clean | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_all_mistakes_are_told_in_one_go_without_a_traceback() -> None:
    done = runner("rag.top_k=many", "web.port=0", "llm.max_tokens=-1")
    assert done.returncode == 1
    assert "3 problems" in done.stderr
    for key in ("rag.top_k", "web.port", "llm.max_tokens"):
        assert key in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_wrong_option_gets_the_list_of_options() -> None:
    done = runner("llm=nothing")
    assert done.returncode == 1
    assert "retrieval" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_option_in_the_environment_gets_the_list_of_options() -> None:
    done = runner("--cfg", "job", LLM_PROVIDER="nothing")
    assert done.returncode == 1
    assert "retrieval" in done.stderr


def test_a_dot_env_file_in_the_working_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("VLLM_MODEL=from/dotenv\nOLLAMA_MODEL=from-dotenv\n")
    done = runner("--cfg", "job", "--resolve", cwd=tmp_path, OLLAMA_MODEL="from-environment")
    assert "from/dotenv" in done.stdout
    assert "from-environment" in done.stdout
    assert "from-dotenv" not in done.stdout


def test_serving_under_multirun_is_refused_with_a_sentence(tmp_path: Path) -> None:
    done = runner("--multirun", "llm=vllm,ollama", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 1
    assert "--multirun" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--cfg", "job"], ["--cfg", "job", "--resolve"]])
def test_no_secret_is_printed(arguments: list[str]) -> None:
    names = ("OPENROUTER_API_KEY", "GOOGLE_API_KEY", "POSTGRES_PASSWORD", "LIVEKIT_API_SECRET")
    done = runner(*arguments, **dict.fromkeys(names, SECRET))
    assert done.returncode == 0
    assert "OPENROUTER_API_KEY" in done.stdout
    assert SECRET not in done.stdout + done.stderr


def test_a_secret_is_not_in_the_message_about_a_mistake() -> None:
    done = runner("rag.top_k=many", OPENROUTER_API_KEY=SECRET, POSTGRES_PASSWORD=SECRET)
    assert SECRET not in done.stdout + done.stderr


def test_a_call_without_a_runner_ends_in_a_sentence(tmp_path: Path) -> None:
    audio = _silence(tmp_path / "silence.wav")
    done = runner("task=call", f"task.audio=[{audio}]", "task.url=http://127.0.0.1:1")
    assert done.returncode == 1
    assert "No runner answers at http://127.0.0.1:1 (task.url)" in done.stderr
    assert "Traceback" not in done.stderr


def test_audio_that_is_not_there_is_named() -> None:
    done = runner("task=call", "task.audio=[nowhere.wav]")
    assert done.returncode == 1
    assert "nowhere.wav" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_data_folder_that_is_no_folder_is_named() -> None:
    done = runner("task=index", "deployment.data_dir=/dev/full", "database.port=1")
    assert done.returncode == 1
    assert "deployment.data_dir" in done.stderr
    assert "Traceback" not in done.stderr


def _silence(path: Path) -> Path:
    write_wav(path, np.zeros(16_000, dtype=np.int16), 16_000)
    return path


def test_17_a_database_that_is_down_at_the_start_ends_it_in_one_sentence(tmp_path: Path) -> None:
    done = runner(
        *("database.port=1", "web.port=18999", "livekit.url=ws://127.0.0.1:18998"),
        *("livekit.tcp_port=18995", "livekit.udp_port=18994"),
        *("models.port=18997", "operator.port=18996", f"deployment.data_dir={tmp_path}"),
        POSTGRES_PASSWORD=SECRET,
    )
    assert done.returncode == 1
    assert "PostgreSQL at localhost:1 refused the connection." in done.stderr
    assert "No other is started, because POSTGRES_PASSWORD is set" in done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert "Ready in" not in done.stdout
