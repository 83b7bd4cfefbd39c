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

_GAIN = 1.4  # Piper's peaks lie between .36 and .69; one gain for all keeps a voice even
_PAUSE_S = 0.2  # what is heard of a text without a word
_CLAUSE_ENDS = frozenset(",;:")
_WORD_ENDS = frozenset(" ")
# Of a sentence, in phonemes; a second of speech has 14 and is 40 ms of work.
_QUICK = 60  # a longer one that the caller waits for is begun with its first clause
_WHOLE = 100  # a longer one is cut after a clause: a piece keeps others from their turn
_LONGEST = 200  # a longer one without a clause is cut after a word, which can be heard
_SHORTEST = 20


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
    """One sentence's phonemes in pieces that sound natural, of at most 200.

    ``first``: the caller waits for this sentence.
    """
    rest = phonemes
    if first and len(rest) > _QUICK and (end := _cut(rest, _SHORTEST, _QUICK, _CLAUSE_ENDS)):
        yield rest[:end]
        rest = rest[end:]
    while len(rest) > _WHOLE:
        end = _cut(rest, _WHOLE // 2, _LONGEST, _CLAUSE_ENDS)
        if not end and len(rest) > _LONGEST:
            end = _cut(rest, _WHOLE, _LONGEST, _WORD_ENDS) or _LONGEST
        if not end:
            break
        yield rest[:end]
        rest = rest[end:]
    if rest:
        yield rest


def _cut(phonemes: list[str], low: int, high: int, ends: frozenset[str]) -> int:
    """The place behind the first of ``ends`` between ``low`` and ``high``; 0: there is none."""
    window = enumerate(phonemes[low:high], low + 1)
    return next((place for place, phoneme in window if phoneme in ends), 0)
