"""The agent's voice leaves in real time, in packets of 20 ms, and silence for a while after it."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from livekit import rtc
from livekit.agents.types import USERDATA_TIMED_TRANSCRIPT
from livekit.agents.voice.io import PlaybackFinishedEvent

from runner import loudspeaker
from runner.loudspeaker import RATE_HZ, Loudspeaker

FRAME = RATE_HZ // 100  # samples
PACKET = 2 * FRAME


class Room:
    """Takes the agent's track; a caller has it when ``heard`` is set. ``sent``: its frames,
    but for the ``silent`` ones."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()
        self.sent: list[bytes] = []
        self.silent = 0
        self.local_participant = self

    async def publish_track(self, *_: object) -> SimpleNamespace:
        return SimpleNamespace(wait_for_subscription=self.heard.wait)

    def send(self, frame: bytes) -> None:
        assert len(frame) == 2 * FRAME
        if any(frame):
            self.sent.append(frame)
        else:
            self.silent += 1

    async def aclose(self) -> None:
        """There is nothing to close."""


class Words:
    """In the place of the subtitles."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.heard_s: list[float] = []

    def clause(self, clause: str) -> None:
        self.told.append(clause)

    def sound(self, seconds: float) -> None:
        self.told.append(("sound", seconds))

    def heard(self, at_s: float) -> None:
        self.heard_s.append(at_s)

    def end(self, *, complete: bool) -> str:
        self.told.append(("end", complete))
        return "what was shown"


class Said:
    """A loudspeaker, and how what it played ended."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.speaker = Loudspeaker(room)  # type: ignore[arg-type]
        self.ended: list[PlaybackFinishedEvent] = []
        self.speaker.on("playback_finished", self.ended.append)

    async def say(self, samples: int, clause: str = "") -> None:
        userdata = {USERDATA_TIMED_TRANSCRIPT: [clause]} if clause else {}
        frame = rtc.AudioFrame(b"\1\0" * samples, RATE_HZ, 1, samples, userdata=userdata)
        await self.speaker.capture_frame(frame)

    async def silent(self, frames: int) -> None:
        async with asyncio.timeout(5):
            while self.room.silent < frames:  # noqa: ASYNC110  the clock makes it so
                await asyncio.sleep(0.001)

    async def silence_ends(self) -> None:
        """Nothing more comes in the time of five packets."""
        before = -1
        async with asyncio.timeout(5):
            while self.room.silent != before:
                before = self.room.silent
                await asyncio.sleep(0.1)

    async def sent(self, frames: int) -> None:
        async with asyncio.timeout(5):
            while len(self.room.sent) < frames:  # noqa: ASYNC110  the clock makes it so
                await asyncio.sleep(0.001)


@pytest.fixture
async def said(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Said]:
    room = Room()
    monkeypatch.setattr(loudspeaker, "RealtimeSource", lambda _: room)
    monkeypatch.setattr(
        loudspeaker.rtc.LocalAudioTrack, "create_audio_track", lambda *_: "the track"
    )
    room.heard.set()
    it = Said(room)
    yield it
    await it.speaker.aclose()


async def test_all_is_played_and_the_last_frame_filled_with_silence(said: Said) -> None:
    await said.say(PACKET + FRAME // 2)
    said.speaker.flush()
    played = await said.speaker.wait_for_playout()
    assert b"".join(said.room.sent) == b"\1\0" * (5 * FRAME // 2) + b"\0\0" * (FRAME // 2)
    assert (played.playback_position, played.interrupted) == (pytest.approx(0.04), False)


async def test_nothing_leaves_before_a_caller_has_the_track(said: Said) -> None:
    said.room.heard.clear()
    late = Said(said.room)
    saying = asyncio.create_task(late.say(PACKET))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not saying.done()
    said.room.heard.set()
    await saying
    await late.sent(1)
    await late.speaker.aclose()


async def test_a_packet_waits_until_it_is_whole_or_the_last(said: Said) -> None:
    await said.say(PACKET + 1)
    await said.sent(2)
    await said.say(PACKET - 1)
    await said.sent(4)
    assert said.ended == []


async def test_what_is_interrupted_stops_at_once_and_tells_how_far_it_came(said: Said) -> None:
    await said.say(100 * FRAME)
    await said.sent(2)
    said.speaker.clear_buffer()
    said.speaker.flush()  # as LiveKit does when it has stopped giving frames
    sent = len(said.room.sent)
    [end] = said.ended
    assert (end.playback_position, end.interrupted) == (pytest.approx(sent / 100), True)
    await said.say(PACKET)
    said.speaker.flush()
    await said.speaker.wait_for_playout()
    assert len(said.room.sent) == sent + 2


async def test_a_pause_holds_what_is_left(said: Said) -> None:
    await said.say(5 * PACKET)
    said.speaker.flush()
    await said.sent(1)
    said.speaker.pause()
    sent = len(said.room.sent)
    await asyncio.sleep(0.05)
    assert len(said.room.sent) <= sent + 2
    said.speaker.resume()
    await said.speaker.wait_for_playout()
    assert len(said.room.sent) == 10


async def test_silence_is_sent_between_two_answers_and_not_for_ever(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loudspeaker, "_TAIL_S", 0.09)
    await said.say(PACKET)
    said.speaker.flush()
    await said.speaker.wait_for_playout()
    await said.silence_ends()
    assert said.room.silent == 10
    await said.say(PACKET)
    await said.sent(4)


async def test_silence_goes_on_when_an_answer_may_come(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loudspeaker, "_TAIL_S", 0.09)
    await said.say(PACKET)
    said.speaker.flush()
    await said.silent(4)
    said.speaker.stay()
    await said.silence_ends()
    assert said.room.silent >= 14


async def test_silence_is_sent_while_a_voice_is_waited_for_or_held(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loudspeaker, "_TAIL_S", 0.0)
    await said.say(PACKET)
    await said.silent(4)
    await said.say(PACKET)
    await said.sent(4)
    said.speaker.pause()
    silent = said.room.silent
    await said.silent(silent + 4)
    said.speaker.resume()
    await said.say(PACKET)
    await said.sent(6)


async def test_words_go_with_their_sound(said: Said) -> None:
    subtitles = Words()
    said.speaker.show(subtitles)  # type: ignore[arg-type]
    await said.say(2 * PACKET, "One, ")
    await said.say(PACKET, "two.")
    said.speaker.flush()
    played = await said.speaker.wait_for_playout()
    assert played.synchronized_transcript == "what was shown"
    assert subtitles.told[:2] == ["One, ", "two."]
    assert ("sound", pytest.approx(0.06)) in subtitles.told
    assert subtitles.heard_s == pytest.approx([0.0, 0.02, 0.04])
    assert subtitles.told[-1] == ("end", True)


async def test_a_voice_that_broke_off_says_nothing_of_the_length_of_its_words(said: Said) -> None:
    subtitles = Words()
    said.speaker.show(subtitles)  # type: ignore[arg-type]
    await said.say(PACKET)
    said.speaker._mark_input_truncated()  # as LiveKit does
    said.speaker.flush()
    await said.speaker.wait_for_playout()
    assert subtitles.told == [("end", False)]


async def test_what_is_said_next_is_another_segment(said: Said) -> None:
    for _ in range(2):
        await said.say(2 * FRAME)
        said.speaker.flush()
    await said.speaker.wait_for_playout()
    assert [end.playback_position for end in said.ended] == [pytest.approx(0.02)] * 2
