"""What callers say: the same bytes for every agent, in Piper's voice, with hesitations.

Made once and kept: the voice says nothing twice alike. A process of its own loads Piper.
"""

import asyncio
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runner.audio import Samples, read_wav, sound_bounds, write_wav
from runner.bench.wire import CALLER_RATE_HZ
from runner.errors import RunnerError

PHRASES = (
    "When does the library open on Saturday?",
    "Can I take a book home for three weeks?",
    "I would like to know <0.6> whether the reading room is open today.",
    "Where do I find the newspapers?",
    "How much is a card for my daughter?",
    "My neighbour told me <0.9> that you have a printer upstairs.",
    "Is there a place to park my bicycle?",
    "Do you have anything by Jules Verne?",
    "We are looking for <0.75> a room for about twelve people.",
    "Who can help me with the catalogue?",
)
"""Said in turn. A number is a hesitation in seconds, within one turn."""

Speak = Callable[[str, float, int], Iterator[bytes]]
"""Of a text at a speed and a rate, the samples."""

_PAUSE = re.compile(r"<([\d.]+)>")
_NOISE = 12  # of 16 bit: a microphone in a quiet room is never digital silence
_LEAD_S = 0.1


@dataclass(frozen=True)
class Utterance:
    """One turn of a caller: mono 16-bit samples at `CALLER_RATE_HZ`. ``speech_s``: until the last
    sound of it."""

    text: str
    samples: Samples
    hesitates: bool

    @property
    def speech_s(self) -> float:
        bounds = sound_bounds(self.samples)
        return (bounds[1] + 1) / CALLER_RATE_HZ if bounds else 0.0


@dataclass(frozen=True)
class Voices:
    """All that is said, and the ``digest`` of its bytes."""

    utterances: tuple[Utterance, ...]
    digest: str


def noise(count: int, seed: int = 0) -> Samples:
    """So many samples of a microphone in a quiet room."""
    draw = np.random.default_rng(seed)
    faint: Samples = draw.integers(-_NOISE, _NOISE + 1, count).astype(np.int16)
    return faint


async def voices(cache_dir: Path) -> Voices:
    """The callers' audio, from ``cache_dir`` where it was made before.

    Raises:
        RunnerError: Piper is not there.
    """
    key = hashlib.sha256(json.dumps(PHRASES).encode()).hexdigest()[:16]
    folder = cache_dir / "bench" / key
    if not (folder / "done").exists():
        await _make(folder, cache_dir)
    heard = [read_wav(folder / f"{at}.wav", CALLER_RATE_HZ) for at in range(len(PHRASES))]
    digest = hashlib.sha256(b"".join(samples.tobytes() for samples in heard)).hexdigest()[:16]
    utterances = [
        Utterance(_PAUSE.sub("", text), samples, bool(_PAUSE.search(text)))
        for text, samples in zip(PHRASES, heard, strict=True)
    ]
    return Voices(tuple(utterances), digest)


async def _make(folder: Path, cache_dir: Path) -> None:
    argv = (sys.executable, "-m", __name__, str(folder), str(cache_dir))
    process = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.PIPE)
    _, complaint = await process.communicate()
    if process.returncode:
        last = (complaint.decode(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
        raise RunnerError(f"The callers' audio could not be made: {last}")


def synthesise(folder: Path, cache_dir: Path) -> None:
    """Writes a WAV file for each phrase into ``folder``."""
    from runner.models.piper import Piper
    from runner.models.weights import PIPER, ensure

    piper = Piper(ensure(PIPER, cache_dir, lambda _: None), threads=2)
    folder.mkdir(parents=True, exist_ok=True)
    for at, phrase in enumerate(PHRASES):
        write_wav(folder / f"{at}.wav", _said(piper.speak, phrase, at), CALLER_RATE_HZ)
    (folder / "done").touch()


def _said(speak: Speak, phrase: str, seed: int) -> Samples:
    """``phrase`` in the voice, its hesitations silent but for a microphone's noise."""
    parts = [np.zeros(int(_LEAD_S * CALLER_RATE_HZ), np.int16)]
    for at, part in enumerate(_PAUSE.split(phrase)):
        if at % 2:
            parts.append(np.zeros(int(float(part) * CALLER_RATE_HZ), np.int16))
        else:
            spoken = np.frombuffer(b"".join(speak(part.strip(), 1.0, CALLER_RATE_HZ)), np.int16)
            bounds = sound_bounds(spoken)
            parts.append(spoken[bounds[0] : bounds[1] + 1] if bounds else spoken)
    whole = np.concatenate(parts).astype(np.int32)
    loud: Samples = np.clip(whole + noise(len(whole), seed), -32768, 32767).astype(np.int16)
    return loud


if __name__ == "__main__":
    synthesise(Path(sys.argv[1]), Path(sys.argv[2]))
