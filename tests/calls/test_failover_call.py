"""Providers that die while a real caller listens: real room, real voice, played language models."""

import json
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from runner.audio import read_wav
from tests.calls.conftest import Runner, start_runner
from tests.calls.words import word_error_rate, words
from tests.ports import free_port

ANSWER = (
    "The library opens early in the morning and closes late in the evening. On Sundays the "
    "house stays shut. Please bring your card along."
)
LAST_WORDS = "On Sundays the house stays shut. Please bring your card along."
SERVERS = ("vllm", "ollama", "openrouter", "speaches_gpu", "speaches_cpu")
MOSTLY_HEARD = 0.15  # word error rate; Whisper tiny on a synthetic voice
SECOND_OF_SOUND = 48_000  # bytes


@dataclass
class Simulated:
    """A runner whose language models are played, and whose speech is relayed."""

    runner: Runner
    port: int

    def fail(self, server: str, *faults: dict[str, object]) -> None:
        """From now on ``server`` does this."""
        self._post(f"/{server}/_simulator/faults", list(faults))

    def all_well(self) -> None:
        """Nobody fails, and nobody is remembered to have failed."""
        for server in SERVERS:
            self.fail(server)

    def _post(self, path: str, body: object) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200


@pytest.fixture(scope="module")
def simulated(new_data_dir: Callable[[], Path]) -> Iterator[Simulated]:
    control = free_port()
    running = start_runner(
        new_data_dir(),
        "simulate=speech",
        f"simulate.port={control}",
        *(f"simulate.servers.{name}.port={free_port()}" for name in SERVERS),
        f'simulate.servers.vllm.answers=["{ANSWER}"]',
        "agent.greeting=Hello.",
        "rag=off",
        "stand_in.llm=null",
    )
    yield Simulated(running, control)
    running.stop()


def call(
    simulated: Simulated, say: Callable[..., Path], out: Path
) -> tuple[dict[str, object], Path]:
    """The printed turn of a call with one question, and the recording of the answer."""
    question = say("When does the library open?")
    overrides = [one for one in simulated.runner.overrides if not one.startswith("simulate")]
    caller = replace(simulated.runner, overrides=overrides)  # who does not set the faults again
    done = caller.task("call", f"task.audio=[{question}]", f"task.out={out}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), out / "turn-1.wav"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param({"kind": "stall_after", "after": 12}, "stalled", id="6-stalls"),
        pytest.param({"kind": "truncate", "after": 9}, "cut", id="7-no-end"),
        pytest.param({"kind": "malformed", "after": 15}, "malformed", id="8-malformed"),
    ],
)
def test_an_answer_is_heard_whole_though_its_llm_dies(
    simulated: Simulated,
    say: Callable[..., Path],
    hear: Callable[[Path], str],
    tmp_path: Path,
    fault: dict[str, object],
    reason: str,
) -> None:
    simulated.all_well()
    simulated.fail("vllm", {**fault, "at": [1]})
    turn, recording = call(simulated, say, tmp_path)
    assert turn["said"] == ANSWER
    assert turn["services"]["llm"]["failovers"] == [{"provider": "vllm", "reason": reason}]
    heard = hear(recording)
    assert word_error_rate(ANSWER, heard) <= MOSTLY_HEARD, heard
    assert silences_s(recording) <= 1.5


def test_14_after_a_voice_that_stalls_another_speaks_the_next_sentences(
    simulated: Simulated, say: Callable[..., Path], hear: Callable[[Path], str], tmp_path: Path
) -> None:
    simulated.all_well()
    stall = {"kind": "stall_after", "after": SECOND_OF_SOUND, "endpoint": "speech"}
    simulated.fail("speaches_gpu", stall)  # the greeting is shorter, or kept
    turn, recording = call(simulated, say, tmp_path)
    heard = hear(recording)
    assert heard.lower().startswith("the library"), heard
    assert word_error_rate(LAST_WORDS, " ".join(words(heard)[-11:])) <= 0.3, heard
    counts = Counter(words(heard))
    assert [counts[word] for word in ("library", "sundays", "house", "card")] == [1] * 4, heard
    assert len(words(heard)) < len(words(ANSWER))
    assert turn["services"]["tts"]["failovers"][0]["reason"] == "stalled"


def silences_s(recording: Path) -> float:
    """The longest silence between two sounds."""
    rate_hz = 16_000
    samples = read_wav(recording, rate_hz).astype(np.float64)
    window = rate_hz // 50
    loud = [
        np.sqrt(np.mean(samples[at : at + window] ** 2)) > 100
        for at in range(0, len(samples) - window, window)
    ]
    heard = np.flatnonzero(loud)
    return float(np.diff(heard).max()) * window / rate_hz
