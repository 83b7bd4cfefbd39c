"""The caller's words, written down: begun in the silence, before the turn is known to be over.

The voice detector of the session is the only one. Its events carry the sound, so what it hears
is what is transcribed; and speech that fades for a moment, too short to end it, is long enough to
begin.
"""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress

from livekit import rtc
from livekit.agents import LanguageCode, stt, utils
from livekit.agents.stt import SpeechEvent, SpeechEventType
from livekit.agents.vad import VADEventType

from runner.chains import STTChain, Transcript
from runner.detector import Detector, Heard

_LONGEST_S = 10.0  # of speech that is transcribed ahead: LiveKit thinks ahead for no more


async def transcripts(
    detector: Detector, ears: STTChain, audio: AsyncIterable[rtc.AudioFrame], after_s: float
) -> AsyncIterator[SpeechEvent]:
    """What LiveKit expects of a streaming STT, made of one that hears whole utterances: after a
    silence of ``after_s`` a PREFLIGHT_TRANSCRIPT, which is the final one if nothing follows.

    ``audio`` is only drained: `detector` is given the same.
    """
    hearing = _Hearing(ears, after_s)
    draining = asyncio.create_task(_drained(audio), name="audio")
    draining.add_done_callback(lambda _: hearing.told.put_nowait(None))
    with detector.listened(hearing.on):
        try:
            while (event := await hearing.told.get()) is not None:
                yield event
        finally:
            draining.cancel()
            await hearing.aclose()


async def _drained(audio: AsyncIterable[rtc.AudioFrame]) -> None:
    async for _ in audio:
        pass


class _Hearing:
    """One stream of utterances. ``told``: what became of them; None: there is no more."""

    def __init__(self, ears: STTChain, after_s: float) -> None:
        self._ears = ears
        self._after_s = after_s
        self._frames: list[rtc.AudioFrame] = []
        self._speaking = False
        self._ahead: asyncio.Task[Transcript] | None = None
        self._finishing: asyncio.Task[None] | None = None
        self.told: asyncio.Queue[SpeechEvent | None] = asyncio.Queue()

    def on(self, event: Heard) -> None:
        """Takes what the detector heard. Never waits."""
        match event.type:
            case VADEventType.START_OF_SPEECH:
                self._frames, self._speaking = list(event.frames), True
                self.told.put_nowait(SpeechEvent(SpeechEventType.START_OF_SPEECH))
            case VADEventType.INFERENCE_DONE if self._speaking:
                self._frames += event.frames
                self._consider(event)
            case VADEventType.END_OF_SPEECH:
                self._end(event)

    def _consider(self, event: Heard) -> None:
        if not event.hush_s:
            self._forget()
        elif (
            self._ahead is None
            and event.hush_s >= self._after_s
            and event.speech_duration <= _LONGEST_S
        ):
            self._ahead = asyncio.create_task(
                self._hear_ahead(self._frames.copy()), name="STT ahead"
            )

    def _forget(self) -> None:
        """The caller goes on: what was written down is not all."""
        if self._ahead is not None:
            self._ahead.cancel()
            self._ahead = None

    def _end(self, event: Heard) -> None:
        ended_at = time.time() - event.silence_duration - event.inference_duration
        self.told.put_nowait(SpeechEvent(SpeechEventType.END_OF_SPEECH, speech_end_time=ended_at))
        heard = self._ahead or asyncio.create_task(self._hear(event.frames), name="STT")
        self._finishing = asyncio.create_task(self._finish(self._finishing, heard), name="heard")
        self._frames, self._speaking, self._ahead = [], False, None

    async def _finish(
        self, before: asyncio.Task[None] | None, heard: asyncio.Task[Transcript]
    ) -> None:
        """In the order in which it was said."""
        if before is not None:
            await before
        transcript = await heard
        if transcript.deaf:
            self._ears.on_deaf()
        elif transcript.text:
            self._tell(SpeechEventType.FINAL_TRANSCRIPT, transcript)

    async def _hear_ahead(self, frames: list[rtc.AudioFrame]) -> Transcript:
        transcript = await self._hear(frames)
        if transcript.text:
            self._tell(SpeechEventType.PREFLIGHT_TRANSCRIPT, transcript)
        return transcript

    async def _hear(self, frames: list[rtc.AudioFrame]) -> Transcript:
        return await self._ears.transcribe(utils.merge_frames(frames))

    def _tell(self, kind: SpeechEventType, transcript: Transcript) -> None:
        language = LanguageCode(transcript.language)
        data = stt.SpeechData(language=language, text=transcript.text)
        self.told.put_nowait(SpeechEvent(kind, alternatives=[data]))

    async def aclose(self) -> None:
        """Nobody listens any more."""
        for task in (self._ahead, self._finishing):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
