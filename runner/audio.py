"""Recorded audio: WAV files in and out, and where sound begins and ends in them."""

import wave
from pathlib import Path

import numpy as np
from livekit import rtc
from numpy.typing import NDArray

from runner.errors import CallError

Samples = NDArray[np.int16]
"""Mono 16-bit samples, shape (n,)."""

SOUND_THRESHOLD = 328
"""A sample that is louder counts as sound: .01 of full scale, above Opus's comfort noise."""

_SAMPLE_BYTES = 2


def read_wav(path: Path, rate_hz: int) -> Samples:
    """The file's first channel at ``rate_hz``.

    Raises:
        CallError: it is not a WAV file of 16-bit samples.
    """
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != _SAMPLE_BYTES:
                raise CallError(f"{path}: WAV with 16-bit samples is needed (task.audio)")
            channels, file_rate_hz = file.getnchannels(), file.getframerate()
            samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")[::channels]
    except (OSError, EOFError, wave.Error) as error:
        raise CallError(f"{path} cannot be read as a WAV file: {error} (task.audio)") from None
    return resample(samples, file_rate_hz, rate_hz)


def write_wav(path: Path, samples: Samples, rate_hz: int) -> None:
    """Writes mono 16-bit samples."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(_SAMPLE_BYTES)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """The same sound at another rate."""
    if from_hz == to_hz:
        return samples
    resampler = rtc.AudioResampler(from_hz, to_hz, quality=rtc.AudioResamplerQuality.HIGH)
    frame = rtc.AudioFrame(samples.tobytes(), from_hz, 1, len(samples))
    parts = [*resampler.push(frame), *resampler.flush()]
    return np.concatenate([np.frombuffer(part.data, dtype=np.int16) for part in parts])


def sound_bounds(samples: Samples) -> tuple[int, int] | None:
    """First and last index of sound, or None in silence."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > SOUND_THRESHOLD)
    return (int(loud[0]), int(loud[-1])) if loud.size else None
