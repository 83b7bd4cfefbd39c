"""Recorded audio: rates, formats, where sound begins."""

import wave
from pathlib import Path

import numpy as np
import pytest

from runner.audio import read_wav, sound_bounds, write_wav
from runner.errors import CallError


def tone(rate_hz: int, seconds: float) -> np.ndarray:
    at = np.arange(int(rate_hz * seconds))
    return (10_000 * np.sin(2 * np.pi * 440 * at / rate_hz)).astype(np.int16)


def test_a_file_comes_back_at_the_rate_that_is_asked(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tone(16_000, 0.5), 16_000)
    samples = read_wav(tmp_path / "a.wav", 24_000)
    assert len(samples) == pytest.approx(12_000, abs=240)
    crossings = np.count_nonzero(np.diff(np.signbit(samples[2400:9600])))
    assert crossings == pytest.approx(2 * 440 * 0.3, abs=3)


def test_sound_begins_and_ends_where_it_is_loud() -> None:
    silence = np.zeros(1000, dtype=np.int16)
    first, last = sound_bounds(np.concatenate([silence, tone(8000, 0.1), silence]))
    assert first == pytest.approx(1000, abs=2)
    assert last == pytest.approx(1799, abs=2)


def test_the_loudest_negative_sample_is_sound() -> None:
    assert sound_bounds(np.array([0, -32768, 0], dtype=np.int16)) == (1, 1)


def test_silence_has_no_bounds() -> None:
    assert sound_bounds(np.zeros(100, dtype=np.int16)) is None


@pytest.mark.parametrize("content", [b"", b"RIFFgarbage", b"\0" * 100])
def test_what_is_no_wav_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(CallError, match=r"a\.wav.*task\.audio"):
        read_wav(tmp_path / "a.wav", 24_000)


def test_samples_of_another_width_are_refused(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(bytes(100))
    with pytest.raises(CallError, match="16-bit"):
        read_wav(tmp_path / "a.wav", 24_000)
