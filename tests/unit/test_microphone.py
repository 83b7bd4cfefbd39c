"""The caller's microphone is heard, whichever track it is on, and nobody else's."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from livekit import rtc

from runner import microphone
from runner.detector import RATE_HZ, WINDOW_S
from runner.microphone import Microphone

MICROPHONE = rtc.TrackSource.SOURCE_MICROPHONE
CALLER = "caller"


class Track:
    """What comes on it is said by the test."""

    def __init__(self) -> None:
        self.hear: Callable[[bytes], None] | None = None

    def says(self, words: bytes) -> None:
        if self.hear:
            self.hear(words)


class Stream:
    """Of a track: whoever opens it hears what is said there."""

    def __init__(self, track: Track, rate_hz: int, frame_ms: int, hear: Any) -> None:
        assert (rate_hz, frame_ms) == (RATE_HZ, 1000 * WINDOW_S)
        self._track = track
        track.hear = hear

    def close(self) -> None:
        self._track.hear = None


class Room(rtc.EventEmitter[str]):
    """Somebody's tracks appear in it."""

    def __init__(self) -> None:
        super().__init__()
        self.remote_participants: dict[str, Any] = {}

    def shows(self, identity: str, source: int = MICROPHONE) -> Track:
        track = Track()
        publication = SimpleNamespace(source=source, track=track)
        tracks = {"sid": publication}
        participant = SimpleNamespace(identity=identity, track_publications=tracks)
        self.remote_participants[identity] = participant
        self.emit("track_subscribed", track, publication, participant)
        return track


@pytest.fixture(autouse=True)
def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "RealtimeStream", Stream)


async def test_the_caller_is_heard_and_nobody_else() -> None:
    room, heard = Room(), list[Any]()
    before = room.shows(CALLER)
    Microphone(room, CALLER, heard.append)  # type: ignore[arg-type]
    other = room.shows("other")
    screen = room.shows(CALLER, rtc.TrackSource.SOURCE_SCREENSHARE_AUDIO)
    for track, words in ((before, b"caller"), (other, b"other"), (screen, b"film")):
        track.says(words)
    assert heard == [b"caller"]


async def test_who_comes_back_on_another_track_is_heard_there_alone() -> None:
    room, heard = Room(), list[Any]()
    listening = Microphone(room, CALLER, heard.append)  # type: ignore[arg-type]
    first = room.shows(CALLER)
    second = room.shows(CALLER)
    first.says(b"old")
    second.says(b"new")
    assert heard == [b"new"]
    listening.close()
    second.says(b"late")
    room.shows(CALLER).says(b"later")
    assert heard == [b"new"]


async def test_the_session_is_given_what_nobody_else_takes() -> None:
    room = Room()
    listening = Microphone(room, CALLER, None)  # type: ignore[arg-type]
    said = threading.Thread(target=room.shows(CALLER).says, args=(b"\1\0\2\0",))
    said.start()
    frame = await anext(listening)
    said.join()
    assert (frame.sample_rate, list(frame.data)) == (RATE_HZ, [1, 2])
    listening.close()
