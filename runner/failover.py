"""Chains: providers of one capability in order of preference, the first that answers serves.

A chain looks like a single LLM, STT or TTS to the session. It moves on while nothing was handed
on yet; what has been heard stands, so a failure after that is passed on.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from livekit.agents import (
    APIConnectionError,
    APIConnectOptions,
    APIError,
    llm,
    stt,
    tts,
    utils,
)
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr
from livekit.agents.utils import AudioBuffer

from runner.limits import Permits
from runner.providers.speech import SPEECH_RATE_HZ, EndpointTTS

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Member(Generic[T]):
    """A provider in a chain, and how long the caller may wait for its first output."""

    name: str
    provider: T
    first_output_s: float


class Chain(Generic[T]):
    """What the three chains share: the order, and who served last."""

    def __init__(self, capability: str, members: Sequence[Member[T]]) -> None:
        if not members:
            raise ValueError(f"a chain of {capability} needs a member")
        self.capability = capability
        self.members = tuple(members)
        self.served_by: str | None = None
        self._told: set[str] = set()

    def moved_on(self, member: Member[T], error: Exception) -> str:
        """Notes that ``member`` failed; the reason in a few words. The log gets each once."""
        late = isinstance(error, TimeoutError)
        reason = f"nothing within {member.first_output_s:g} s" if late else str(error)
        if not reason.startswith(member.name):
            reason = f"{member.name}: {reason}"
        level = logging.DEBUG if reason in self._told else logging.INFO
        log.log(level, "%s moves on, no answer from %s", self.capability, reason)
        self._told.add(reason)
        return reason

    def exhausted(self, reasons: Sequence[str]) -> APIConnectionError:
        """The error when every member failed."""
        self.served_by = None
        return APIConnectionError(
            f"no {self.capability} answered ({'; '.join(reasons)})", retryable=False
        )


def _once(member: Member[Any]) -> APIConnectOptions:
    """A single try within the member's deadline: retries are the chain's business."""
    return APIConnectOptions(max_retry=0, timeout=member.first_output_s)


class _Front:
    """Metrics name a chain by its first member."""

    chain: Chain[Any]

    @property
    def model(self) -> str:
        return str(self.chain.members[0].provider.model)

    @property
    def provider(self) -> str:
        return self.chain.members[0].name


class LLMChain(_Front, llm.LLM[Any]):
    """LLMs in order of preference. Each request holds one of ``permits`` while it runs."""

    def __init__(self, members: Sequence[Member[llm.LLM[Any]]], permits: Permits) -> None:
        super().__init__()
        self.chain = Chain("LLM", members)
        self.permits = permits

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
        def ask(member: Member[llm.LLM[Any]]) -> llm.LLMStream:
            return member.provider.chat(
                chat_ctx=chat_ctx,
                tools=tools,
                conn_options=_once(member),
                parallel_tool_calls=parallel_tool_calls,
                tool_choice=tool_choice,
                extra_kwargs=extra_kwargs,
            )

        return _LLMChainStream(self, ask, chat_ctx, tools or [])

    async def aclose(self) -> None:
        await super().aclose()
        await asyncio.gather(*(member.provider.aclose() for member in self.chain.members))


class _LLMChainStream(llm.LLMStream):
    def __init__(
        self,
        owner: LLMChain,
        ask: Callable[[Member[llm.LLM[Any]]], llm.LLMStream],
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool],
    ) -> None:
        self._ask = ask
        self._chain = owner.chain
        self._permits = owner.permits
        super().__init__(
            owner, chat_ctx=chat_ctx, tools=tools, conn_options=APIConnectOptions(max_retry=0)
        )

    async def _run(self) -> None:
        async with self._permits.permit():
            await self._ask_in_order()

    async def _ask_in_order(self) -> None:
        reasons: list[str] = []
        for member in self._chain.members:
            try:
                await self._relay(member)
                return
            except (APIError, TimeoutError) as error:
                reasons.append(self._chain.moved_on(member, error))
                if self._event_ch.output_sent:
                    raise APIConnectionError(reasons[-1], retryable=False) from None
        raise self._chain.exhausted(reasons)

    async def _relay(self, member: Member[llm.LLM[Any]]) -> None:
        """Hands on what ``member`` says; its deadline ends with the first word."""
        async with asyncio.timeout(member.first_output_s) as deadline, self._ask(member) as stream:
            async for chunk in stream:
                if chunk.has_response() and deadline.when() is not None:
                    deadline.reschedule(None)
                    self._chain.served_by = member.name
                self._event_ch.send_nowait(chunk)
        if not self._event_ch.output_sent:
            raise APIConnectionError("the answer is empty")


class STTChain(_Front, stt.STT[Any]):
    """STTs in order of preference; each is given the same audio."""

    def __init__(self, members: Sequence[Member[stt.STT[Any]]]) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self.chain = Chain("STT", members)

    async def _recognize_impl(
        self,
        buffer: AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.SpeechEvent:
        reasons: list[str] = []
        for member in self.chain.members:
            try:
                async with asyncio.timeout(member.first_output_s):
                    event: stt.SpeechEvent = await member.provider.recognize(
                        buffer, language=language, conn_options=_once(member)
                    )
            except (APIError, TimeoutError) as error:
                reasons.append(self.chain.moved_on(member, error))
            else:
                self.chain.served_by = member.name
                return event
        raise self.chain.exhausted(reasons)


class TTSChain(_Front, tts.TTS[Any]):
    """Voices in order of preference; a sentence is spoken by one of them."""

    def __init__(self, members: Sequence[Member[EndpointTTS]]) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=False),
            sample_rate=SPEECH_RATE_HZ,
            num_channels=1,
        )
        self.chain = Chain("TTS", members)

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return _TTSChainStream(
            tts=self, input_text=text, conn_options=APIConnectOptions(max_retry=0)
        )


class _TTSChainStream(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        assert isinstance(self._tts, TTSChain)
        chain = self._tts.chain
        output_emitter.initialize(
            request_id=utils.shortuuid(),
            sample_rate=SPEECH_RATE_HZ,
            num_channels=1,
            mime_type="audio/pcm",
        )
        reasons: list[str] = []
        for member in chain.members:
            heard = False
            try:
                async with asyncio.timeout(member.first_output_s) as deadline:
                    async for data in member.provider.pcm(self.input_text):
                        deadline.reschedule(None)
                        heard = True
                        output_emitter.push(data)
            except (APIError, TimeoutError) as error:
                reasons.append(chain.moved_on(member, error))
                if heard:
                    raise APIConnectionError(reasons[-1], retryable=False) from None
            else:
                chain.served_by = member.name
                output_emitter.flush()
                return
        raise chain.exhausted(reasons)
