"""The agent's voice leaves in real time, in frames of 10 ms, and only while there is one."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from livekit import rtc
from livekit.agents.voice.io import PlaybackFinishedEvent

from runner import loudspeaker
from runner.loudspeaker import RATE_HZ, Loudspeaker

FRAME = RATE_HZ // 100  # samples


class Room:
    """Takes the agent's track; a caller has it when ``heard`` is set. ``sent``: its frames."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()
        self.sent: list[bytes] = []
        self.local_participant = self

    async def publish_track(self, *_: object) -> SimpleNamespace:
        return SimpleNamespace(wait_for_subscription=self.heard.wait)

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        assert (frame.sample_rate, frame.samples_per_channel) == (RATE_HZ, FRAME)
        self.sent.append(bytes(frame.data))

    async def aclose(self) -> None:
        """There is nothing to close."""


class Said:
    """A loudspeaker, and how what it played ended."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.speaker = Loudspeaker(room)  # type: ignore[arg-type]
        self.ended: list[PlaybackFinishedEvent] = []
        self.speaker.on("playback_finished", self.ended.append)

    async def say(self, samples: int) -> None:
        pcm = b"\1\0" * samples
        await self.speaker.capture_frame(rtc.AudioFrame(pcm, RATE_HZ, 1, samples))

    async def sent(self, frames: int) -> None:
        async with asyncio.timeout(5):
            while len(self.room.sent) < frames:  # noqa: ASYNC110  the clock makes it so
                await asyncio.sleep(0.001)


@pytest.fixture
async def said(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Said]:
    room = Room()
    monkeypatch.setattr(loudspeaker.rtc, "AudioSource", lambda *_, **__: room)
    monkeypatch.setattr(
        loudspeaker.rtc.LocalAudioTrack, "create_audio_track", lambda *_: "the track"
    )
    room.heard.set()
    it = Said(room)
    yield it
    await it.speaker.aclose()


async def test_all_is_played_and_the_last_frame_filled_with_silence(said: Said) -> None:
    await said.say(2 * FRAME + FRAME // 2)
    said.speaker.flush()
    played = await said.speaker.wait_for_playout()
    assert b"".join(said.room.sent) == b"\1\0" * (5 * FRAME // 2) + b"\0" * FRAME
    assert (played.playback_position, played.interrupted) == (pytest.approx(0.03), False)


async def test_nothing_leaves_before_a_caller_has_the_track(said: Said) -> None:
    said.room.heard.clear()
    late = Said(said.room)
    saying = asyncio.create_task(late.say(FRAME))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not saying.done()
    said.room.heard.set()
    await saying
    await late.sent(1)
    await late.speaker.aclose()


async def test_a_frame_waits_until_it_is_whole_or_the_last(said: Said) -> None:
    await said.say(FRAME + 1)
    await said.sent(1)
    await said.say(FRAME - 1)
    await said.sent(2)
    assert said.ended == []


async def test_what_is_interrupted_stops_at_once_and_tells_how_far_it_came(said: Said) -> None:
    await said.say(100 * FRAME)
    await said.sent(2)
    playing = asyncio.all_tasks()
    said.speaker.clear_buffer()
    said.speaker.flush()  # as LiveKit does when it has stopped giving frames
    for _ in range(5):
        await asyncio.sleep(0)
    assert {task.get_name() for task in playing - asyncio.all_tasks()} == {"loudspeaker"}
    sent = len(said.room.sent)
    [end] = said.ended
    assert (end.playback_position, end.interrupted) == (pytest.approx(sent / 100), True)
    await said.say(FRAME)
    said.speaker.flush()
    await said.speaker.wait_for_playout()
    assert len(said.room.sent) == sent + 1


async def test_a_pause_holds_what_is_left(said: Said) -> None:
    await said.say(5 * FRAME)
    said.speaker.flush()
    await said.sent(1)
    said.speaker.pause()
    sent = len(said.room.sent)
    await asyncio.sleep(0.03)
    assert len(said.room.sent) <= sent + 1
    said.speaker.resume()
    await said.speaker.wait_for_playout()
    assert len(said.room.sent) == 5


async def test_what_is_said_next_is_another_segment(said: Said) -> None:
    for _ in range(2):
        await said.say(2 * FRAME)
        said.speaker.flush()
    await said.speaker.wait_for_playout()
    assert [end.playback_position for end in said.ended] == [pytest.approx(0.02)] * 2
