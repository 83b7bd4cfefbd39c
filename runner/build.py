"""Configuration → objects: the chains of one call, with their clients.

A provider's client is imported only where the configuration has it: each costs a second and tens
of megabytes.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
from livekit.agents import llm, stt

from runner.chains import (
    LLMCandidate,
    SpeechCandidate,
    llm_candidates,
    secret,
    stt_candidates,
    tts_candidates,
)
from runner.config import Config, GoogleLLM, GoogleRealtimeLLM, OpenAILLM, RetrievalLLM
from runner.errors import ProviderError
from runner.failover import LLMChain, Member, STTChain, TTSChain
from runner.folders import data_dir
from runner.limits import Permits
from runner.providers.retrieval import RetrievalLLM as Retrieval
from runner.providers.speech import Endpoint, EndpointSTT, EndpointTTS
from runner.rag.search import Hit

Search = Callable[[str], Awaitable[list[Hit]]]
Embed = Callable[[Sequence[str]], Awaitable[list[list[float]]]]

_RETRIEVAL_DEADLINE_S = 10.0
_CLIENT_MODULES = {
    "openai": (
        "runner.providers.chat",
        "openai.lib.streaming.chat",
        "anyio._backends._asyncio",
    ),
    "google": ("runner.providers.google",),
    "google_realtime": ("runner.providers.google",),
    "retrieval": (),
}


def llm_chain(config: Config, search: Search, embed: Embed) -> LLMChain:
    """The LLMs of ``llm``, ``failover.order`` and the stand-in whose keys are there.

    Raises:
        ProviderError: none of them has its key.
    """
    usable, missing = [], []
    for candidate in llm_candidates(config):
        if candidate.missing_key is None:
            usable.append(candidate)
        else:
            missing.append(f"{candidate.name} (set {candidate.missing_key})")
    if not usable:
        raise ProviderError(f"No LLM can be asked; keys are missing: {', '.join(missing)}.")
    permits = Permits(data_dir(config.deployment) / "permits", config.limits.llm_concurrency)
    return LLMChain([_llm_member(candidate, search, embed) for candidate in usable], permits)


def client_modules(config: Config) -> list[str]:
    """The modules that `llm_chain` and `realtime_model` will import for ``config``, and what those
    import only when they are first used, which would hold up a caller's first turn."""
    wanted = {candidate.config.kind for candidate in llm_candidates(config)}
    return sorted({name for kind in wanted for name in _CLIENT_MODULES[kind]})


def realtime_model(config: GoogleRealtimeLLM) -> llm.RealtimeModel:
    """The speech-to-speech model, a new object for each call."""
    from runner.providers.google import google_realtime

    return google_realtime(
        model=config.model,
        api_key=secret(config.api_key_env),
        voice=config.voice,
        temperature=config.temperature,
    )


def stt_chain(config: Config, http: aiohttp.ClientSession) -> STTChain:
    """The transcription endpoints in their order."""
    return STTChain([_stt_member(candidate, http) for candidate in stt_candidates(config)])


def tts_chain(config: Config, http: aiohttp.ClientSession) -> TTSChain:
    """The speech endpoints in their order."""
    return TTSChain([_tts_member(candidate, http) for candidate in tts_candidates(config)])


def _llm_member(candidate: LLMCandidate, search: Search, embed: Embed) -> Member[llm.LLM[Any]]:
    match candidate.config:
        case OpenAILLM() as chat:
            from runner.providers.chat import chat_llm

            provider = chat_llm(
                base_url=chat.base_url,
                model=chat.model,
                api_key=secret(chat.api_key_env),
                temperature=chat.temperature,
                max_tokens=chat.max_tokens,
            )
            return Member(chat.name, provider, chat.first_token_s)
        case GoogleLLM() as gemini:
            from runner.providers.google import google_llm

            provider = google_llm(
                model=gemini.model,
                api_key=secret(gemini.api_key_env),
                temperature=gemini.temperature,
                max_tokens=gemini.max_tokens,
            )
            return Member(gemini.name, provider, gemini.first_token_s)
        case RetrievalLLM() as reader:
            provider = Retrieval(
                search,
                embed,
                max_sentences=reader.max_sentences,
                min_similarity=reader.min_similarity,
            )
            return Member(reader.name, provider, _RETRIEVAL_DEADLINE_S)
        case GoogleRealtimeLLM() as live:
            raise ProviderError(
                f"{live.name} speaks by itself and cannot be a member of a chain of LLMs; "
                "remove it from failover.order and stand_in.llm."
            )


def _stt_member(candidate: SpeechCandidate, http: aiohttp.ClientSession) -> Member[stt.STT[Any]]:
    wanted = candidate.speech.stt
    provider = EndpointSTT(
        _endpoint(candidate, http),
        model=wanted.model,
        language=wanted.language,
        timeout_s=wanted.timeout_s,
    )
    return Member(candidate.name, provider, wanted.timeout_s)


def _tts_member(candidate: SpeechCandidate, http: aiohttp.ClientSession) -> Member[EndpointTTS]:
    wanted = candidate.speech.tts
    provider = EndpointTTS(
        _endpoint(candidate, http),
        model=wanted.model,
        voice=wanted.voice,
        speed=wanted.speed,
        timeout_s=wanted.timeout_s,
    )
    return Member(candidate.name, provider, wanted.timeout_s)


def _endpoint(candidate: SpeechCandidate, http: aiohttp.ClientSession) -> Endpoint:
    key = secret(candidate.speech.api_key_env)
    return Endpoint(candidate.name, candidate.base_url, key, http)
