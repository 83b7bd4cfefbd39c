"""Is it there? A quick question to each member of the chains, and what its silence means.

The page asks to say what stands in for what; doctor asks and then measures.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Coroutine, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import aiohttp
from livekit import rtc

from runner.candidates import (
    LLMCandidate,
    SpeechCandidate,
    llm_candidates,
    secret,
    stt_candidates,
    tts_candidates,
)
from runner.config import Config, GoogleLLM, GoogleRealtimeLLM, OpenAILLM
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


@dataclass(frozen=True)
class Finding:
    """What a probe saw. ``trouble`` is None when the provider would serve."""

    name: str
    address: str
    model: str
    stand_in: bool
    latency_ms: float | None
    trouble: str | None
    hint: str = ""

    @property
    def sentence(self) -> str:
        """The trouble with its place, such as "vllm at http://…: connection refused"."""
        where = f"{self.name} at {self.address}" if self.address else self.name
        return f"{where}: {self.trouble or 'ok'}"


@dataclass(frozen=True)
class StandIn:
    """``provider`` serves ``capability`` in the place of ``instead_of``; None: nobody does."""

    capability: str
    provider: str | None
    instead_of: list[str]
    reason: str

    def __str__(self) -> str:
        who = f"{self.provider} stands in" if self.provider else "nobody answers"
        return f"{self.capability}: {who}. {self.reason}."


async def probe_llms(config: Config, timeout_s: float) -> list[Finding]:
    """The chain of LLMs, in its order."""
    candidates = llm_candidates(config)
    if isinstance(config.llm, GoogleRealtimeLLM):
        candidates = candidates[:1]  # it needs no chain
    async with aiohttp.ClientSession() as http:
        return await _all(_probe_llm(candidate, http, timeout_s) for candidate in candidates)


async def probe_speech(config: Config, timeout_s: float) -> tuple[list[Finding], list[Finding]]:
    """The chains of STT and TTS, each in its order; empty where speech needs neither."""
    if isinstance(config.llm, GoogleRealtimeLLM):
        return [], []
    async with aiohttp.ClientSession() as http:
        heard = _all(
            _probe_speech(one, one.speech.stt.model, http, timeout_s)
            for one in stt_candidates(config)
        )
        spoken = _all(
            _probe_speech(one, one.speech.tts.model, http, timeout_s)
            for one in tts_candidates(config)
        )
        stt, tts = await asyncio.gather(heard, spoken)
        return stt, tts


async def stand_ins(config: Config, timeout_s: float) -> list[StandIn]:
    """What serves now in the place of what was asked for, and why; for the page and the log."""
    llms, (stt, tts) = await asyncio.gather(
        probe_llms(config, timeout_s), probe_speech(config, timeout_s)
    )
    chains = (("LLM", llms), ("STT", stt), ("TTS", tts))
    return [found for name, chain in chains if (found := _stand_in(name, chain)) is not None]


async def revive_llm(candidate: LLMCandidate, http: aiohttp.ClientSession) -> None:
    """Whether an LLM that failed would serve again: one token of an answer to "Hi", or of Google's
    the model's description, within its deadline for the first word.

    Raises:
        Failure: it would not.
    """
    match candidate.config:
        case OpenAILLM() as chat:
            answers = ChatAnswers(chat, secret(chat.api_key_env), http)
            await _within(chat.first_token_s, chat.name, answers.probe())
        case GoogleLLM() as google:
            await _within(google.first_token_s, google.name, _check_google(google, http))


async def revive_stt(candidate: SpeechCandidate, http: aiohttp.ClientSession) -> None:
    """The same for an STT, with a fifth of a second of silence: no words are as good as any.

    Raises:
        Failure: it would not serve.
    """
    wanted = candidate.speech.stt
    ears = EndpointSTT(
        speech_endpoint(candidate, http), model=wanted.model, language=wanted.language
    )
    await _within(wanted.timeout_s, candidate.name, _listen(ears))


async def revive_tts(candidate: SpeechCandidate, http: aiohttp.ClientSession) -> None:
    """The same for a TTS, with a short word: its first audio is enough.

    Raises:
        Failure: it would not serve.
    """
    wanted = candidate.speech.tts
    voice = EndpointTTS(
        speech_endpoint(candidate, http), model=wanted.model, voice=wanted.voice, speed=wanted.speed
    )
    await _within(wanted.first_audio_s, candidate.name, _speak(voice))


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


def _stand_in(capability: str, chain: list[Finding]) -> StandIn | None:
    """The chain's serving member, unless that is its first."""
    serving = next((at for at, finding in enumerate(chain) if finding.trouble is None), None)
    if serving == 0 or not chain:
        return None
    passed_over = chain if serving is None else chain[:serving]
    return StandIn(
        capability,
        None if serving is None else chain[serving].name,
        [finding.name for finding in passed_over],
        "; ".join(finding.sentence for finding in passed_over),
    )


async def _all(probes: Iterable[Any]) -> list[Finding]:
    return list(await asyncio.gather(*probes))


async def _probe_llm(
    candidate: LLMCandidate, http: aiohttp.ClientSession, timeout_s: float
) -> Finding:
    if candidate.missing_key:
        missing = f"{candidate.missing_key} is not set"
        return _finding(candidate, "", getattr(candidate.config, "model", ""), None, missing)
    match candidate.config:
        case OpenAILLM() as chat:
            server = Endpoint(
                chat.name,
                chat.base_url,
                secret(chat.api_key_env),
                http,
                key_env=chat.api_key_env,
                headers=chat.headers,
            )
            latency, trouble = await _timed(_check_listed(server, chat.model), server, timeout_s)
            return _finding(candidate, chat.base_url, chat.model, latency, trouble)
        case GoogleLLM() | GoogleRealtimeLLM() as google:
            base = google.base_url or GOOGLE_URL
            place = f"{google.name} at {base}"
            latency, trouble = await _timed(_check_google(google, http), place, timeout_s)
            return _finding(candidate, base, google.model, latency, trouble)
        case _:
            return _finding(candidate, "", "", None, None)


async def _probe_speech(
    candidate: SpeechCandidate, model: str, http: aiohttp.ClientSession, timeout_s: float
) -> Finding:
    server = speech_endpoint(candidate, http)
    latency, trouble = await _timed(_check_listed(server, model), server, timeout_s)
    return _finding(candidate, candidate.base_url, model, latency, trouble)


def _finding(
    candidate: LLMCandidate | SpeechCandidate,
    address: str,
    model: str,
    latency_ms: float | None,
    trouble: str | None,
) -> Finding:
    source = candidate.config if isinstance(candidate, LLMCandidate) else candidate.speech
    hint = getattr(source, "hint", "")
    return Finding(candidate.name, address, model, candidate.stand_in, latency_ms, trouble, hint)


async def _timed(
    check: Coroutine[Any, Any, None], place: object, timeout_s: float
) -> tuple[float | None, str | None]:
    """How many milliseconds ``check`` took, or what it found, without its place."""
    begin = time.perf_counter()
    try:
        await _within(timeout_s, place, check)
    except Failure as failure:
        return None, str(failure).removeprefix(f"{place}: ")
    return (time.perf_counter() - begin) * 1000, None


async def _within(timeout_s: float, place: object, check: Coroutine[Any, Any, None]) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await check
    except TimeoutError:
        raise Failure(Reason.SILENT, f"{place}: no answer within {timeout_s:g} s") from None


async def _check_listed(server: Endpoint, model: str) -> None:
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


async def _check_google(google: GoogleLLM | GoogleRealtimeLLM, http: aiohttp.ClientSession) -> None:
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
