"""Google's Live API: one model that hears and speaks by itself, through livekit's plugin."""

import json
import ssl
from typing import Any

from google.genai import errors, types
from livekit.agents import llm
from livekit.agents.types import NOT_GIVEN
from livekit.plugins import google
from websockets.exceptions import InvalidStatus

from runner.config import GoogleRealtimeLLM
from runner.providers.endpoint import why_lost
from runner.providers.failure import Failure, Reason
from runner.providers.google_errors import GOOGLE_URL, NO_KEY, of_google
from runner.providers.refusals import Asked, shown
from runner.providers.trust import trusting

# A peer that vanished is noticed after both together. Google's pongs may take 30 s.
_PING_EVERY_S = 5
_PONG_S = 35
_NEVER_S = 1e9
_INVALID, _POLICY = 1007, 1008  # close codes: a bad setup, key or context; no such model


def live_model(config: GoogleRealtimeLLM, api_key: str) -> llm.RealtimeModelFallbackAdapter:
    """One model for one call: two calls that share one get each other's instructions.

    The adapter brings up a new session where the plugin would give the call up, when it is told
    to (``restart_session``). By itself it never does: it would try again without any pause.

    Raises:
        ProviderError: ``ca_file`` cannot be read.
    """
    model = google.realtime.RealtimeModel(
        model=config.model,
        api_key=api_key or NO_KEY,
        vertexai=False,
        voice=config.voice,
        language=config.language or NOT_GIVEN,
        temperature=NOT_GIVEN if config.temperature is None else config.temperature,
        input_audio_transcription=types.AudioTranscriptionConfig(),
        output_audio_transcription=types.AudioTranscriptionConfig(),
        http_options=types.HttpOptions(
            base_url=config.base_url or None,
            async_client_args={
                "ssl": trusting(config.ca_file),
                "ping_interval": _PING_EVERY_S,
                "ping_timeout": _PONG_S,
            },
        ),
    )
    return llm.RealtimeModelFallbackAdapter([model], cooldown=_NEVER_S, regenerate_on_swap=False)


def broke_off(session: llm.RealtimeSession[Any]) -> bool:
    """Whether the answer that just ended did so without its end and without calling a tool.

    To be asked while ``session`` tells that it ended ("input_speech_stopped").
    """
    # Neither the plugin nor the adapter says it anywhere else.
    generation = getattr(getattr(session, "_active", session), "_current_generation", None)
    if generation is None:
        return False
    return generation._completed_timestamp is None and generation.function_ch.empty()  # noqa: SLF001


def failure_of(config: GoogleRealtimeLLM, api_key: str, error: BaseException) -> Failure:
    """What an error of the plugin's session means, in a sentence for the log."""
    place = f"{config.name} at {config.base_url or GOOGLE_URL}"
    asked = Asked(config.model, config.api_key_env, api_key, ())
    match error:
        case InvalidStatus() as refused:
            return of_google(
                place, asked, refused.response.status_code, _json(refused.response.body)
            )
        case errors.APIError() as closed:
            return _closed(place, asked, closed.code or 0, shown(str(closed.details or "")))
        case ssl.SSLCertVerificationError():
            words = "its certificate is not trusted; set llm.ca_file to one that vouches for it"
            return Failure(Reason.UNREACHABLE, f"{place}: {words}")
        case OSError() | TimeoutError():
            return Failure(Reason.UNREACHABLE, f"{place}: {why_lost(error)}")
        case ValueError():
            return Failure(Reason.MALFORMED, f"{place}: a message of its is no JSON")
        case _:
            return Failure(Reason.BROKEN, f"{place}: {type(error).__name__}")


def _json(body: bytes | bytearray | None) -> object:
    try:
        return json.loads(body or b"null")
    except (ValueError, RecursionError):
        return None


def _closed(place: str, asked: Asked, code: int, why: str) -> Failure:
    """A websocket's close code. Google gives a wrong key as 1007, a wrong model as 1008."""
    lower, why = why.lower(), why.replace(asked.key, "***") if asked.key else why
    if "api key" in lower:
        words = f"it refuses the key in {asked.key_env}; set a valid one"
        return Failure(Reason.REFUSED, f"{place}: {words} (close code {code})")
    if code == _POLICY and ("not found" in lower or "not supported" in lower):
        words = f"it has no model {asked.model} for the Live API; set another model"
        return Failure(Reason.REFUSED, f"{place}: {words} (close code {code})")
    reason = Reason.REJECTED if code in (_INVALID, _POLICY) else Reason.CUT
    return Failure(reason, f"{place}: it closed the connection ({code}: {why})")
