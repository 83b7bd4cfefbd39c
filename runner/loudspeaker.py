"""The agent's voice in a room, sent while there is something to say, and silence for a while after.

LiveKit's own output gives its track a queue, which feeds silence to the encoder for ever; that is
half of what a call costs that is at rest. But a listener's jitter buffer takes a pause of less than
two seconds, in which nothing was sent, for a network that is late by as much, and keeps back half
of that of all that is said in the next minutes. So a pause is either sent, or long.

Whoever holds the voice's words is told how far it is.
"""

import asyncio
import logging
import time
from collections import deque

from livekit import rtc
from livekit.agents.types import USERDATA_TIMED_TRANSCRIPT
from livekit.agents.voice import io

from runner.native_audio import RealtimeSource
from runner.subtitles import Subtitles

log = logging.getLogger(__name__)

RATE_HZ = 24_000
"""Of the track. LiveKit resamples what a voice brings."""

_FRAME_S = 0.01  # a track without a queue takes no others
_FRAME_BYTES = 2 * int(RATE_HZ * _FRAME_S)
_PACKET_BYTES = 2 * _FRAME_BYTES  # of the encoder: a frame alone would wait for the next one
_PACKET_S = 2 * _FRAME_S
_SILENCE = bytes(_PACKET_BYTES)
_TAIL_S = 10.0  # of silence: an answer rarely begins in the two seconds after it
_LATE_S = 0.2  # more than that is not made up for
_TRACK = "agent"


class Loudspeaker(io.AudioOutput):
    """A track in ``room``, played in real time; a timer sends a packet after the other, which costs
    half of what a task does."""

    def __init__(self, room: rtc.Room) -> None:
        super().__init__(
            label="room",
            sample_rate=RATE_HZ,
            capabilities=io.AudioOutputCapabilities(pause=True),
        )
        self._room = room
        self._source = RealtimeSource(RATE_HZ)
        self._subtitles: Subtitles | None = None
        self._heard = asyncio.Event()  # somebody has subscribed
        self._packets: deque[bytes] = deque()
        self._rest = b""  # less than a packet
        self._given_s = self._played_s = self._silent_s = 0.0
        self._speaking = False
        self._whole = False  # nothing is added to what is being said …
        self._truncated = False  # … though its text goes on
        self._paused = False
        self._said = asyncio.Event()  # nothing is being said
        self._loop = asyncio.get_running_loop()
        self._next_one: asyncio.TimerHandle | None = None  # of the packets; None: none is sent
        self._due = 0.0
        self._publishing = asyncio.create_task(self._publish(), name="loudspeaker's track")

    def show(self, subtitles: Subtitles) -> None:
        """``subtitles`` have the words of what is said from now on."""
        self._subtitles = subtitles

    async def _publish(self) -> None:
        """Shows the track to the room; what is said waits until the caller has it."""
        track = rtc.LocalAudioTrack.create_audio_track(_TRACK, self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        try:
            publication = await self._room.local_participant.publish_track(track, options)
        except rtc.participant.PublishTrackError as error:
            log.error("the agent cannot be heard: its track was not taken: %s", error)
            return
        await publication.wait_for_subscription()
        self._heard.set()

    async def aclose(self) -> None:
        """Falls silent."""
        if self._next_one is not None:
            self._next_one.cancel()
        self._publishing.cancel()
        await asyncio.wait([self._publishing])
        await self._source.aclose()

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await self._heard.wait()
        while self._speaking and self._whole:
            await self._said.wait()  # what was said before is heard out first
        await super().capture_frame(frame)
        self._cut(self._rest + frame.data.tobytes())
        self._given_s += frame.duration
        for clause in frame.userdata.get(USERDATA_TIMED_TRANSCRIPT, ()):
            if self._subtitles:
                self._subtitles.clause(clause)
        if not self._speaking:
            self._speaking, self._whole = True, False
            self._said.clear()
        if self._next_one is None:
            self._due = self._loop.time()
            self._next_one = self._loop.call_at(self._due, self._send)
            self.stay()

    def _cut(self, sound: bytes) -> None:
        whole = len(sound) - len(sound) % _PACKET_BYTES
        for at in range(0, whole, _PACKET_BYTES):
            self._packets.append(sound[at : at + _PACKET_BYTES])
        self._rest = sound[whole:]

    def _mark_input_truncated(self) -> None:
        self._truncated = True

    def flush(self) -> None:
        super().flush()
        self._whole = True
        if self._subtitles and not self._truncated:
            self._subtitles.sound(self._given_s)

    def clear_buffer(self) -> None:
        if self._speaking:
            self._over(interrupted=True)

    def pause(self) -> None:
        super().pause()
        self._paused = True

    def resume(self) -> None:
        super().resume()
        self._paused = False

    def stay(self) -> None:
        """Something may soon be said: the silence goes on."""
        self._silent_s = 0.0

    def _send(self) -> None:
        """Sends a packet, of what is said or of silence, and comes again for the next."""
        packet = self._next()
        self._silent_s = 0.0 if packet else self._silent_s + _PACKET_S
        for at in range(0, _PACKET_BYTES, _FRAME_BYTES):
            self._source.send((packet or _SILENCE)[at : at + _FRAME_BYTES])
        if not self._speaking and self._silent_s >= _TAIL_S:
            self._next_one = None
            return
        now = self._loop.time()
        self._due = (self._due if now - self._due < _LATE_S else now) + _PACKET_S
        self._next_one = self._loop.call_at(self._due, self._send)

    def _next(self) -> bytes:
        """The next packet of what is said, the last one filled up; empty: nothing can be said."""
        if not self._speaking or self._paused:
            return b""
        if self._whole and not self._packets and not self._rest:
            self._over(interrupted=False)
            return b""
        if self._packets:
            packet = self._packets.popleft()
        elif self._whole:
            packet, self._rest = self._rest.ljust(_PACKET_BYTES, b"\0"), b""
        else:
            return b""
        if self._played_s == 0:
            self.on_playback_started(created_at=time.time())
        if self._subtitles:
            self._subtitles.heard(self._played_s)
        self._played_s += _PACKET_S
        return packet

    def _over(self, *, interrupted: bool) -> None:
        played_s, self._played_s, self._given_s = self._played_s, 0.0, 0.0
        complete = not interrupted and not self._truncated
        words = self._subtitles.end(complete=complete) if self._subtitles else None
        self._truncated = False
        self._packets.clear()
        self._rest = b""
        self._speaking = False
        self._said.set()
        self.on_playback_finished(
            playback_position=played_s, interrupted=interrupted, synchronized_transcript=words
        )
