"""Sound that is no voice: mono, 16-bit, and what a broken server sends in its place."""

import math
import random
import struct
from functools import cache
from typing import Literal

SAMPLE_BYTES = 2
HTML = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"

_TONE_HZ, _LOUDNESS = 220, 8_000
_MP3_FRAME = b"\xff\xfb\x90\x64" + bytes(413)  # MPEG-1 layer III, 128 kbit/s, 44.1 kHz
_ENDLESS = 0xFFFF_FFFF  # the length in the header of a WAV that is written as it is made


def tone(rate_hz: int, samples: int) -> bytes:
    """A hum of so many samples."""
    return (_second(rate_hz) * (samples // rate_hz + 1))[: samples * SAMPLE_BYTES]


def garbage(kind: Literal["noise", "mp3", "html"], length: int) -> bytes:
    """About ``length`` bytes that are no speech."""
    match kind:
        case "html":
            return HTML
        case "mp3":
            return b"ID3\x04" + bytes(6) + _MP3_FRAME * (length // len(_MP3_FRAME) + 1)
        case "noise":
            return random.Random(1).randbytes(length)  # noqa: S311  noise, no secret


def content_type(response_format: str, rate_hz: int) -> str:
    """Of raw samples or of a WAV."""
    return "audio/wav" if response_format == "wav" else f"audio/pcm;rate={rate_hz}"


def wav_header(rate_hz: int) -> bytes:
    """Of a WAV whose length is not known yet."""
    return struct.pack(
        "<4sI8sIHHIIHH4sI",
        *(b"RIFF", _ENDLESS, b"WAVEfmt ", 16),
        *(1, 1, rate_hz, rate_hz * SAMPLE_BYTES, SAMPLE_BYTES, 8 * SAMPLE_BYTES),
        *(b"data", _ENDLESS),
    )


@cache
def _second(rate_hz: int) -> bytes:
    """One second of the hum; its end and its beginning fit together."""
    step = 2 * math.pi * _TONE_HZ / rate_hz
    samples = (int(_LOUDNESS * math.sin(step * at)) for at in range(rate_hz))
    return struct.pack(f"<{rate_hz}h", *samples)
