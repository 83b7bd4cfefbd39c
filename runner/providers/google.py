"""Google Gemini as an LLM: ``streamGenerateContent`` through livekit's plugin, asked once."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, TypeVar, cast

import aiohttp
from google.genai import errors, types
from livekit.agents import APIConnectOptions, APIError, llm
from livekit.agents.types import NOT_GIVEN, NotGivenOr
from livekit.plugins import google

from runner.config import GoogleLLM
from runner.providers.endpoint import why_lost
from runner.providers.failure import Failure, Reason
from runner.providers.google_errors import GOOGLE_URL, NO_KEY, of_google
from runner.providers.history import fitting
from runner.providers.refusals import Asked
from runner.providers.request import Request, instruction_to_continue

# The SDK's time-out runs over the whole answer and cannot be left out; the chain keeps the time.
# As long as the plugin's own for answers that take minutes.
_WHOLE_ANSWER_MS = 20 * 60 * 1000
_Answer = AsyncGenerator[types.GenerateContentResponse, None]
_T = TypeVar("_T")
_ONCE = APIConnectOptions(max_retry=0)
_ENDS = {
    types.FinishReason.STOP,
    types.FinishReason.MAX_TOKENS,
    types.FinishReason.CONTINUATION,  # the plugin asks for the rest
}
_BROKEN_CALLS = {
    types.FinishReason.MALFORMED_FUNCTION_CALL,
    types.FinishReason.UNEXPECTED_TOOL_CALL,
}
_BLOCKED = {
    types.FinishReason.SAFETY,
    types.FinishReason.RECITATION,
    types.FinishReason.LANGUAGE,
    types.FinishReason.BLOCKLIST,
    types.FinishReason.PROHIBITED_CONTENT,
    types.FinishReason.SPII,
    types.FinishReason.MODEL_ARMOR,
}


class GeminiAnswers:
    """An `Answerer`: asked once, answers as a stream.

    Args:
        config: the provider's section.
        api_key: what the environment holds under ``config.api_key_env``.
    """

    continues = False

    def __init__(self, config: GoogleLLM, api_key: str) -> None:
        self.model = config.model
        self._place = f"{config.name} at {config.base_url or GOOGLE_URL}"
        self._key, self._key_env = api_key, config.api_key_env
        self._prompt_tokens = config.context_tokens - (config.max_tokens or 0)
        self._llm = google.LLM(
            model=config.model,
            api_key=api_key or NO_KEY,
            vertexai=False,
            temperature=_given(config.temperature),
            max_output_tokens=_given(config.max_tokens),
            http_options=types.HttpOptions(
                base_url=config.base_url or None,
                timeout=_WHOLE_ANSWER_MS,
                # Else the SDK sleeps up to 10 s and asks again, in silence.
                retry_options=types.HttpRetryOptions(attempts=1),
            ),
        )
        self._watch_ends()

    async def answer(self, request: Request) -> AsyncGenerator[llm.ChatChunk, None]:
        """See `Answerer`."""
        begun = False
        try:
            async with self._llm.chat(
                chat_ctx=self._context(request),
                tools=request.tools,
                tool_choice=_given(request.tool_choice),
                conn_options=_ONCE,
            ) as stream:
                async for chunk in stream:
                    begun = begun or chunk.delta is not None
                    yield chunk
        except APIError as error:
            raise self._failure(error, request, begun=begun) from None

    async def aclose(self) -> None:
        """See `Answerer`."""
        await self._llm.aclose()

    def _watch_ends(self) -> None:
        """Puts a reader between plugin and SDK: the plugin takes a stream that just ends for a
        whole answer, and any ``promptFeedback`` for a refusal."""
        models = self._llm._client.aio.models  # noqa: SLF001  the plugin has no place for it
        ask = models.generate_content_stream

        async def watched(**request: Any) -> AsyncIterator[types.GenerateContentResponse]:
            answer = cast(_Answer, await ask(**request))
            return self._to_its_end(answer)

        models.generate_content_stream = watched  # type: ignore[method-assign]

    async def _to_its_end(self, stream: _Answer) -> _Answer:
        """``stream``, as long as all is well with it.

        Raises:
            Failure: it was blocked, or is over without having ended.
        """
        finish: types.FinishReason | None = None
        async with aclosing(stream):
            async for response in stream:
                if feedback := response.prompt_feedback:
                    if feedback.block_reason:
                        why = feedback.block_reason.value
                        raise self._fail(Reason.REJECTED, f"it blocks the question ({why})")
                    response.prompt_feedback = None  # ratings alone are no refusal
                for candidate in response.candidates or []:
                    finish = candidate.finish_reason or finish
                if finish is not None and finish not in _ENDS:
                    break  # the event that says so may hold words; another provider writes them
                yield response
        if finish not in _ENDS:
            raise self._unfinished(finish)

    def _unfinished(self, finish: types.FinishReason | None) -> Failure:
        if finish is None:
            return self._fail(Reason.CUT, "its answer ended without a finishReason")
        if finish in _BROKEN_CALLS:
            return self._fail(Reason.MALFORMED, f"it called a tool wrongly ({finish.value})")
        if finish in _BLOCKED:
            return self._fail(Reason.REJECTED, f"it blocked its own answer ({finish.value})")
        return self._fail(Reason.CUT, f"its answer ended early (finishReason {finish.value})")

    def _fail(self, reason: Reason, words: str) -> Failure:
        return Failure(reason, f"{self._place}: {words}")

    def _failure(self, error: APIError, request: Request, *, begun: bool) -> Failure:
        """The plugin's error, told by what caused it. ``begun``: some of the answer had come."""
        match error.__cause__:
            case Failure() as failure:
                return failure
            case errors.APIError() as refused:
                texts = tuple(message.text_content or "" for message in request.chat_ctx.messages())
                asked = Asked(self.model, self._key_env, self._key, texts)
                return of_google(self._place, asked, refused.code or 500, refused.details)
            case aiohttp.ClientError() | OSError() if begun:
                return self._fail(Reason.CUT, "the connection broke in the middle of its answer")
            case aiohttp.ClientError() | OSError() as lost:
                return self._fail(Reason.UNREACHABLE, why_lost(lost))
            case ValueError():  # the SDK's words hold what came, which is no business of a log
                return self._fail(Reason.MALFORMED, "an event of its answer is no JSON")
            case None if not begun:
                return self._fail(Reason.EMPTY, "it answered without a word")
            case cause:
                return self._fail(Reason.BROKEN, type(cause or error).__name__)

    def _context(self, request: Request) -> llm.ChatContext:
        """What is sent of the conversation; where another began the answer, ended by the wish to
        go on with it."""
        chat_ctx = request.chat_ctx
        if request.said:
            words = instruction_to_continue(request.said)
            told = llm.ChatMessage(role="system", content=[words])
            chat_ctx = llm.ChatContext([*chat_ctx.items, told])
        return fitting(chat_ctx, self._prompt_tokens)


def _given(value: _T | None) -> NotGivenOr[_T]:
    """``value`` as the plugin takes it."""
    return NOT_GIVEN if value is None else value
