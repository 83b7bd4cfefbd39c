"""Where speech is in a sound: noise and silence never reach Whisper, which would hear words there.

faster-whisper's Silero detector: 1.4 ms of one core a second of sound.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from faster_whisper.vad import (  # type: ignore[import-untyped]
    VadOptions,
    get_speech_timestamps,
)
from numpy.typing import NDArray

from runner.models.audio import HEARD_RATE_HZ

Floats = NDArray[np.float32]
"""Mono samples from -1 to 1, shape (n,)."""

_SILENCE = 33 / 32768  # a sound that never gets louder needs no detector
_THRESHOLD = 0.4  # noise, hum, clicks and music reach .25; "Stop." .8, in noise as loud .5
_PAUSE_MS = 300
_PAD_MS = 400  # of the sound around the speech that is kept


@dataclass(frozen=True)
class Span:
    """A part of a sound, in samples: ``start`` inclusive, ``end`` exclusive."""

    start: int
    end: int


def speech(sound: Floats, longest_s: float) -> list[Span]:
    """The parts of ``sound`` (at `HEARD_RATE_HZ`) with speech, cut in pauses, none longer than
    ``longest_s``; speech without a pause is cut where that is reached. Empty in silence."""
    if not sound.size or float(np.abs(sound).max()) < _SILENCE:
        return []
    options = VadOptions(
        threshold=_THRESHOLD,
        min_silence_duration_ms=_PAUSE_MS,
        speech_pad_ms=_PAD_MS,
        max_speech_duration_s=longest_s,
    )
    found = get_speech_timestamps(sound, options, HEARD_RATE_HZ)
    spans = (Span(part["start"], part["end"]) for part in found)
    return list(joined(spans, int(longest_s * HEARD_RATE_HZ)))


def joined(spans: Iterable[Span], longest: int) -> Iterator[Span]:
    """Neighbours with the pause between them as one, as long as they fit into ``longest``."""
    current: Span | None = None
    for span in spans:
        if current is None:
            current = span
        elif span.end - current.start <= longest:
            current = Span(current.start, span.end)
        else:
            yield current
            current = span
    if current is not None:
        yield current
