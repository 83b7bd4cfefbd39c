"""Words that Whisper mishears in its bounded window, against those in its full one of 30 s.

    .venv/bin/python benchmarks/window.py                                # tiny.en, as it is set
    .venv/bin/python benchmarks/window.py --model base --questions 10    # 30 sentences, not 60
    .venv/bin/python benchmarks/window.py --shortest 10 12 14            # and other windows

It needs the extra ``embedded``, and flite for three of its four voices. The same model hears every
sound in both windows, one after the other, by the way that callers are heard: voice detector, then
Whisper. The sentences are those of the bench's callers, alone and two in a row, and questions of
eval/questions.yaml; each is heard in these conditions:

- clean: with a quiet room's noise alone;
- noise: pink noise, 10 dB below the speech;
- babble: six people speaking at once, 10 dB below the speech together;
- echo: a room whose sound dies away by 60 dB in .5 s (RT60), and whose echoes are as loud as the
  speech itself: it is convolved with noise that decays exponentially.

Word error rate: edits (Levenshtein's, of words) / words said. Intervals are 95 % bootstraps of the
sentences: one that is hard in one voice is hard in the others. The same sounds each time.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import yaml
from rich.console import Console
from rich.progress import track

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from runner.audio import Samples, read_wav, sound_bounds
from runner.bench.figures import Figure
from runner.bench.voices import PHRASES
from runner.errors import RunnerError
from runner.folders import cache_dir
from runner.models.audio import HEARD_RATE_HZ
from runner.models.piper import Piper
from runner.models.vad import Floats
from runner.models.weights import PIPER, WHISPER, ensure
from runner.models.whisper import Whisper
from tests.composed import composed

CACHE = cache_dir(composed().deployment)
FULL_S = 30.0
PIPER_VOICE = "joe"
FLITE_VOICES = ("slt", "rms", "awb")  # a woman, a man, a Scot
LOUD = 0.08  # of full scale, speech's root mean square
ROOM_NOISE = 12 / 32768  # as in the bench: a microphone is never digitally silent
NOISE_DB = 10.0  # below the speech
BABBLE_S, BABBLERS = 60, 6
RT60_S = 0.5
LEAD_S, TAIL_S = 0.3, 0.6  # around the speech
DRAWS = 2000
ALL = "all"
NUMBERS = re.findall(r"\w+", "zero one two three four five six seven eight nine ten eleven twelve")

Draw = np.random.Generator
Condition = Callable[[Floats, Floats, Draw], Floats]
"""Of speech and of babble, what a microphone hears."""


@dataclass(frozen=True)
class Sound:
    """What ``voice`` says, as it is heard."""

    voice: str
    condition: str
    said: str
    samples: Samples


@dataclass(frozen=True)
class Heard:
    """A sound in a window. ``again``: it was made once more at 30 s."""

    voice: str
    condition: str
    shortest_s: float
    said: str
    heard: str
    edits: int
    words: int
    took_s: float
    again: bool


class Windowed(Whisper):
    """A Whisper that counts how often it took 30 s: ``made_full``."""

    made_full = 0

    def _heard(
        self, sound: Floats, window_s: float, tokens: int, language: str
    ) -> tuple[str, bool]:
        self.made_full += window_s == FULL_S
        return super()._heard(sound, window_s, tokens, language)


def sentences(questions: int) -> list[str]:
    """The callers' phrases, alone and two in a row, and so many questions without a digit: how a
    number or a code is written is not what is measured."""
    phrases = [re.sub(r" <[\d.]+>", "", phrase) for phrase in PHRASES]
    pairs = [
        f"{one} {other}" for one, other in zip(phrases, phrases[3:] + phrases[:3], strict=True)
    ]
    asked = yaml.safe_load((ROOT / "eval/questions.yaml").read_text())
    plain = [text for entry in asked if re.fullmatch(r"[A-Za-z ,'?]+", text := entry["question"])]
    return phrases + pairs + plain[:questions]


def by_piper(texts: Sequence[str]) -> Iterator[Floats]:
    """The texts in the packaged voice."""
    onnxruntime.set_seed(1)  # Piper draws each sound's shape
    piper = Piper(ensure(PIPER, CACHE, print), threads=1)
    for text in texts:
        spoken = b"".join(piper.speak(text, 1.0, HEARD_RATE_HZ))
        yield speech(np.frombuffer(spoken, np.int16))


def by_flite(voice: str, texts: Sequence[str], folder: Path) -> Iterator[Floats]:
    """The texts in one of flite's voices."""
    for text in texts:
        path = folder / "said.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)  # noqa: S607
        yield speech(read_wav(path, HEARD_RATE_HZ))


