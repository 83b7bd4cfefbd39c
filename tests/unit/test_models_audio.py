"""Sound in and out: damage, lead, headers, rates."""

import io
import wave

import numpy as np
import pytest

from runner.models.audio import (
    HEARD_RATE_HZ,
    BadAudioError,
    Pcm,
    check_whole,
    decode,
    wav_header,
    without_lead,
)


def tone(seconds: float, rate_hz: int) -> np.ndarray:
    at = np.arange(int(seconds * rate_hz))
    return (10_000 * np.sin(2 * np.pi * 440 * at / rate_hz)).astype(np.int16)


def wav(samples: np.ndarray, rate_hz: int, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate_hz)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


def pitch_hz(samples: np.ndarray, rate_hz: int) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * rate_hz / len(samples))


@pytest.mark.parametrize(
    ("rate_hz", "channels"), [(8000, 1), (16_000, 1), (44_100, 2), (48_000, 6)]
)
def test_a_tone_keeps_its_pitch_and_length(rate_hz, channels):
    samples = decode(wav(np.repeat(tone(1, rate_hz), channels), rate_hz, channels))
    assert len(samples) == pytest.approx(HEARD_RATE_HZ, abs=50)
    assert pitch_hz(samples, HEARD_RATE_HZ) == pytest.approx(440, abs=2)


def test_a_wav_file_that_was_written_to_a_pipe_is_whole():
    streamed = wav_header(16_000) + tone(0.5, 16_000).tobytes()
    check_whole(streamed)
    assert len(decode(streamed)) == 8000


def test_chunks_before_the_samples_are_skipped():
    plain = wav(tone(0.1, 16_000), 16_000)
    listed = plain[:36] + b"JUNK" + (3).to_bytes(4, "little") + b"abc\0" + plain[36:]
    check_whole(listed)
    assert len(decode(listed)) == 1600


@pytest.mark.parametrize("kept", [12, 30, 43, 44, 1000])
def test_a_wav_file_that_was_cut_off_is_refused(kept):
    with pytest.raises(BadAudioError, match="cut off"):
        check_whole(wav(tone(0.1, 16_000), 16_000)[:kept])


def test_a_rate_that_would_blow_up_is_refused():
    with pytest.raises(BadAudioError, match="1 Hz"):
        decode(wav(tone(1, 4096), 1))


@pytest.mark.parametrize("data", [b"", b"RIFF", b"\0" * 5000, bytes(range(256)) * 40])
def test_what_is_no_sound_is_refused(data):
    with pytest.raises(BadAudioError):
        decode(data)


def test_an_upload_that_names_other_files_or_addresses_opens_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.wav").write_bytes(wav(tone(1, 16_000), 16_000))
    session = (
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n"
    )
    for playlist in (b"ffconcat version 1.0\nfile secret.wav\n", session):
        with pytest.raises(BadAudioError):
            decode(playlist)


def test_speech_begins_ten_milliseconds_after_the_beginning():
    silence = np.full(5000, 20, np.int16)
    trimmed = without_lead(np.concatenate([silence, tone(0.1, 22_050)]), 22_050)
    assert len(trimmed) == pytest.approx(2205 + 220, abs=5)
    assert len(without_lead(silence, 22_050)) == 5000


def test_pcm_at_another_rate_is_the_same_sound_in_any_pieces():
    sound = tone(1, 22_050)
    pcm = Pcm(22_050, 48_000)
    data = b"".join(pcm.push(piece) for piece in np.array_split(sound, 7)) + pcm.flush()
    samples = np.frombuffer(data, "<i2")
    assert len(samples) == pytest.approx(48_000, abs=5)
    assert pitch_hz(samples, 48_000) == pytest.approx(440, abs=2)


def test_pcm_at_its_own_rate_is_untouched():
    pcm = Pcm(22_050, 22_050)
    assert pcm.push(np.array([1, -2], np.int16)) + pcm.flush() == b"\x01\x00\xfe\xff"


def test_a_streamed_wav_is_read_by_others():
    with wave.open(io.BytesIO(wav_header(24_000) + b"\x01\x00" * 10)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
