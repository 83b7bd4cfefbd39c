"""LiveKit's audio without the SDK's tasks around it: frames of 10 ms out, windows in.

The SDK awaits an answer to each frame that is sent, which wakes all that listen to the room, and
passes each that comes through two queues and two tasks. At 100 and 30 frames a second that is more
CPU than the encoder and the detector take. Here a frame is sent without waiting, and one that comes
is heard in LiveKit's own thread.
"""

import asyncio
import ctypes
import logging
import threading
from collections.abc import Callable

from livekit import rtc
from livekit.rtc._ffi_client import INVALID_HANDLE, FfiClient, FfiHandle
from livekit.rtc._proto.audio_frame_pb2 import AudioStreamType, OwnedAudioFrameBuffer
from livekit.rtc._proto.ffi_pb2 import FfiEvent, FfiRequest

log = logging.getLogger(__name__)

Hear = Callable[[bytes], None]
"""Takes samples: 16 bit, mono."""


class RealtimeSource(rtc.AudioSource):
    """Of a track without a queue: such a source takes frames of 10 ms, mono, and gives each to the
    encoder at once. Until it is closed, no source of another kind can be used in the process."""

    def __init__(self, rate_hz: int) -> None:
        super().__init__(rate_hz, 1, queue_size_ms=0)
        samples = rate_hz // 100
        kept = bytearray(2 * samples)
        frame = rtc.AudioFrame(kept, rate_hz, 1, samples)
        self._frame = memoryview(kept)  # where LiveKit looks for the samples, and copies them
        request = FfiRequest()
        request.capture_audio_frame.source_handle = self._ffi_handle.handle
        request.capture_audio_frame.buffer.CopyFrom(frame._proto_info())  # noqa: SLF001
        told = request.SerializeToString()  # the same for all frames
        self._request = (ctypes.c_ubyte * len(told)).from_buffer_copy(told)
        self._answer = (ctypes.POINTER(ctypes.c_ubyte)(), ctypes.c_size_t())
        self._livekit = FfiClient.instance._ffi_lib  # noqa: SLF001
        _leave_out_answers()

    def send(self, frame: bytes) -> None:
        """Plays 10 ms, 16 bit, after what was sent before."""
        self._frame[:] = frame
        answer, size = self._answer
        handle = self._livekit.livekit_ffi_request(
            self._request, len(self._request), ctypes.byref(answer), ctypes.byref(size)
        )
        if handle != INVALID_HANDLE:
            self._livekit.livekit_ffi_drop_handle(handle)

    async def aclose(self) -> None:
        """Ends it; sources of the SDK's own kind get their answers again."""
        vars(FfiClient.instance.queue).pop("put", None)
        await super().aclose()


class RealtimeStream:
    """What comes on ``track``, given to ``hear`` in frames of ``frame_ms``, in LiveKit's thread."""

    def __init__(self, track: rtc.Track, rate_hz: int, frame_ms: int, hear: Hear) -> None:
        self._hear = hear
        self._threads: set[int] = set()
        self._loop = asyncio.get_running_loop()
        request = FfiRequest()
        asked = request.new_audio_stream
        asked.track_handle = track._ffi_handle.handle  # noqa: SLF001
        asked.sample_rate, asked.num_channels, asked.frame_size_ms = rate_hz, 1, frame_ms
        asked.type = AudioStreamType.AUDIO_STREAM_NATIVE
        answer = FfiClient.instance.request(request)
        self._handle = FfiHandle(answer.new_audio_stream.stream.handle.id)
        self._queue = FfiClient.instance.queue.subscribe(self._loop, self._on_event)

    def close(self) -> None:
        """Hears no more; LiveKit tells when there is nothing on its way any more."""
        self._handle.dispose()

    def _on_event(self, event: FfiEvent) -> bool:
        """Whether the event is to be queued: it never is."""
        self._keep_thread()
        if event.WhichOneof("message") == "audio_stream_event":
            told = event.audio_stream_event
            if told.stream_handle == self._handle.handle:
                if told.HasField("frame_received"):
                    self._take(told.frame_received.frame)
                else:
                    self._handle.mark_consumed()  # LiveKit drops it itself
                    unsubscribe = FfiClient.instance.queue.unsubscribe
                    self._loop.call_soon_threadsafe(unsubscribe, self._queue)
        return False

    def _keep_thread(self) -> None:
        """Lets LiveKit's thread keep its state of the interpreter, which it would make anew, with a
        page of memory, for each of 130 events a second."""
        if (thread := threading.get_ident()) not in self._threads:
            self._threads.add(thread)
            ctypes.pythonapi.PyGILState_Ensure()

    def _take(self, frame: OwnedAudioFrameBuffer) -> None:
        samples = ctypes.string_at(frame.info.data_ptr, 2 * frame.info.samples_per_channel)
        FfiHandle(frame.handle.id).dispose()
        try:
            self._hear(samples)
        except Exception:  # else the SDK would queue what failed
            log.exception("sound of the caller was lost")


def _leave_out_answers() -> None:
    """None of them is for anybody: an error would mean frames of another length."""
    queue = FfiClient.instance.queue
    if "put" in vars(queue):
        return
    put = queue.put

    def pass_on(event: FfiEvent) -> None:
        if event.WhichOneof("message") != "capture_audio_frame":
            put(event)

    vars(queue)["put"] = pass_on