def speech(samples: Samples) -> Floats:
    """Without the silence around it, and as loud as all."""
    first, last = sound_bounds(samples) or (0, len(samples) - 1)
    return louder(samples[first : last + 1].astype(np.float32), LOUD)


def louder(sound: Floats, loud: float) -> Floats:
    """``sound`` with the root mean square ``loud``."""
    scaled: Floats = sound * np.float32(loud / np.sqrt(np.mean(np.square(sound))))
    return scaled


def softer(sound: Floats) -> Floats:
    """``sound`` so many decibels below the speech."""
    return louder(sound, LOUD * 10 ** (-NOISE_DB / 20))


def clean(said: Floats, _: Floats, draw: Draw) -> Floats:
    """In a quiet room."""
    padded = np.pad(said, (int(LEAD_S * HEARD_RATE_HZ), int(TAIL_S * HEARD_RATE_HZ)))
    return padded + draw.uniform(-ROOM_NOISE, ROOM_NOISE, len(padded)).astype(np.float32)


def noise(said: Floats, babble: Floats, draw: Draw) -> Floats:
    """In pink noise."""
    heard = clean(said, babble, draw)
    spectrum = np.fft.rfft(draw.standard_normal(len(heard)))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))  # power falls as 1 / frequency
    spectrum[0] = 0
    return heard + softer(np.fft.irfft(spectrum, len(heard)).astype(np.float32))


def babble(said: Floats, babble: Floats, draw: Draw) -> Floats:
    """Among people who speak."""
    heard = clean(said, babble, draw)
    first = draw.integers(len(babble) - len(heard))
    return heard + softer(babble[first : first + len(heard)])


def echo(said: Floats, babble: Floats, draw: Draw) -> Floats:
    """In a room with hard walls."""
    heard = clean(said, babble, draw)
    ages_s = np.arange(int(RT60_S * HEARD_RATE_HZ)) / HEARD_RATE_HZ
    room = draw.standard_normal(len(ages_s)) * 10 ** (-3 * ages_s / RT60_S)
    room /= np.sqrt(np.sum(np.square(room)))
    room[0] += 1
    size = len(heard) + len(room) - 1
    both = np.fft.irfft(np.fft.rfft(heard, size) * np.fft.rfft(room, size), size)
    return louder(both[: len(heard)].astype(np.float32), LOUD)


CONDITIONS: dict[str, Condition] = {"clean": clean, "noise": noise, "babble": babble, "echo": echo}


def crowd(spoken: dict[str, list[Floats]]) -> Floats:
    """A minute of several of the voices at once."""
    draw = np.random.default_rng(1)
    everything = [said for voice in spoken.values() for said in voice]
    length = BABBLE_S * HEARD_RATE_HZ
    mixed = np.zeros(length, np.float32)
    for _ in range(BABBLERS):
        order = draw.permutation(len(everything))
        mixed += np.concatenate([everything[at] for at in order])[:length]
    return mixed


def sounds(texts: Sequence[str]) -> list[Sound]:
    """Every sentence in every voice and condition."""
    with TemporaryDirectory() as folder:
        spoken = {PIPER_VOICE: list(by_piper(texts))}
        for voice in FLITE_VOICES:
            spoken[voice] = list(by_flite(voice, texts, Path(folder)))
    lengths_s = [len(said) / HEARD_RATE_HZ for voice in spoken.values() for said in voice]
    print(f"{len(texts)} sentences in {len(spoken)} voices, {min(lengths_s):.1f} to ", end="")
    print(f"{max(lengths_s):.1f} s, in the median {statistics.median(lengths_s):.1f} s", flush=True)
    talking = crowd(spoken)
    made = []
    for seed, (voice, condition) in enumerate(product(spoken, CONDITIONS)):
        for at, (text, said) in enumerate(zip(texts, spoken[voice], strict=True)):
            heard = CONDITIONS[condition](said, talking, np.random.default_rng([seed, at]))
            samples = (np.clip(heard, -1, 1) * 32767).astype(np.int16)
            made.append(Sound(voice, condition, text, samples))
    return made


def words(text: str) -> list[str]:
    """Lower case, no punctuation, small numbers as words."""
    found = re.findall(r"\w+", re.sub("['\u2019]", "", text.lower()))
    return [NUMBERS[int(w)] if w.isdecimal() and int(w) < len(NUMBERS) else w for w in found]


def edits(said: Sequence[str], heard: Sequence[str]) -> int:
    """Words to insert, delete or replace (Levenshtein 1966; Wagner and Fischer's table)."""
    row = list(range(len(heard) + 1))
    for count, word in enumerate(said, start=1):
        corner, row[0] = row[0], count
        for at, other in enumerate(heard, start=1):
            kept = corner + (word != other)
            corner, row[at] = row[at], min(kept, row[at] + 1, row[at - 1] + 1)
    return row[-1]


