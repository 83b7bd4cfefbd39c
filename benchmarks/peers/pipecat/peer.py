"""A Pipecat pipeline that does what the runner does: VAD, STT, LLM, TTS, at equal silence.

``python peer.py SOCKET``; BENCH_SETTINGS as for the livekit-agents script.
"""

import asyncio
import json
import os
import sys
import time

from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    StartFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.openai.stt import OpenAISTTService
from pipecat.services.openai.tts import VALID_VOICES, OpenAITTSService
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from runner.bench.wire import AUDIO, CALLER_RATE_HZ, CLEAR, Line, answer

SETTINGS = json.loads(os.environ["BENCH_SETTINGS"])
KEY = "none"  # the client wants one
VOICE_RATE_HZ = 24_000
PARAMS = TransportParams(
    audio_in_enabled=True,
    audio_out_enabled=True,
    audio_in_sample_rate=CALLER_RATE_HZ,
    audio_out_sample_rate=VOICE_RATE_HZ,
)


class Ear(BaseInputTransport):
    """What the caller says."""

    def __init__(self) -> None:
        super().__init__(PARAMS)
        self._began = asyncio.Event()

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)
        self._began.set()

    async def listen(self, line: Line) -> None:
        """Until they hang up."""
        await self._began.wait()
        async for kind, payload in line.messages():
            if kind == AUDIO:
                sound = InputAudioRawFrame(payload, sample_rate=CALLER_RATE_HZ, num_channels=1)
                await self.push_audio_frame(sound)


class Mouth(BaseOutputTransport):
    """Sends each piece at once, and takes the time in which it is played, as a socket's does."""

    def __init__(self, line: Line) -> None:
        super().__init__(PARAMS)
        self._line = line
        self._next_at = 0.0

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame):
            self._line.send(CLEAR)
            self._next_at = 0.0

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        self._line.play(frame.audio, frame.sample_rate)
        length_s = len(frame.audio) / 2 / frame.sample_rate
        wait_s = max(self._next_at - time.monotonic(), 0)
        await asyncio.sleep(wait_s)
        self._next_at = max(self._next_at, time.monotonic()) + length_s
        return True


def aggregators(context: LLMContext) -> LLMContextAggregatorPair:
    """The turn is over after the same silence as in the other arms; STT begins within it."""
    turn = SETTINGS["turn"]
    stop = SpeechTimeoutUserTurnStopStrategy(
        user_speech_timeout=turn["endpointing_delay_s"] - turn["vad_silence_s"]
    )
    return LLMContextAggregatorPair(
        context,
        user_params=LLMUserAggregatorParams(
            vad_analyzer=SileroVADAnalyzer(params=VADParams(stop_secs=turn["vad_silence_s"])),
            user_turn_strategies=UserTurnStrategies(stop=[stop]),
        ),
    )


def services() -> tuple[OpenAISTTService, OpenAILLMService, OpenAITTSService]:
    """STT, LLM and TTS at the addresses of the settings."""
    stt, chat, tts = SETTINGS["stt"], SETTINGS["llm"], SETTINGS["tts"]
    VALID_VOICES.setdefault(tts["voice"], tts["voice"])  # it asks nobody but OpenAI for others
    return (
        OpenAISTTService(
            api_key=KEY,
            base_url=stt["base_url"],
            settings=OpenAISTTService.Settings(model=stt["model"]),
        ),
        OpenAILLMService(
            api_key=KEY,
            base_url=chat["base_url"],
            settings=OpenAILLMService.Settings(
                model=chat["model"], system_instruction=SETTINGS["instructions"]
            ),
        ),
        OpenAITTSService(
            api_key=KEY,
            base_url=tts["base_url"],
            settings=OpenAITTSService.Settings(model=tts["model"], voice=tts["voice"]),
        ),
    )


async def call(line: Line) -> None:
    """One caller, until they hang up."""
    stt, chat, tts = services()
    ear, mouth = Ear(), Mouth(line)
    pair = aggregators(LLMContext())
    pipeline = Pipeline([ear, stt, pair.user(), chat, tts, mouth, pair.assistant()])

    @pair.user().event_handler("on_user_turn_stopped")
    async def asked(_: object, __: object, message: object) -> None:
        line.say("user", message.content or "")

    @pair.assistant().event_handler("on_assistant_turn_stopped")
    async def answered(_: object, message: object) -> None:
        line.say("assistant", message.content)

    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(
            audio_in_sample_rate=CALLER_RATE_HZ, audio_out_sample_rate=VOICE_RATE_HZ
        ),
        idle_timeout_secs=None,
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    await ear.listen(line)
    await worker.cancel()
    await running


if __name__ == "__main__":
    logger.remove()
    asyncio.run(answer(sys.argv[1], call))
