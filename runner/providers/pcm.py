"""Whether what a server calls speech is speech: raw 16-bit mono samples at the rate that was asked
for. What is not is refused before a byte of it is played."""

import struct
from email.message import Message

import numpy as np

_WINDOW_S = 0.04
_SAMPLE_BYTES = 2
_PCM_TYPES = {
    "",
    "application/octet-stream",
    "audio/l16",
    "audio/pcm",
    "audio/vnd.wave",
    "audio/wav",
    "audio/wave",
    "audio/x-pcm",
    "audio/x-wav",
}
_OTHER_FORMATS = (b"ID3", b"OggS", b"fLaC", b"FORM", b".snd", b"\x1aE\xdf\xa3", b"\x1f\x8b\x08")
_TEXT_BYTES = 64
_HEADER_BYTES = 4096
_UNKNOWN_SIZES = (0, 0xFFFF_FFFF)  # of a WAV that is streamed

# Noise: nearly as loud as can be, and each sample without regard to the one before. Random bytes
# have an RMS of .57 and a correlation under .13; of 30,000 windows of Piper's voice the loudest has
# .47, and those over .25 a correlation of .95 and more.
_NOISE_RMS = 0.4 * 32_768
_NOISE_CORRELATION = 0.2


class NotSpeechError(ValueError):
    """It must not be played; the message says what it is instead."""


class Speech:
    """Checks an answer while it comes, in windows of 40 ms.

    Args:
        content_type: the answer's header, with its parameters.
        rate_hz: that was asked for.

    Raises:
        NotSpeechError: the header names another format or rate.
    """

    def __init__(self, content_type: str, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._window_bytes = int(rate_hz * _WINDOW_S) * _SAMPLE_BYTES
        self._buffer = b""
        self._begun = False
        self._left_bytes: int | None = None
        self._check_type(content_type)

    def take(self, data: bytes) -> bytes:
        """Whole windows of samples that may be played.

        Raises:
            NotSpeechError: they may not.
        """
        self._buffer += data
        if not self._begun and not self._begin(ended=False):
            return b""
        return self._played(len(self._buffer) // self._window_bytes * self._window_bytes)

    def rest(self) -> bytes:
        """What is left when the answer has ended; half a sample is dropped.

        Raises:
            NotSpeechError: it may not be played.
        """
        if not self._begun and not self._begin(ended=True):
            return b""
        return self._played(len(self._buffer) // _SAMPLE_BYTES * _SAMPLE_BYTES)

    def _played(self, size: int) -> bytes:
        """The first ``size`` bytes, checked; of a WAV no more than its samples."""
        samples, self._buffer = self._buffer[:size], self._buffer[size:]
        if self._left_bytes is not None:
            samples = samples[: self._left_bytes]
            self._left_bytes -= len(samples)
        for at in range(0, len(samples), self._window_bytes):
            if _is_noise(samples[at : at + self._window_bytes]):
                raise NotSpeechError("its audio is noise at full scale")
        return samples

    def _begin(self, *, ended: bool) -> bool:
        """Whether the answer's beginning was there and is checked."""
        head = self._buffer
        if head.startswith(b"RIFF"):
            self._begun = self._strip_header(ended=ended)
            return self._begun
        if not ended and len(head) < self._window_bytes:
            return False
        if head.startswith(_OTHER_FORMATS) or head[4:8] == b"ftyp" or _is_mp3(head):
            raise NotSpeechError("its audio is compressed, not raw PCM")
        if _is_text(head[:_TEXT_BYTES]):
            raise NotSpeechError("its answer is text instead of audio")
        self._begun = True
        return True

    def _strip_header(self, *, ended: bool) -> bool:
        """Reads a WAV's chunks up to its samples."""
        at = 12
        while at + 8 <= len(self._buffer):
            name, size = struct.unpack_from("<4sI", self._buffer, at)
            body = self._buffer[at + 8 : at + 8 + size]
            if name == b"data":
                self._left_bytes = None if size in _UNKNOWN_SIZES else size
                self._buffer = self._buffer[at + 8 :]
                return True
            if name == b"fmt " and len(body) >= 16:
                self._check_format(body)
            at += 8 + size + size % 2
        if ended or at > _HEADER_BYTES:
            raise NotSpeechError("its WAV holds no samples")
        return False

    def _check_format(self, body: bytes) -> None:
        _, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", body)
        if (channels, rate_hz, bits) != (1, self._rate_hz, 8 * _SAMPLE_BYTES):
            raise NotSpeechError(
                f"its audio is {rate_hz} Hz, {channels} channels, {bits} bits; "
                f"{self._rate_hz} Hz mono 16 bits were asked for"
            )

    def _check_type(self, content_type: str) -> None:
        header = Message()
        header["Content-Type"] = content_type
        mime = header.get_content_type() if content_type else ""
        if mime not in _PCM_TYPES:
            raise NotSpeechError(f"its answer is {mime[:40]}, not raw PCM")
        for name, wanted in (("rate", self._rate_hz), ("channels", 1)):
            told = str(header.get_param(name, str(wanted)))
            if told != str(wanted):
                raise NotSpeechError(f"its audio has {name} {told[:10]}; {wanted} was asked for")


def _is_text(head: bytes) -> bool:
    """JSON, HTML or a message. Of samples, every one would have to be above 8,000."""
    return bool(head) and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)


def _is_mp3(head: bytes) -> bool:
    """Two frames of MPEG audio in a row: a single mark may be a sample."""
    first = _mp3_frame_bytes(head[:4])
    return first > 0 and (len(head) < first + 4 or _mp3_frame_bytes(head[first : first + 4]) > 0)


def _mp3_frame_bytes(header: bytes) -> int:
    """The length of the layer III frame that begins so; 0: none does. ISO 11172-3, 13818-3."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, rate, kbps = header[1] >> 3 & 3, header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or rate == 3 or kbps in (0, 15):
        return 0
    rate_hz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    return (144 if version == 3 else 72) * _MP3_KBPS[version == 3][kbps] * 1000 // rate_hz + (
        header[2] >> 1 & 1
    )


_MP3_KBPS = (
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)


def _is_noise(window: bytes) -> bool:
    samples = np.frombuffer(window[: len(window) // 2 * 2], "<i2").astype(np.float64)
    power = float(samples @ samples)
    if len(samples) < 100 or power < len(samples) * _NOISE_RMS**2:
        return False
    return abs(float(samples[1:] @ samples[:-1])) < _NOISE_CORRELATION * power