def hear(whisper: Windowed, sound: Sound, shortest_s: float) -> Heard:
    """One sound in one window."""
    whisper.shortest_s, whisper.made_full = shortest_s, 0
    began = time.perf_counter()
    text = " ".join(part.text for part in whisper.transcribe(sound.samples, "en"))
    took_s = time.perf_counter() - began
    said, again = words(sound.said), whisper.made_full > 0 and shortest_s < FULL_S
    wrong = edits(said, words(text))
    given = (sound.voice, sound.condition, shortest_s, sound.said)
    return Heard(*given, text, wrong, len(said), took_s, again)


def difference(full: Sequence[Heard], bounded: Sequence[Heard]) -> Figure:
    """Of the word error rates, bounded less full; the sentences are drawn anew."""
    more: dict[str, int] = {}
    said: dict[str, int] = {}
    for one, other in zip(full, bounded, strict=True):
        more[one.said] = more.get(one.said, 0) + other.edits - one.edits
        said[one.said] = said.get(one.said, 0) + one.words
    each, of = np.array([*more.values()]), np.array([*said.values()])
    drawn = np.random.default_rng(1).integers(len(each), size=(DRAWS, len(each)))
    low, high = np.percentile(each[drawn].sum(axis=1) / of[drawn].sum(axis=1), [2.5, 97.5])
    return Figure(float(each.sum() / of.sum()), float(low), float(high))


def row(voice: str, condition: str, full: Sequence[Heard], bounded: Sequence[Heard]) -> str:
    """Both word error rates, the difference, and how often 30 s were taken after all."""
    count = sum(one.words for one in full)
    rates = "".join(f"{sum(one.edits for one in side) / count:>9.3f}" for side in (full, bounded))
    again = sum(one.again for one in bounded) / len(bounded)
    apart = difference(full, bounded).text(3)
    return f"{voice:<8}{condition:<10}{count:>7}{rates}{apart:>27}{again:>9.1%}"


def report(heard: Sequence[Heard], shortest_s: float) -> None:
    """The table of one shortest window."""
    print(f"\nshortest window {shortest_s:g} s; word error rates")
    heads = f"{'words':>7}{'full':>9}{'bounded':>9}{'difference':>27}{'again':>9}"
    print(f"{'voice':<8}{'condition':<10}{heads}")
    for voice, condition in product((PIPER_VOICE, *FLITE_VOICES, ALL), (*CONDITIONS, ALL)):
        full, bounded = (pick(heard, voice, condition, size) for size in (FULL_S, shortest_s))
        print(row(voice, condition, full, bounded))
    full_s, bounded_s = (statistics.fmean(one.took_s for one in s) for s in (full, bounded))
    print(f"a sound takes {full_s * 1000:.0f} ms in the full window, ", end="")
    print(f"{bounded_s * 1000:.0f} in the bounded one: {bounded_s / full_s:.2f} times as long")


def pick(heard: Sequence[Heard], voice: str, condition: str, shortest_s: float) -> list[Heard]:
    """Those of a voice, a condition and a window."""
    return [
        one
        for one in heard
        if voice in (one.voice, ALL)
        and condition in (one.condition, ALL)
        and shortest_s == one.shortest_s
    ]


def measure(
    model: Literal["tiny.en", "base"], shortest_s: list[float], made: Sequence[Sound]
) -> list[Heard]:
    """Hear each sound in every window, print the tables."""
    whisper = Windowed(ensure(WHISPER[model], CACHE, print), threads=1)
    windows_s = shortest_s or [whisper.shortest_s]
    heard = []
    console = Console(stderr=True)
    for sound in track(made, "Whisper hears", console=console, disable=not console.is_terminal):
        heard += [hear(whisper, sound, size) for size in (FULL_S, *windows_s)]
    for size in windows_s:
        report(heard, size)
    return heard


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description="Whisper's bounded window against its full one.")
    parser.add_argument("--model", choices=WHISPER, default="tiny.en")
    parser.add_argument("--questions", type=int, default=40, help="beside 20 other sentences")
    parser.add_argument("--shortest", type=float, nargs="+", default=[], metavar="SECONDS")
    parser.add_argument("--out", type=Path, help="a file for a line of JSON a sound and window")
    options = parser.parse_args()
    if not shutil.which("flite"):
        sys.exit(
            f"The voices {', '.join(FLITE_VOICES)} are flite's, which is not installed. "
            "Install it (Debian, Ubuntu): apt install flite"
        )
    try:
        heard = measure(options.model, options.shortest, sounds(sentences(options.questions)))
    except RunnerError as error:
        sys.exit(str(error))
    if options.out:
        options.out.write_text("".join(f"{json.dumps(asdict(one))}\n" for one in heard))


if __name__ == "__main__":
    main()
