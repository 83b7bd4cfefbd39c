"""The chains as LiveKit's session sees them: one LLM, one STT, one TTS."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from livekit.agents import APIConnectOptions, LanguageCode, llm, stt, tts, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr
from livekit.agents.utils import AudioBuffer, is_given

from runner.continuation import Words, is_stub, without_repetition
from runner.failover import Chain
from runner.kept import KEPT, Kept, Sound
from runner.passages import with_passages
from runner.providers.failure import Failure, Reason
from runner.providers.request import Answerer, Request
from runner.providers.speech import SPEECH_RATE_HZ, EndpointSTT, EndpointTTS
from runner.rag.search import Hit
from runner.record import Exhausted, Record, counted, together

log = logging.getLogger(__name__)

Find = Callable[[], Awaitable[list[Hit]]]

_ONCE = APIConnectOptions(max_retry=0)  # the chain tries again by itself
_REMEMBERED_SENTENCES = 64


class _Front:
    """LiveKit's metrics name a chain by its first member."""

    chain: Chain[Any]

    @property
    def model(self) -> str:
        return self.chain.members[0].model

    @property
    def provider(self) -> str:
        return self.chain.members[0].name


class LLMChain(_Front, llm.LLM[Any]):
    """LLMs in order of preference. Each request holds a permit while it runs; the record of who
    served it rides in the answer's ``extra["service"]``."""

    def __init__(self, chain: Chain[Answerer]) -> None:
        super().__init__()
        self.chain = chain

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,
    ) -> llm.LLMStream:
        return self.answer(chat_ctx, tools or [], tool_choice, _nothing)

    def answer(
        self,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool],
        tool_choice: NotGivenOr[llm.ToolChoice],
        find: Find,
    ) -> llm.LLMStream:
        """An answer from what ``find`` finds, which is asked at once and never fails.

        All is made ready meanwhile: who is asked waits for the passages alone. They ride in the
        answer's ``extra["passages"]``.
        """
        choice = tool_choice if is_given(tool_choice) else None
        return _Answer(self, Request(chat_ctx, tools, choice), find)

    async def aclose(self) -> None:
        await super().aclose()
        await asyncio.gather(*(member.provider.aclose() for member in self.chain.members))


class _Answer(llm.LLMStream):
    def __init__(self, owner: LLMChain, request: Request, find: Find) -> None:
        self._chain = owner.chain
        self._request = request
        self._find = find
        self._words = Words()
        self._record = Record()
        self._untold: list[Hit] = []
        super().__init__(owner, chat_ctx=request.chat_ctx, tools=request.tools, conn_options=_ONCE)

    async def _run(self) -> None:
        self._informed = asyncio.create_task(self._with_passages())
        try:
            async with self._chain.desk.permit() as waited_s:
                self._record.permit_wait_s = waited_s
                await self._chain.serve(self._ask, self._deliver, record=self._record, resumes=True)
            self._hand_on(self._words.rest())
        finally:
            self._informed.cancel()
            self._tell_passages()
            self._tell_record()

    async def _with_passages(self) -> Request:
        """The request with the passages for it."""
        self._untold = await self._find()
        if not self._untold:
            return self._request
        enriched = with_passages(self._request.chat_ctx, self._untold)
        return replace(self._request, chat_ctx=enriched)

    async def _ask(self, provider: Answerer) -> AsyncGenerator[llm.ChatChunk, None]:
        """The answer, or what is left of it when another provider began it."""
        request = await asyncio.shield(self._informed)
        async with aclosing(self._answer_of(provider, request)) as chunks:
            async for chunk in chunks:
                self._tell_passages()
                yield chunk

    def _answer_of(
        self, provider: Answerer, request: Request
    ) -> AsyncGenerator[llm.ChatChunk, None]:
        self._words.drop()
        self._record.tokens = {}
        said = self._words.said
        if not said:
            return provider.answer(request)
        request = replace(request, said=said)
        if _has_used_tools(request.chat_ctx):
            request = replace(request, tool_choice="none")  # what was done is not done again
        if provider.continues:
            return provider.answer(request)
        anew = replace(request, said="") if is_stub(said) else request
        return without_repetition(provider.answer(anew), said)

    def _deliver(self, chunk: llm.ChatChunk) -> bool:
        if cost := chunk.usage:
            self._record.tokens = counted(cost.prompt_tokens, cost.completion_tokens)
        if not chunk.has_response() or chunk.delta is None:
            if chunk.usage is not None or (chunk.delta and chunk.delta.extra):
                self._event_ch.send_nowait(chunk)
            return False
        if chunk.delta.tool_calls:
            self._hand_on(self._words.take(chunk.delta.content or "") + self._words.rest())
            self._record.complete = True
            self._event_ch.send_nowait(
                chunk.model_copy(update={"delta": chunk.delta.model_copy(update={"content": None})})
            )
        else:
            self._hand_on(self._words.take(chunk.delta.content or ""))
        return True

    def _hand_on(self, text: str) -> None:
        if text:
            delta = llm.ChoiceDelta(role="assistant", content=text)
            self._event_ch.send_nowait(llm.ChatChunk(id="answer", delta=delta))

    def _tell_passages(self) -> None:
        """Not before the LLM is asked: whoever listens would keep the request waiting."""
        if self._untold:
            delta = llm.ChoiceDelta(extra={"passages": self._untold})
            self._event_ch.send_nowait(llm.ChatChunk(id="passages", delta=delta))
            self._untold = []

    def _tell_record(self) -> None:
        delta = llm.ChoiceDelta(extra={"service": self._record.metadata()})
        self._event_ch.send_nowait(llm.ChatChunk(id="service", delta=delta))


