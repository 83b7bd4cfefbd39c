"""One call's agent: documents in, words out.

Passages are given to the LLM inside `llm_node`: editing the turn's context anywhere earlier
would throw away what was generated ahead of the end of the turn.
"""

import logging
import math
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from livekit import rtc
from livekit.agents import Agent, APIError, ModelSettings, llm, stt

from runner.chains import LLMChain, STTChain
from runner.config import Config
from runner.detector import Detector
from runner.hearing import transcripts
from runner.passages import Search, question_of
from runner.rag.search import Hit

log = logging.getLogger(__name__)

_TRIES_AHEAD = 8  # answers that are begun in the pauses of one turn


class VoiceAgent(Agent):
    """Answers from the documents that ``search`` finds, which keeps its own deadline; it is told to
    begin, ``search_ahead``, as soon as there are words.

    What it was given is kept in the answer's ``extra["passages"]``; an LLM that knows better
    which of them it used says so in the same place.
    """

    def __init__(
        self,
        *,
        instructions: str,
        search: Search | None,
        apology: str,
        search_ahead: Callable[[str], Awaitable[None]] | None = None,
        transcribe_after_s: float = math.inf,
        history: llm.ChatContext | None = None,
    ) -> None:
        super().__init__(instructions=instructions, chat_ctx=history)
        self._apology = apology
        self._transcribe_after_s = transcribe_after_s
        self._search = search
        self._search_ahead = search_ahead

    async def stt_node(
        self, audio: AsyncIterable[rtc.AudioFrame], _: ModelSettings
    ) -> AsyncIterator[stt.SpeechEvent]:
        detector, ears = self.session.vad, self.session.stt
        assert isinstance(detector, Detector)
        assert isinstance(ears, STTChain)
        async for event in transcripts(detector, ears, audio, self._transcribe_after_s):
            if event.alternatives and self._search_ahead:
                await self._search_ahead(event.alternatives[0].text)
            yield event

    async def llm_node(
        self,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool],
        model_settings: ModelSettings,
    ) -> AsyncIterator[Any]:
        chain = self.session.llm
        assert isinstance(chain, LLMChain)
        question = question_of(chat_ctx)
        words = question.text_content if question else None
        find = partial(self._find, (words or "").strip())
        spoke = False
        try:
            async with chain.answer(chat_ctx, tools, model_settings.tool_choice, find) as stream:
                async for chunk in stream:
                    spoke = spoke or chunk.has_response()
                    yield chunk
        except APIError as error:
            log.error("no answer, but an apology: %s", error)
            yield f" … {self._apology}" if spoke else self._apology

    async def _find(self, question: str) -> list[Hit]:
        """The passages for ``question``; none when the search fails, which costs no answer."""
        if self._search is None or not question:
            return []
        try:
            return await self._search(question)
        except Exception as error:  # noqa: BLE001  whatever it was, the call goes on
            log.warning("the search failed: %s", error)
            return []


def turn_handling(config: Config) -> dict[str, Any]:
    """The session's turn handling: all local, by voice activity."""
    turn = config.turn
    return {
        "turn_detection": "vad",
        "endpointing": {
            "mode": "fixed",
            "min_delay": turn.endpointing_delay_s,
        },
        "interruption": {
            "enabled": True,
            "mode": "vad",
            "min_duration": turn.min_interruption_s,
        },
        "preemptive_generation": {
            "enabled": turn.preemptive_generation,
            "preemptive_tts": turn.preemptive_generation,
            "max_retries": _TRIES_AHEAD,
        },
    }
