"""Configuration → objects: the chains of one call, with their clients.

A provider's client is imported only where the configuration has it: each costs a second and tens
of megabytes.
"""

from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from urllib.parse import urlsplit

import aiohttp
from livekit.agents import llm

from runner import checkups
from runner.candidates import (
    LLMCandidate,
    SpeechCandidate,
    llm_candidates,
    secret,
    stt_candidates,
    tts_candidates,
)
from runner.chains import LLMChain, STTChain, TTSChain
from runner.clauses import cut
from runner.config import Config, GoogleLLM, GoogleRealtimeLLM, OpenAILLM, RetrievalLLM
from runner.errors import ProviderError
from runner.failover import Chain, Member
from runner.folders import kept_dir
from runner.kept import Kept, Voice
from runner.metrics import Metrics
from runner.outcome import Key
from runner.providers.chat import ChatAnswers
from runner.providers.request import Answerer
from runner.providers.retrieval import Retrieval
from runner.providers.speech import SPEECH_RATE_HZ, EndpointSTT, EndpointTTS
from runner.rag.search import Hit
from runner.switchboard import Desk, Switchboard

Search = Callable[[str], Awaitable[list[Hit]]]
Embed = Callable[[Sequence[str]], Awaitable[list[list[float]]]]

_RETRIEVAL_DEADLINE_S = 10.0
_CLIENT_MODULES = {
    "openai": (),
    "google": ("runner.providers.google",),
    "google_realtime": ("runner.realtime",),
    "retrieval": (),
}


def llm_chain(
    config: Config, desk: Desk, http: aiohttp.ClientSession, search: Search, embed: Embed
) -> LLMChain:
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
    members = [_llm_member(candidate, http, search, embed) for candidate in usable]
    return LLMChain(Chain("LLM", members, desk, config.failover))


def switchboard(config: Config, http: aiohttp.ClientSession, metrics: Metrics) -> Switchboard:
    """The permits and breakers of a worker, and the probes that close them again."""
    llms = {("LLM", candidate.name): candidate for candidate in llm_candidates(config)}
    ears = {("STT", candidate.name): candidate for candidate in stt_candidates(config)}
    voices = {("TTS", candidate.name): candidate for candidate in tts_candidates(config)}

    async def probe(key: Key) -> None:
        if key in llms:
            await checkups.revive_llm(llms[key], http)
        elif key in ears:
            await checkups.revive_stt(ears[key], http)
        else:
            await checkups.revive_tts(voices[key], http)

    return Switchboard(config.limits.llm_concurrency, config.failover.breaker, probe, metrics)


def client_modules(config: Config) -> list[str]:
    """The modules that `llm_chain` and `realtime_model` will import for ``config``, and what those
    import only when they are first used, which would hold up a caller's first turn."""
    wanted = {candidate.config.kind for candidate in llm_candidates(config)}
    return sorted({name for kind in wanted for name in _CLIENT_MODULES[kind]})


def realtime_model(config: GoogleRealtimeLLM) -> llm.RealtimeModel:
    """The speech-to-speech model, a new object for each call.

    Raises:
        ProviderError: its ``ca_file`` cannot be read.
    """
    from runner.providers.google_live import live_model

    return live_model(config, secret(config.api_key_env))


def stt_chain(config: Config, desk: Desk, http: aiohttp.ClientSession) -> STTChain:
    """The transcription endpoints in their order."""
    members = [_stt_member(candidate, http) for candidate in stt_candidates(config)]
    return STTChain(Chain("STT", members, desk, config.failover), config.stt_tts.stt.language)


def tts_chain(
    config: Config, desk: Desk, http: aiohttp.ClientSession, kept: Kept | None = None
) -> TTSChain:
    """The speech endpoints in their order; those of ``kept`` have a sound already."""
    members = [_tts_member(candidate, http) for candidate in tts_candidates(config)]
    return TTSChain(Chain("TTS", members, desk, config.failover), kept)


async def kept(config: Config, greeting: str) -> Kept:
    """The sentences whose sound is kept: ``greeting`` and those of ``config``, in its language, as
    its voices say them."""
    agent = config.agent
    said = [await cut(text) for text in (greeting, agent.apology, agent.not_heard, agent.back)]
    voices = {candidate.name: _voice(candidate) for candidate in tts_candidates(config)}
    return Kept(kept_dir(config.deployment), voices, chain.from_iterable(said))


def far_servers(config: Config) -> list[str]:
    """Base URLs of those that a turn asks first, where they are reached by TLS. Google's client has
    connections of its own."""
    if isinstance(config.llm, GoogleRealtimeLLM):
        return []
    llms = [one.config for one in llm_candidates(config) if one.missing_key is None][:1]
    speech = [*stt_candidates(config)[:1], *tts_candidates(config)[:1]]
    urls = [one.base_url for one in llms if isinstance(one, OpenAILLM)]
    return [url for url in (*urls, *(one.base_url for one in speech)) if url.startswith("https:")]


def _voice(candidate: SpeechCandidate) -> Voice:
    server, wanted = urlsplit(candidate.base_url), candidate.speech.tts
    return Voice(
        provider=candidate.name,
        address=f"{server.netloc.rpartition('@')[2]}{server.path}",
        model=wanted.model,
        voice=wanted.voice,
        speed=wanted.speed,
        rate_hz=SPEECH_RATE_HZ,
    )


def _llm_member(
    candidate: LLMCandidate, http: aiohttp.ClientSession, search: Search, embed: Embed
) -> Member[Answerer]:
    match candidate.config:
        case OpenAILLM() as chat:
            provider: Answerer = ChatAnswers(chat, secret(chat.api_key_env), http)
            return Member(chat.name, provider, chat.model, chat.first_token_s, chat.stall_s)
        case GoogleLLM() as gemini:
            from runner.providers.google import GeminiAnswers

            provider = GeminiAnswers(gemini, secret(gemini.api_key_env))
            return Member(gemini.name, provider, gemini.model, gemini.first_token_s, gemini.stall_s)
        case RetrievalLLM() as reader:
            provider = Retrieval(
                search,
                embed,
                max_sentences=reader.max_sentences,
                min_similarity=reader.min_similarity,
            )
            return Member(
                reader.name, provider, provider.model, _RETRIEVAL_DEADLINE_S, _RETRIEVAL_DEADLINE_S
            )
        case GoogleRealtimeLLM() as live:
            raise ProviderError(
                f"{live.name} speaks by itself and cannot be a member of a chain of LLMs; "
                "remove it from failover.order and stand_in.llm."
            )


def _stt_member(candidate: SpeechCandidate, http: aiohttp.ClientSession) -> Member[EndpointSTT]:
    wanted = candidate.speech.stt
    provider = EndpointSTT(
        checkups.speech_endpoint(candidate, http), model=wanted.model, language=wanted.language
    )
    return Member(candidate.name, provider, wanted.model, wanted.timeout_s, wanted.timeout_s)


def _tts_member(candidate: SpeechCandidate, http: aiohttp.ClientSession) -> Member[EndpointTTS]:
    wanted, provider = candidate.speech.tts, tts_endpoint(candidate, http)
    return Member(candidate.name, provider, wanted.model, wanted.first_audio_s, wanted.stall_s)


def tts_endpoint(candidate: SpeechCandidate, http: aiohttp.ClientSession) -> EndpointTTS:
    """A speech endpoint by itself, outside of any chain."""
    wanted = candidate.speech.tts
    return EndpointTTS(
        checkups.speech_endpoint(candidate, http),
        model=wanted.model,
        voice=wanted.voice,
        speed=wanted.speed,
    )
