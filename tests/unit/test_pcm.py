"""Speech that is none is refused before it is played."""

import io
import wave
from collections.abc import Iterator

import av
import numpy as np
import pytest

from runner.providers.pcm import NotSpeechError, Speech

RATE_HZ = 24_000
RNG = np.random.default_rng(7)


def tone(seconds: float = 0.5, amplitude: float = 0.5) -> bytes:
    """A vowel: a low note with overtones."""
    at = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    wave_ = sum(np.sin(2 * np.pi * 140 * n * at) / n for n in range(1, 12))
    return (wave_ / np.abs(wave_).max() * amplitude * 32_767).astype("<i2").tobytes()


def noise(seconds: float = 0.5) -> bytes:
    return RNG.bytes(int(seconds * RATE_HZ) * 2)


def wav(samples: bytes, rate_hz: int = RATE_HZ, channels: int = 1, width: int = 2) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate_hz)
        writer.writeframes(samples)
    return file.getvalue()


def encoded(codec: str, container: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=RATE_HZ)
        samples = np.frombuffer(tone(), "<i2").reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.rate = RATE_HZ
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return file.getvalue()


def pieces(body: bytes, size: int) -> Iterator[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))


def played(body: bytes, content_type: str = "audio/pcm", size: int = 997) -> bytes:
    speech = Speech(content_type, RATE_HZ)
    return b"".join(map(speech.take, pieces(body, size))) + speech.rest()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1919, 1920, 1921, 10**6])
def test_samples_arrive_as_they_are_however_the_body_is_cut(size: int) -> None:
    assert played(tone(), size=size) == tone()


@pytest.mark.parametrize("size", [1, 3, 1920])
def test_half_a_sample_at_the_end_is_dropped(size: int) -> None:
    assert played(tone() + b"\x01", size=size) == tone()


def test_every_piece_holds_whole_samples() -> None:
    speech = Speech("audio/pcm", RATE_HZ)
    assert {len(speech.take(piece)) % 2 for piece in pieces(tone(), 333)} == {0}


@pytest.mark.parametrize(
    "content_type",
    ["", "audio/pcm", "audio/L16;rate=24000;channels=1", "application/octet-stream", "Audio/PCM"],
)
def test_these_types_are_pcm(content_type: str) -> None:
    assert played(tone(), content_type) == tone()


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "text/html; charset=utf-8", "audio/mpeg", "audio/ogg",
     "audio/pcm;rate=22050", "audio/L16; rate=16000", "audio/pcm; channels=2", "text/plain"],
)  # fmt: skip
def test_these_types_are_not(content_type: str) -> None:
    with pytest.raises(NotSpeechError):
        Speech(content_type, RATE_HZ)


@pytest.mark.parametrize("size", [1, 45, 10**6])
def test_the_header_of_a_right_wav_is_taken_off(size: int) -> None:
    assert played(wav(tone()), "audio/wav", size) == tone()
    assert played(wav(tone()), "audio/pcm", size) == tone()


def test_what_follows_the_samples_of_a_wav_is_not_played() -> None:
    assert played(wav(tone()) + b"LIST\x04\x00\x00\x00abcd") == tone()


def test_a_wav_that_is_streamed_may_not_know_its_size() -> None:
    header = wav(b"")[:-4]
    for size in (b"\x00" * 4, b"\xff" * 4):
        assert played(header + size + tone()) == tone()


@pytest.mark.parametrize(
    "body",
    [
        wav(tone(), rate_hz=22_050),
        wav(tone(), rate_hz=48_000),
        wav(tone(), channels=2),
        wav(tone(), width=1),
        b"RIFF",
        b"RIFF" + b"\x00" * 10_000,
        encoded("mp3", "mp3"),
        encoded("mp3", "mp3")[45:],
        encoded("flac", "flac"),
        encoded("libopus", "ogg"),
        encoded("libopus", "webm"),
        b'{"error": "no"}',
        b"<!DOCTYPE html>" + b"<p>" * 5000,
        b"Internal Server Error",
        noise(),
        noise(0.03),
        np.clip(RNG.normal(0, 20_000, RATE_HZ), -32_768, 32_767).astype("<i2").tobytes(),
    ],
    ids=lambda body: repr(body[:8]),
)
def test_of_what_is_no_speech_nothing_is_played(body: bytes) -> None:
    for size in (1, 1000, 10**6):
        heard: list[bytes] = []
        with pytest.raises(NotSpeechError):
            play_into(heard, body, size)
        assert b"".join(heard) == b""


def play_into(heard: list[bytes], body: bytes, size: int) -> None:
    speech = Speech("application/octet-stream", RATE_HZ)
    heard.extend(map(speech.take, pieces(body, size)))
    heard.append(speech.rest())


def test_noise_after_silence_is_not_played() -> None:
    speech = Speech("audio/pcm", RATE_HZ)
    assert not any(speech.take(bytes(9600)))
    with pytest.raises(NotSpeechError):
        speech.take(noise())


def hiss(amplitude: float) -> bytes:
    """An s: what is high in noise."""
    samples = np.diff(RNG.normal(0, 1, RATE_HZ))
    return (samples / np.abs(samples).max() * amplitude * 32_767).astype("<i2").tobytes()


@pytest.mark.parametrize(
    "body",
    [bytes(9600), tone(amplitude=1.0), tone(0.01), hiss(0.8), b"<\x00" * 2000, b"{\x00" * 2000,
     b"\xff\xfb\x90\x00" + bytes(4000), b"ID" + bytes(2000)],
    ids=["silence", "loud vowel", "10 ms", "loud s", "like <", "like {", "like MP3", "like ID3"],
)  # fmt: skip
def test_speech_that_only_looks_like_something_else_is_played(body: bytes) -> None:
    assert played(body) == body


def test_nothing_is_nothing() -> None:
    assert played(b"") == b""
    assert played(b"\x01") == b""
    assert played(wav(b"")) == b""
