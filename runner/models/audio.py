"""Sound in and out: an upload becomes mono samples at 16 kHz, what a voice made becomes PCM."""

import io
import struct
from collections.abc import Iterator

import av
import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]
"""Mono 16-bit samples, shape (n,)."""

HEARD_RATE_HZ = 16_000
"""The rate that Whisper and the voice detector hear."""

LONGEST_S = 600
"""What one transcription takes at most."""

_RATES_HZ = range(4_000, 384_001)
_OPTIONS = {
    # A playlist inside an upload must not make the decoder open other files or addresses.
    "format_whitelist": "wav,w64,aiff,flac,mp3,ogg,mov,matroska,webm,aac",
    "protocol_whitelist": "none",
}
_UNKNOWN_BYTES = 0x7FFF_0000  # a writer that streams puts such a size, or 0, into its header
_RIFF = struct.Struct("<4sI")
_AUDIBLE = 100  # of 32,768; a voice's own floor is below 10
_LEAD_S = 0.01


class BadAudioError(Exception):
    """The upload is no sound that can be decoded; the message says why."""


class TooLongError(Exception):
    """The sound is longer than `LONGEST_S`."""


def decode(data: bytes) -> Samples:
    """The sound in ``data`` (WAV of any PCM rate and channels, FLAC, MP3, Ogg, MP4, WebM).

    Returns:
        Samples at `HEARD_RATE_HZ`.

    Raises:
        BadAudioError: empty, truncated, or not sound at all.
        TooLongError: the decoder stopped at `LONGEST_S`.
    """
    if not data:
        raise BadAudioError("The file is empty.")
    check_whole(data)
    parts: list[Samples] = []
    length = 0
    try:
        for part in _decoded(data):
            parts.append(part)
            length += len(part)
            if length > LONGEST_S * HEARD_RATE_HZ:
                raise TooLongError
    except (av.FFmpegError, ValueError) as error:
        raise BadAudioError("The file is not sound in a known format, or is damaged.") from error
    if not length:
        raise BadAudioError("The file holds no sound.")
    return np.concatenate(parts)


def check_whole(data: bytes) -> None:
    """Check that a WAV file is as long as its header says; other formats are not looked at.

    Raises:
        BadAudioError: it ends before its samples do.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return
    at = 12
    while at + _RIFF.size <= len(data):
        name, size = _RIFF.unpack_from(data, at)
        at += _RIFF.size
        if name == b"data" and (size == 0 or size >= _UNKNOWN_BYTES):
            return
        if at + size > len(data):
            missing = at + size - len(data)
            raise BadAudioError(f"The WAV file is cut off: {missing} bytes are missing.")
        if name == b"data":
            return
        at += size + size % 2
    raise BadAudioError("The WAV file is cut off before its samples.")


def _decoded(data: bytes) -> Iterator[Samples]:
    with av.open(io.BytesIO(data), "r", options=_OPTIONS, metadata_errors="ignore") as container:
        if not container.streams.audio:
            return
        resampler = av.AudioResampler(format="s16", layout="mono", rate=HEARD_RATE_HZ)
        for frame in container.decode(audio=0):
            if frame.sample_rate not in _RATES_HZ:
                raise BadAudioError(f"A rate of {frame.sample_rate} Hz is not supported.")
            frame.pts = None  # a gap in the timestamps is not filled with silence
            for heard in resampler.resample(frame):
                yield _samples(heard)
        for heard in resampler.resample(None):
            yield _samples(heard)


def _samples(frame: av.AudioFrame) -> Samples:
    return np.asarray(frame.to_ndarray().reshape(-1), dtype=np.int16)


def without_lead(samples: Samples, rate_hz: int) -> Samples:
    """``samples`` from 10 ms before the first that can be heard."""
    heard = np.flatnonzero(np.abs(samples.astype(np.int32)) > _AUDIBLE)
    first = int(heard[0]) if heard.size else 0
    return samples[max(0, first - int(_LEAD_S * rate_hz)) :]


class Pcm:
    """Turns samples at one rate into little-endian 16-bit bytes at another, piece by piece."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._from_hz = from_hz
        self._resampler = (
            None if from_hz == to_hz else av.AudioResampler(format="s16", layout="mono", rate=to_hz)
        )

    def push(self, samples: Samples) -> bytes:
        """The bytes of ``samples``, less what the resampler keeps back."""
        if self._resampler is None:
            return samples.astype("<i2").tobytes()
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = self._from_hz
        return self._bytes(frame)

    def flush(self) -> bytes:
        """What was kept back."""
        return self._bytes(None) if self._resampler else b""

    def _bytes(self, frame: av.AudioFrame | None) -> bytes:
        assert self._resampler is not None
        parts = self._resampler.resample(frame)
        return b"".join(_samples(part).astype("<i2").tobytes() for part in parts)


def wav_header(rate_hz: int) -> bytes:
    """The header of a mono 16-bit WAV file whose length is not known yet."""
    unknown = 0xFFFF_FFFF
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", unknown, b"WAVE", b"fmt ", 16, 1, 1, rate_hz, rate_hz * 2, 2, 16),
        *(b"data", unknown),
    )