async def _nothing() -> list[Hit]:
    """What is found where nobody searches."""
    return []


def _has_used_tools(chat_ctx: llm.ChatContext) -> bool:
    """Whether a tool was called for the caller's latest message."""
    for item in reversed(chat_ctx.items):
        if isinstance(item, llm.FunctionCallOutput):
            return True
        if isinstance(item, llm.ChatMessage) and item.role == "user":
            return False
    return False


@dataclass(frozen=True)
class Transcript:
    """What was heard; empty: no word. ``deaf``: nobody could listen."""

    text: str
    language: str
    deaf: bool = False


class STTChain(_Front, stt.STT[Any]):
    """STTs in order of preference; each is given the same audio.

    When nobody heard a word the transcript is empty, which no LLM is asked about. When nobody
    answered at all it is empty as well, and ``on_deaf`` is to be called: the call lives on.
    """

    def __init__(self, chain: Chain[EndpointSTT], language: str) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self.chain = chain
        self._language = language
        self.record = Record()
        self.on_deaf: Callable[[], object] = lambda: None

    async def transcribe(
        self, buffer: AudioBuffer, language: NotGivenOr[str] = NOT_GIVEN
    ) -> Transcript:
        """What is said in ``buffer``."""
        heard: list[str] = []

        async def ask(provider: EndpointSTT) -> AsyncGenerator[str, None]:
            yield await provider.transcribe(buffer, language if is_given(language) else None)

        def deliver(text: str) -> bool:
            heard.append(text)
            return True

        spoken = language if is_given(language) else self._language
        self.record = Record()
        try:
            await self.chain.serve(ask, deliver, record=self.record)
        except Exhausted as error:
            if any(attempt.reason is not Reason.EMPTY for attempt in self.record.failed):
                log.error("nothing was heard: %s", error)
                return Transcript("", spoken, deaf=True)
        return Transcript(" ".join(heard), spoken)

    async def _recognize_impl(
        self,
        buffer: AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.SpeechEvent:
        transcript = await self.transcribe(buffer, language)
        if transcript.deaf:
            self.on_deaf()
        data = stt.SpeechData(language=LanguageCode(transcript.language), text=transcript.text)
        alternatives = [data] if transcript.text else []
        return stt.SpeechEvent(stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=alternatives)


class TTSChain(_Front, tts.TTS[Any]):
    """Voices in order of preference; a sentence is spoken by one of them.

    One that dies in the middle of a sentence leaves it so: another voice begins with the next.
    A sentence of ``kept`` is asked of nobody once its sound is there. When nobody speaks a sentence
    that is none of those, ``on_mute`` is called.
    """

    def __init__(self, chain: Chain[EndpointTTS], kept: Kept | None = None) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=False),
            sample_rate=SPEECH_RATE_HZ,
            num_channels=1,
        )
        self.chain = chain
        self.kept = kept
        self.on_mute: Callable[[], object] = lambda: None
        self.records: deque[Record] = deque(maxlen=_REMEMBERED_SENTENCES)
        """The records of the sentences since the last `taken`."""

    def taken(self) -> Record:
        """The record of what was spoken since this was last asked."""
        record = together(self.records)
        self.records.clear()
        return record

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return _Sentence(tts=self, input_text=text, conn_options=_ONCE)

    async def at_hand(self, text: str, record: Record) -> Sound | None:
        """The kept sound of ``text`` by who would be asked now, or by who is preferred to them."""
        if self.kept is None:
            return None
        names = [member.name for member in self.chain.members]
        if asked := self.chain.in_order(record):
            names = names[: names.index(asked[0].name) + 1]
        return await self.kept.find(text, names)

    async def last_resort(self, text: str) -> Sound | None:
        """The kept sound of ``text`` by anybody; where it is not one of the kept sentences,
        ``on_mute`` is told."""
        if self.kept is None or not self.kept.knows(text):
            self.on_mute()
            return None
        return await self.kept.find(text, [member.name for member in self.chain.members])


class _Sentence(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        assert isinstance(self._tts, TTSChain)
        output_emitter.initialize(
            request_id=utils.shortuuid(),
            sample_rate=SPEECH_RATE_HZ,
            num_channels=1,
            mime_type="audio/pcm",
        )
        record = Record()
        self._tts.records.append(record)
        if sound := await self._tts.at_hand(self.input_text, record):
            _play(sound, output_emitter, record)
        else:
            await self._speak(self._tts, output_emitter, record)
        output_emitter.flush()

    async def _speak(
        self, owner: TTSChain, output_emitter: tts.AudioEmitter, record: Record
    ) -> None:
        kept = owner.kept if owner.kept and owner.kept.knows(self.input_text) else None
        whole = bytearray()

        def deliver(samples: bytes) -> bool:
            output_emitter.push(samples)
            if kept:
                whole.extend(samples)
            return True

        try:
            await owner.chain.serve(
                lambda voice: voice.pcm(self.input_text), deliver, record=record
            )
        except Failure as error:
            if record.begun:
                log.warning("a sentence was cut: %s", error)
            elif sound := await owner.last_resort(self.input_text):
                _play(sound, output_emitter, record)
            else:
                raise
        else:
            if kept and record.speaker:
                kept.keep(self.input_text, record.speaker, bytes(whole))


def _play(sound: Sound, output_emitter: tts.AudioEmitter, record: Record) -> None:
    """What was kept is said; no provider is credited with it."""
    record.speaker, record.model = KEPT, sound.model
    record.first_output_s = record.age_s
    output_emitter.push(sound.samples)
    record.served(KEPT, sound.model)
