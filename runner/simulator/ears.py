"""Hears when a caller begins and ends to speak, by loudness alone."""

import array
import math
from typing import Literal

RATE_HZ = 16_000
_LOUD = 500.0  # of 16-bit samples, root of the mean square
_SILENCE_S = 0.4  # after which an utterance is over
_SPEECH_S = 0.1  # what is shorter is no speech


class Ears:
    """Fed with a microphone's samples, tells the beginning and the end of each utterance."""

    def __init__(self) -> None:
        self._loud_s = 0.0
        self._silent_s = 0.0
        self._speaking = False

    def hear(self, pcm: bytes) -> Literal["began", "ended"] | None:
        """``pcm``: 16-bit mono at `RATE_HZ`."""
        samples = array.array("h", pcm[: len(pcm) // 2 * 2])
        if not samples:
            return None
        length_s = len(samples) / RATE_HZ
        if math.sqrt(sum(s * s for s in samples) / len(samples)) >= _LOUD:
            self._loud_s += length_s
            self._silent_s = 0.0
            if not self._speaking and self._loud_s >= _SPEECH_S:
                self._speaking = True
                return "began"
            return None
        self._silent_s += length_s
        if self._silent_s < _SILENCE_S:
            return None
        self._loud_s = 0.0
        ended, self._speaking = self._speaking, False
        return "ended" if ended else None
