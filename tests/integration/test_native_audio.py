"""Sound through a real LiveKit server: what leaves in frames of 10 ms comes in windows, in
LiveKit's own thread, and whoever has closed hears no more."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import numpy as np
import pytest
from livekit import api, rtc
from livekit.rtc._ffi_client import FfiClient

from runner.config import LiveKit
from runner.native_audio import RealtimeSource, RealtimeStream
from tests.integration.test_livekit_server import KEYS, server, user_cache

__all__ = ["server", "user_cache"]  # fixtures

RATE_HZ = 16_000
WINDOW_MS = 32
PATIENCE_S = 20.0
HUM = (8_000 * np.sin(np.arange(480) * 2 * np.pi / 48)).astype(np.int16)  # 20 ms at 24 kHz


class Ear:
    """Keeps what it hears, and from which thread."""

    def __init__(self) -> None:
        self.windows: list[bytes] = []
        self.threads: set[int] = set()
        self.loud = threading.Event()

    def hear(self, window: bytes) -> None:
        self.windows.append(window)
        self.threads.add(threading.get_ident())
        if np.abs(np.frombuffer(window, np.int16)).max() > 4_000:
            self.loud.set()


async def room_of(config: LiveKit, identity: str, exits: AsyncExitStack) -> rtc.Room:
    grants = api.VideoGrants(room_join=True, room="a-room")
    token = api.AccessToken(KEYS.api_key, KEYS.api_secret).with_identity(identity)
    room = rtc.Room()
    await room.connect(config.url, token.with_grants(grants).to_jwt())
    exits.push_async_callback(room.disconnect)
    return room


class Call:
    """A source in one room, which hums, and its track as another participant has it."""

    def __init__(self, source: RealtimeSource, track: rtc.Track) -> None:
        self.source = source
        self.track = track

    async def hums_until(self, heard: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not heard():
                for half in (HUM[:240], HUM[240:]):
                    self.source.send(half.tobytes())
                await asyncio.sleep(0.02)


@pytest.fixture
async def call(server: tuple[LiveKit, int]) -> AsyncIterator[Call]:
    config, _ = server
    async with AsyncExitStack() as exits:
        agent = await room_of(config, "agent", exits)
        caller = await room_of(config, "caller", exits)
        came: asyncio.Future[rtc.Track] = asyncio.get_running_loop().create_future()
        caller.on("track_subscribed", lambda track, *_: came.set_result(track))
        source = RealtimeSource(24_000)
        exits.push_async_callback(source.aclose)
        published = rtc.LocalAudioTrack.create_audio_track("voice", source)
        await agent.local_participant.publish_track(published, rtc.TrackPublishOptions())
        yield Call(source, await asyncio.wait_for(came, PATIENCE_S))


async def test_what_is_sent_is_heard_in_windows_and_not_in_the_loop(call: Call) -> None:
    ear = Ear()
    stream = RealtimeStream(call.track, RATE_HZ, WINDOW_MS, ear.hear)
    await call.hums_until(ear.loud.is_set)
    stream.close()
    assert {len(window) for window in ear.windows} == {2 * RATE_HZ * WINDOW_MS // 1000}
    assert threading.get_ident() not in ear.threads


async def test_who_has_closed_hears_no_more_and_others_do(call: Call) -> None:
    first, second = Ear(), Ear()
    closing = RealtimeStream(call.track, RATE_HZ, WINDOW_MS, first.hear)
    staying = RealtimeStream(call.track, RATE_HZ, WINDOW_MS, second.hear)
    await call.hums_until(lambda: first.loud.is_set() and second.loud.is_set())
    closing.close()
    await call.hums_until(lambda: closing._queue not in listeners())
    heard, others = len(first.windows), len(second.windows)
    await call.hums_until(lambda: len(second.windows) > others + 3)
    assert len(first.windows) == heard
    staying.close()


async def test_a_frame_that_cannot_be_heard_is_told_and_the_next_one_heard(
    call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[bytes] = []

    def hear(window: bytes) -> None:
        calls.append(window)
        raise ValueError(window[:0])

    stream = RealtimeStream(call.track, RATE_HZ, WINDOW_MS, hear)
    await call.hums_until(lambda: len(calls) > 2)
    stream.close()
    assert "sound of the caller was lost" in caplog.text
    assert stream._queue.empty()


async def test_nobody_is_woken_by_the_answers_to_what_is_sent(call: Call) -> None:
    ear, queue = Ear(), FfiClient.instance.queue.subscribe()
    stream = RealtimeStream(call.track, RATE_HZ, WINDOW_MS, ear.hear)
    await call.hums_until(ear.loud.is_set)
    stream.close()
    FfiClient.instance.queue.unsubscribe(queue)
    told = {queue.get_nowait().WhichOneof("message") for _ in range(queue.qsize())}
    assert "audio_stream_event" in told
    assert "capture_audio_frame" not in told


def listeners() -> list[object]:
    """The queues that LiveKit's events go to."""
    return [queue for queue, *_ in FfiClient.instance.queue._subscribers]


async def test_another_kind_of_source_works_when_it_is_closed() -> None:
    await RealtimeSource(24_000).aclose()
    other = rtc.AudioSource(24_000, 1)
    frame = rtc.AudioFrame(HUM.tobytes(), 24_000, 1, len(HUM))
    await asyncio.wait_for(other.capture_frame(frame), PATIENCE_S)
    await other.aclose()
