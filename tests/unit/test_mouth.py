"""The microphone of a caller without a head."""

import asyncio

import numpy as np
import pytest
from livekit import rtc

from runner.audio import Samples, sound_bounds
from runner.bench.voices import noise
from runner.call import FRAME_SAMPLES, RATE_HZ, Mouth

WORDS = np.full(2 * FRAME_SAMPLES, 9000, np.int16)


class Source:
    """Keeps the frames that a track would send; ``some``: there is one more."""

    queued_duration = 0.0

    def __init__(self, *_: object, **__: object) -> None:
        self.frames: list[Samples] = []
        self.some = asyncio.Event()

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        self.frames.append(np.frombuffer(frame.data, np.int16))
        self.some.set()
        await asyncio.sleep(0)

    async def more(self, count: int) -> list[Samples]:
        """The next frames."""
        before = len(self.frames)
        while len(self.frames) < before + count:
            self.some.clear()
            await self.some.wait()
        return self.frames[before : before + count]


@pytest.fixture(autouse=True)
def source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.call.rtc.AudioSource", Source)


async def test_between_words_a_microphone_in_a_room_is_faint_and_never_digital_silence() -> None:
    background = noise(FRAME_SAMPLES)
    mouth = Mouth(background)
    before = await mouth.source.more(2)
    await mouth.say(WORDS)
    spoken = [frame for frame in mouth.source.frames if frame[0] == WORDS[0]]
    after = await mouth.source.more(2)
    await mouth.aclose()
    assert len(spoken) == 2
    for frame in (*before, *after):
        assert np.array_equal(frame, background)
    assert background.any()
    assert sound_bounds(np.tile(background, RATE_HZ // FRAME_SAMPLES)) is None


async def test_without_a_background_it_is_silent() -> None:
    mouth = Mouth()
    frames = await mouth.source.more(2)
    await mouth.aclose()
    assert [frame.any() for frame in frames] == [False, False]
    assert {len(frame) for frame in frames} == {FRAME_SAMPLES}
