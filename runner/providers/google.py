"""Google Gemini: the answering LLM, and the Live API that hears and speaks by itself."""

from typing import Any

from google.genai import types
from livekit.agents import llm
from livekit.agents.types import NOT_GIVEN
from livekit.plugins import google

_WHOLE_ANSWER_MS = 120_000  # the SDK's time-out runs over the whole answer, so it must be long


def google_llm(
    *, model: str, api_key: str, temperature: float | None, max_tokens: int | None
) -> llm.LLM[Any]:
    """Gemini over ``streamGenerateContent``, asked once: the SDK's own retries sleep up to 10 s."""
    return google.LLM(
        model=model,
        api_key=api_key,
        temperature=NOT_GIVEN if temperature is None else temperature,
        max_output_tokens=NOT_GIVEN if max_tokens is None else max_tokens,
        http_options=types.HttpOptions(
            timeout=_WHOLE_ANSWER_MS, retry_options=types.HttpRetryOptions(attempts=1)
        ),
    )


def google_realtime(
    *, model: str, api_key: str, voice: str, temperature: float | None
) -> llm.RealtimeModel:
    """Speech to speech. One object a call: two calls that share one hear each other's prompts."""
    return google.realtime.RealtimeModel(
        model=model,
        api_key=api_key,
        voice=voice,
        temperature=NOT_GIVEN if temperature is None else temperature,
    )
