"""The caller's microphone is heard, whichever track it is on, and nobody else's."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from livekit import rtc

from runner import microphone
from runner.detector import RATE_HZ, WINDOW_S
from runner.microphone import Microphone

MICROPHONE = rtc.TrackSource.SOURCE_MICROPHONE
CALLER = "caller"


class Stream:
    """A track's frames: the test puts them, as words."""

    def __init__(self, track: asyncio.Queue[str], **options: Any) -> None:
        assert options["sample_rate"] == RATE_HZ
        assert options["frame_size_ms"] == 1000 * WINDOW_S
        self._track = track

    def __aiter__(self) -> AsyncIterator[SimpleNamespace]:
        return self

    async def __anext__(self) -> SimpleNamespace:
        return SimpleNamespace(frame=await self._track.get())

    async def aclose(self) -> None:
        """There is nothing to close."""


class Room(rtc.EventEmitter[str]):
    """Somebody's tracks appear in it."""

    def __init__(self) -> None:
        super().__init__()
        self.remote_participants: dict[str, Any] = {}

    def shows(self, identity: str, source: int = MICROPHONE) -> asyncio.Queue[str]:
        track: asyncio.Queue[str] = asyncio.Queue()
        publication = SimpleNamespace(source=source, track=track)
        tracks = {"sid": publication}
        participant = SimpleNamespace(identity=identity, track_publications=tracks)
        self.remote_participants[identity] = participant
        self.emit("track_subscribed", track, publication, participant)
        return track


@pytest.fixture(autouse=True)
def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone.rtc, "AudioStream", Stream)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_caller_is_heard_and_nobody_else() -> None:
    room, heard = Room(), list[Any]()
    before = room.shows(CALLER)
    Microphone(room, CALLER, heard.append)  # type: ignore[arg-type]
    other = room.shows("other")
    screen = room.shows(CALLER, rtc.TrackSource.SOURCE_SCREENSHARE_AUDIO)
    for track, word in ((before, "caller"), (other, "other"), (screen, "film")):
        track.put_nowait(word)
    await settled()
    assert heard == ["caller"]


async def test_who_comes_back_on_another_track_is_heard_there_alone() -> None:
    room, heard = Room(), list[Any]()
    listening = Microphone(room, CALLER, heard.append)  # type: ignore[arg-type]
    first = room.shows(CALLER)
    await settled()
    second = room.shows(CALLER)
    await settled()
    first.put_nowait("old")
    second.put_nowait("new")
    await settled()
    assert heard == ["new"]
    listening.close()
    second.put_nowait("late")
    room.shows(CALLER).put_nowait("later")
    await settled()
    assert heard == ["new"]


async def test_the_session_is_given_what_nobody_else_takes() -> None:
    room = Room()
    listening = Microphone(room, CALLER, None)  # type: ignore[arg-type]
    room.shows(CALLER).put_nowait("word")
    assert await anext(listening) == "word"
    listening.close()
