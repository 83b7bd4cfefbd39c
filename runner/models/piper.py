"""Piper: text to speech, piece by piece, so that the first words sound while the rest is made.

piper-tts is licensed under the GPL-3.0; this process is the only one that loads it.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from piper.config import PiperConfig, SynthesisConfig
from piper.voice import PiperVoice

from runner.models.audio import Pcm, Samples, without_lead
from runner.models.speakable import speakable

_GAIN = 1.5  # Piper's peaks lie between .36 and .69; one gain for all keeps a voice even
_PAUSE_S = 0.2  # what is heard of a text without a word
_CLAUSE_ENDS = frozenset(",;:")
_FIRST = 60  # phonemes, about 4 s of speech: a longer first sentence is begun with its first clause
_SHORTEST = 20  # a clause that is worth a piece of its own
_LONGEST = 140  # 10 s of speech, 0.4 s of work: what a piece may hold up the lane with


class Piper:
    """One Piper voice. ``threads``: the cores that one synthesis uses."""

    def __init__(self, folder: Path, threads: int) -> None:
        [model] = folder.glob("*.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_mem_pattern = False  # one a length of text would take 100 MB
        # Threads that wait busily take the cores from the other lanes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._voice = PiperVoice(
            onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"]),
            PiperConfig.from_dict(json.loads(model.with_suffix(".onnx.json").read_text())),
        )
        self.name = model.stem
        self.rate_hz = self._voice.config.sample_rate

    def speak(self, text: str, speed: float, rate_hz: int) -> Iterator[bytes]:
        """Little-endian mono 16-bit samples of ``text`` at ``rate_hz``, a piece at a time.

        ``speed`` is a wish: 2 makes a sentence 1.5 times as fast, 0.5 half as fast. A text
        without a word is a short silence.
        """
        pcm = Pcm(self.rate_hz, rate_hz)
        first = True
        for sentence in self._voice.phonemize(speakable(text)):
            for phonemes in pieces(sentence, first=first):
                samples = self._samples(phonemes, speed)
                yield pcm.push(without_lead(samples, self.rate_hz) if first else samples)
                first = False
        if first:
            yield pcm.push(np.zeros(int(_PAUSE_S * self.rate_hz), np.int16))
        yield pcm.flush()

    def _samples(self, phonemes: list[str], speed: float) -> Samples:
        settings = SynthesisConfig(length_scale=self._voice.config.length_scale / speed)
        ids = self._voice.phonemes_to_ids(phonemes)
        loud = np.asarray(self._voice.phoneme_ids_to_audio(ids, settings)) * (_GAIN * 32767)
        return np.clip(loud.reshape(-1), -32768, 32767).astype(np.int16)


def pieces(phonemes: list[str], *, first: bool) -> Iterator[list[str]]:
    """One sentence's phonemes in pieces of at most 140, cut after a clause or else a word.

    ``first``: the caller waits for this sentence, so of a long one the first clause comes alone.
    """
    start = 0
    if first and len(phonemes) > _FIRST:
        start = _cut(phonemes, _SHORTEST, _FIRST, _CLAUSE_ENDS) or 0
        if start:
            yield phonemes[:start]
    while len(phonemes) - start > _LONGEST:
        low, high = start + _LONGEST // 2, start + _LONGEST
        end = _cut(phonemes, low, high, _CLAUSE_ENDS) or _cut(phonemes, low, high, {" "}) or high
        yield phonemes[start:end]
        start = end
    if start < len(phonemes):
        yield phonemes[start:]


def _cut(phonemes: list[str], low: int, high: int, ends: frozenset[str] | set[str]) -> int | None:
    """Where to cut between ``low`` and ``high``: behind the first of ``ends``."""
    return next((at + 1 for at in range(low, high) if phonemes[at] in ends), None)
