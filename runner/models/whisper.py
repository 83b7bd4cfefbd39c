"""Whisper: what is speech in a sound, and its words.

faster-whisper pads every utterance to 30 s, and three quarters of its time goes into encoding
that silence. CTranslate2's encoder takes shorter input, so here the window is bounded to the
utterance. Short windows can make Whisper repeat itself; such a text is made again at 30 s.
"""

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctranslate2  # type: ignore[import-untyped]
import numpy as np
import tokenizers
from faster_whisper.feature_extractor import (  # type: ignore[import-untyped]
    FeatureExtractor,
)

from runner.models.audio import HEARD_RATE_HZ, Samples
from runner.models.vad import Floats, speech

_LONGEST_S = 30.0  # what Whisper was trained on
_MARGIN_S = 0.5  # silence after the last word, within the window
_TOKENS_PER_S = 10  # speech has 3 to 7
_SPARE_TOKENS = 24
_MOST_TOKENS = 224  # half of Whisper's text context, as in its own decoder
_COMPRESSIBLE = 2.4  # Whisper's own limit for a text that repeats itself
_LONG_PHRASE = 4  # words; said twice in a row it is a loop, a shorter one three times
_LONGEST_PHRASE = 24


@dataclass(frozen=True)
class Segment:
    """What was said between two times of the sound."""

    start_s: float
    end_s: float
    text: str
    language: str


class Whisper:
    """One Whisper model. ``threads`` transcriptions run at once, a core each.

    One core decodes faster than two (42 ms against 52 for 3 s of speech) and encodes a bounded
    window as fast, so several callers are served side by side and none by two cores.
    """

    shortest_s = 12.0
    """The least window. What it costs in word error rate over 30 s (benchmarks/window.py, four
    voices): tiny.en .008 in a quiet room, -.006 with echo, -.023 in noise, and no less at 14 s;
    base with echo .006, and .012 at 8 and 10 s. In windows below 10 s, tiny.en repeats itself."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._model = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type="int8", inter_threads=threads, intra_threads=1
        )
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._features = FeatureExtractor()
        self._end_of_text = self._token("<|endoftext|>")
        self.languages = self._languages(folder)

    def transcribe(self, samples: Samples, language: str | None) -> Iterator[Segment]:
        """The speech in ``samples``, a segment of at most 30 s at a time; nothing in silence.

        ``language`` is one of `languages`; None: that of the first segment, as it sounds.
        """
        sound = samples.astype(np.float32) / np.float32(32768)
        for span in speech(sound, _LONGEST_S - _MARGIN_S):
            heard = sound[span.start : span.end]
            language = language or self._language(heard)
            if text := self.hear(heard, language):
                start_s, end_s = span.start / HEARD_RATE_HZ, span.end / HEARD_RATE_HZ
                yield Segment(start_s, end_s, text, language)

    def hear(self, sound: Floats, language: str) -> str:
        """The words in ``sound``, which is speech of at most 29.5 s; empty where there are none."""
        length_s = len(sound) / HEARD_RATE_HZ
        window_s = self._window_s(sound)
        tokens = min(_MOST_TOKENS, int(_SPARE_TOKENS + _TOKENS_PER_S * length_s))
        text, ended = self._heard(sound, window_s, tokens, language)
        if window_s < _LONGEST_S and (not ended or repeats(text)):
            text, _ = self._heard(sound, _LONGEST_S, _MOST_TOKENS, language)
        return text if any(c.isalnum() for c in text) else ""

    def _heard(
        self, sound: Floats, window_s: float, tokens: int, language: str
    ) -> tuple[str, bool]:
        """The text, and whether it came to its end within ``tokens``."""
        encoded = self._model.encode(self._window(sound, window_s))
        prompt = self._prompt(language)
        # CTranslate2 keeps half of max_length for a previous text.
        [result] = self._model.generate(encoded, [prompt], beam_size=1, max_length=2 * tokens)
        ids: list[int] = result.sequences_ids[0]
        said = [token for token in ids if token < self._end_of_text]
        return self._tokenizer.decode(said).strip(), len(ids) < tokens

    def _window_s(self, sound: Floats) -> float:
        return min(_LONGEST_S, max(self.shortest_s, len(sound) / HEARD_RATE_HZ + _MARGIN_S))

    def _window(self, sound: Floats, window_s: float) -> Any:
        """The log-mel features of ``sound`` and silence up to ``window_s``."""
        length = int(window_s * HEARD_RATE_HZ)
        padded = np.zeros(length, np.float32)
        padded[: len(sound)] = sound[:length]
        features = self._features(padded, padding=0)
        even = features.shape[1] // 2 * 2  # the encoder halves them
        batch = np.ascontiguousarray(features[None, :, :even], dtype=np.float32)
        return ctranslate2.StorageView.from_array(batch)

    def _prompt(self, language: str) -> list[int]:
        spoken = [f"<|{language}|>", "<|transcribe|>"] if self._model.is_multilingual else []
        return [self._token(t) for t in ("<|startoftranscript|>", *spoken, "<|notimestamps|>")]

    def _language(self, sound: Floats) -> str:
        """The language that ``sound`` is most likely in."""
        if not self._model.is_multilingual:
            return "en"
        encoded = self._model.encode(self._window(sound, self._window_s(sound)))
        [[(likeliest, _), *_]] = self._model.detect_language(encoded)
        return str(likeliest).strip("<|>")

    def _languages(self, folder: Path) -> frozenset[str]:
        if not self._model.is_multilingual:
            return frozenset({"en"})
        ids = json.loads((folder / "config.json").read_text())["lang_ids"]
        names = (self._tokenizer.id_to_token(number) or "" for number in ids)
        return frozenset(name.strip("<|>") for name in names)

    def _token(self, text: str) -> int:
        token = self._tokenizer.token_to_id(text)
        assert token is not None, text
        return token


def repeats(text: str) -> bool:
    """Whether ``text`` looks like a loop: it compresses too well, or a phrase stands in it three
    times in a row (twice, if the phrase has four words or more)."""
    data = text.encode()
    if len(data) > _COMPRESSIBLE * len(zlib.compress(data)):
        return True
    words = re.findall(r"\w[\w']*", text.lower())
    return any(
        _in_a_row(words, size) >= (2 if size >= _LONG_PHRASE else 3)
        for size in range(1, min(_LONGEST_PHRASE, len(words) // 2) + 1)
    )


def _in_a_row(words: list[str], size: int) -> int:
    """How many times a phrase of ``size`` words stands in a row, at most."""
    most = same = 0
    for at in range(size, len(words)):
        same = same + 1 if words[at] == words[at - size] else 0
        most = max(most, same)
    return most // size + 1
