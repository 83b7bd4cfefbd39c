"""A whole runner on free ports, and callers' voices: real LiveKit, Postgres, Whisper, Piper."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp
import numpy as np
import psycopg
import pytest
from psycopg.rows import dict_row

from runner import postgres
from runner.audio import Samples, write_wav
from tests.ports import free_ports

READY_TIMEOUT_S = 300  # a first start builds the LiveKit server
STOP_TIMEOUT_S = 30
PATIENCE_S = 30
VOICE_RATE_HZ = 22_050
ROOT = Path(__file__).parents[2]
RECORD = """() => {
  const context = new AudioContext();
  const kept = [];
  window.recorded = () => kept;
  const node = context.createScriptProcessor(4096, 1, 1);
  node.onaudioprocess = e => kept.push(Array.from(e.inputBuffer.getChannelData(0)));
  node.connect(context.destination);
  window.rate = context.sampleRate;
  new MutationObserver(() => document.querySelectorAll('audio').forEach(audio => {
    if (!audio.srcObject || audio.dataset.heard) return;
    audio.dataset.heard = '1';
    context.createMediaStreamSource(audio.srcObject).connect(node);
  })).observe(document.body, {childList: true, subtree: true, attributes: true});
}"""
"""JavaScript by which a page keeps what it receives, until `write_recording` has it."""


@dataclass
class Runner:
    """A running ``python -m runner``, as a user has it."""

    process: subprocess.Popen[str]
    overrides: list[str]
    data_dir: Path
    page_port: int
    models_port: int
    operator_port: int
    output: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.page_port}"

    def query(self, statement: str, *values: object) -> list[dict[str, object]]:
        """Rows of the embedded database."""
        socket_dir = postgres.find_running(self.data_dir)
        assert socket_dir, "the embedded Postgres does not run"
        with psycopg.connect(
            host=socket_dir, user="postgres", dbname="voice_agent", row_factory=dict_row
        ) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def until(self, statement: str) -> dict[str, object]:
        """The first row of ``statement``, once there is one."""
        deadline = time.monotonic() + PATIENCE_S
        while not (rows := self.query(statement)):
            assert time.monotonic() < deadline, f"no row: {statement}"
            time.sleep(0.1)
        return rows[0]

    def task(self, name: str, *overrides: str) -> subprocess.CompletedProcess[str]:
        """Another task of the same configuration."""
        return subprocess.run(
            [sys.executable, "-m", "runner", f"task={name}", *self.overrides, *overrides],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=READY_TIMEOUT_S,
            check=False,
        )

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """Ends it as Ctrl-C does; the exit status."""
        self.process.send_signal(how)
        return self.process.wait(STOP_TIMEOUT_S)


def start_runner(
    data_dir: Path,
    *more: str,
    wait: bool = True,
    module: str = "runner",
    env: dict[str, str] | None = None,
) -> Runner:
    """Starts a runner on ports of its own and waits for the page's address."""
    page, livekit, tcp, udp, models, operator = free_ports(6)
    overrides = [
        f"deployment.data_dir={data_dir}",
        f"web.port={page}",
        f"livekit.url=ws://127.0.0.1:{livekit}",
        f"livekit.tcp_port={tcp}",
        f"livekit.udp_port={udp}",
        f"models.port={models}",
        f"operator.port={operator}",
        "database.port=1",  # nobody is there, whatever runs on this machine
        *more,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", module, *overrides],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    runner = Runner(process, overrides, data_dir, page, models, operator)
    ready = threading.Event()
    threading.Thread(target=_follow, args=(runner, ready), daemon=True).start()
    if wait and not ready.wait(READY_TIMEOUT_S):
        process.kill()
    if wait and process.poll() is not None:
        pytest.fail("the runner did not get ready:\n" + "".join(runner.output))
    return runner


def _follow(runner: Runner, ready: threading.Event) -> None:
    assert runner.process.stdout
    for line in runner.process.stdout:
        runner.output.append(line)
        if line.startswith("Ready in"):
            ready.set()
    ready.set()


@pytest.fixture(scope="session")
def runner(new_data_dir: Callable[[], Path]) -> Iterator[Runner]:
    """The runner that all calls share."""
    running = start_runner(new_data_dir())
    yield running
    running.stop()


@pytest.fixture(scope="session")
def say(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A WAV file in which a caller says something, after so many seconds of silence."""
    folder = tmp_path_factory.mktemp("voices")

    def record(text: str, silence_s: float = 0.0) -> Path:
        path = folder / f"{abs(hash((text, silence_s)))}.wav"
        request = {"model": "piper", "voice": "en_US-joe-medium", "input": text}
        pcm = post(runner, "/v1/audio/speech", json={**request, "response_format": "pcm"})
        spoken = np.frombuffer(pcm, dtype=np.int16)
        silence: Samples = np.zeros(int(silence_s * VOICE_RATE_HZ), dtype=np.int16)
        write_wav(path, np.concatenate([silence, spoken]), VOICE_RATE_HZ)
        return path

    return record


@pytest.fixture(scope="session")
def silent(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Chromium's flag for a caller who says nothing; its own pretended microphone beeps."""
    silence = tmp_path_factory.mktemp("microphone") / "silence.wav"
    write_wav(silence, np.zeros(VOICE_RATE_HZ, np.int16), VOICE_RATE_HZ)
    return f"--use-file-for-fake-audio-capture={silence}"


@pytest.fixture(scope="session")
def hear(runner: Runner) -> Callable[[Path], str]:
    """What is said in a WAV file, transcribed by Whisper."""
    return partial(transcribe, runner)


def write_recording(path: Path, recorded: list[list[float]], rate_hz: float) -> None:
    """The sound that `RECORD` kept, in its ``recorded()`` and ``rate``, as a WAV file."""
    samples = np.concatenate(recorded) * 32767
    write_wav(path, samples.clip(-32768, 32767).astype(np.int16), int(rate_hz))


def transcribe(runner: Runner, path: Path) -> str:
    """What the runner's Whisper hears in a WAV file."""
    form = {"model": "whisper-tiny.en", "response_format": "text"}
    return post(runner, "/v1/audio/transcriptions", form=form, file=path).decode()


def post(
    runner: Runner,
    path: str,
    *,
    json: object = None,
    form: dict[str, str] | None = None,
    file: Path | None = None,
) -> bytes:
    """The body of the model server's answer."""

    data = None
    if form is not None and file is not None:
        data = aiohttp.FormData(form)
        data.add_field("file", file.read_bytes(), filename=file.name)

    async def ask() -> bytes:
        url = f"http://127.0.0.1:{runner.models_port}{path}"
        async with aiohttp.ClientSession() as http, http.post(url, json=json, data=data) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.read()

    return asyncio.run(ask())
