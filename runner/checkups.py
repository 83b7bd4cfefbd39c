"""Does a provider serve? Asked directly and cheaply, never with the words of a caller.

Each of these raises the Failure that a request would have met.
"""

import asyncio
import json
import ssl
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any

import aiohttp
from livekit import rtc

from runner.candidates import LLMCandidate, SpeechCandidate, secret
from runner.config import GoogleLLM, GoogleRealtimeLLM, OpenAILLM
from runner.providers.chat import ChatAnswers
from runner.providers.endpoint import Endpoint, why_lost
from runner.providers.failure import Failure, Reason
from runner.providers.google_errors import GOOGLE_URL, of_google, serves
from runner.providers.refusals import Asked, shown
from runner.providers.speech import EndpointSTT, EndpointTTS
from runner.providers.trust import trusting

_WORD = "Yes."
_SILENCE = rtc.AudioFrame(bytes(2 * 3200), 16_000, 1, 3200)  # a fifth of a second
_ERROR_BYTES = 16_384
_MODEL_BYTES = 65_536
_LISTED = 3  # models named where the wanted one is not among them


async def revive_llm(candidate: LLMCandidate, http: aiohttp.ClientSession) -> None:
    """Whether an LLM that failed would serve again: one token of an answer to "Hi", or of Google's
    the model's description, within its deadline for the first word.

    Raises:
        Failure: it would not.
    """
    match candidate.config:
        case OpenAILLM() as chat:
            answers = ChatAnswers(chat, secret(chat.api_key_env), http)
            await within(chat.first_token_s, chat.name, answers.probe())
        case GoogleLLM() as google:
            await within(google.first_token_s, google.name, check_google(google, http))


async def revive_stt(candidate: SpeechCandidate, http: aiohttp.ClientSession) -> None:
    """The same for an STT, with a fifth of a second of silence: no words are as good as any.

    Raises:
        Failure: it would not serve.
    """
    wanted = candidate.speech.stt
    ears = EndpointSTT(
        speech_endpoint(candidate, http), model=wanted.model, language=wanted.language
    )
    await within(wanted.timeout_s, candidate.name, _listen(ears))


async def revive_tts(candidate: SpeechCandidate, http: aiohttp.ClientSession) -> None:
    """The same for a TTS, with a short word: its first audio is enough.

    Raises:
        Failure: it would not serve.
    """
    wanted = candidate.speech.tts
    voice = EndpointTTS(
        speech_endpoint(candidate, http), model=wanted.model, voice=wanted.voice, speed=wanted.speed
    )
    await within(wanted.first_audio_s, candidate.name, _speak(voice))


def speech_endpoint(candidate: SpeechCandidate, http: aiohttp.ClientSession) -> Endpoint:
    """The server that a candidate is."""
    key_env = candidate.speech.api_key_env
    return Endpoint(candidate.name, candidate.base_url, secret(key_env), http, key_env=key_env)


async def _listen(ears: EndpointSTT) -> None:
    try:
        await ears.transcribe([_SILENCE])
    except Failure as failure:
        if failure.reason is not Reason.EMPTY:
            raise


async def _speak(voice: EndpointTTS) -> None:
    async with aclosing(voice.pcm(_WORD)) as pieces:
        async for _ in pieces:
            return


async def within(timeout_s: float, place: object, check: Coroutine[Any, Any, None]) -> None:
    """Waits for ``check`` no longer than ``timeout_s``."""
    try:
        async with asyncio.timeout(timeout_s):
            await check
    except TimeoutError:
        raise Failure(Reason.SILENT, f"{place}: no answer within {timeout_s:g} s") from None


async def check_listed(server: Endpoint, model: str) -> None:
    """Whether ``server`` lists ``model``; one that lists nothing may have it."""
    asked = server.asked("")
    async with server.get("/models", asked) as response:
        answer = await server.read_json(response, asked)
    listed = [shown(str(entry.get("id"))) for entry in _entries(answer)]
    if listed and model not in listed:
        some = ", ".join(listed[:_LISTED]) + (" …" if len(listed) > _LISTED else "")
        raise server.failure(Reason.REFUSED, f"it has no model {model}; it lists {some}")


def _entries(answer: dict[str, Any]) -> list[dict[str, Any]]:
    data = answer.get("data")
    return [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []


async def check_google(google: GoogleLLM | GoogleRealtimeLLM, http: aiohttp.ClientSession) -> None:
    """Whether Google knows the key and the model."""
    base, key = google.base_url or GOOGLE_URL, secret(google.api_key_env)
    place = f"{google.name} at {base}"
    asked = Asked(google.model, google.api_key_env, key, ())
    url = f"{base}/v1beta/models/{google.model}"
    try:
        async with http.get(url, headers={"x-goog-api-key": key}, ssl=_trust(google)) as response:
            if response.status >= 400:
                body = await response.content.read(_ERROR_BYTES)
                raise of_google(place, asked, response.status, _json(body))
            told = _json(await response.content.read(_MODEL_BYTES))
        live = isinstance(google, GoogleRealtimeLLM)
        if not serves(told, "bidiGenerateContent" if live else "generateContent"):
            what = "a model of the Live API" if live else "a model that answers text"
            words = f"{google.model} is not {what}; change model"
            raise Failure(Reason.REFUSED, f"{place}: {words}")
    except (aiohttp.ClientError, OSError) as error:
        raise Failure(Reason.UNREACHABLE, f"{place}: {why_lost(error)}") from None


def _trust(google: GoogleLLM | GoogleRealtimeLLM) -> ssl.SSLContext | bool:
    if isinstance(google, GoogleRealtimeLLM) and google.ca_file:
        return trusting(google.ca_file)
    return True


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
