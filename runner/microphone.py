"""What a caller says in a room, taken straight to whoever listens.

LiveKit's own input passes each frame through four tasks of the session, to end at the detector of
voices; nobody else wants it where the detector's events carry the sound.
"""

import asyncio

from livekit import rtc
from livekit.agents.voice import io

from runner.detector import RATE_HZ, WINDOW_MS
from runner.native_audio import Hear, RealtimeStream


class Microphone(io.AudioInput):
    """The microphone of the participant ``identity``, on whatever track it is; 16 kHz, mono.

    ``hear`` is given each window of the detector, in LiveKit's thread; without it, the session is.
    """

    def __init__(self, room: rtc.Room, identity: str, hear: Hear | None) -> None:
        super().__init__(label="room")
        self._room = room
        self._identity = identity
        self._frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()
        self._hear = hear or self._pass_on
        self._loop = asyncio.get_running_loop()
        self._stream: RealtimeStream | None = None
        room.on("track_subscribed", self._on_track)
        for participant in room.remote_participants.values():
            for publication in participant.track_publications.values():
                if publication.track is not None:
                    self._on_track(publication.track, publication, participant)

    async def __anext__(self) -> rtc.AudioFrame:
        return await self._frames.get()

    def close(self) -> None:
        """Hears no more."""
        self._room.off("track_subscribed", self._on_track)
        self._stop()

    def _stop(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def _pass_on(self, samples: bytes) -> None:
        frame = rtc.AudioFrame(samples, RATE_HZ, 1, len(samples) // 2)
        self._loop.call_soon_threadsafe(self._frames.put_nowait, frame)

    def _on_track(
        self,
        track: rtc.Track,
        publication: rtc.RemoteTrackPublication,
        participant: rtc.RemoteParticipant,
    ) -> None:
        """A caller who comes back, or takes another microphone, has a new track."""
        if (
            participant.identity == self._identity
            and publication.source == rtc.TrackSource.SOURCE_MICROPHONE
        ):
            self._stop()
            self._stream = RealtimeStream(track, RATE_HZ, WINDOW_MS, self._hear)
