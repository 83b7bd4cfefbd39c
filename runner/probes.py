"""Is it there? A quick question to each member of the chains, and what its silence means.

The page asks to say what stands in for what; doctor asks and then measures.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp

from runner.candidates import (
    LLMCandidate,
    SpeechCandidate,
    llm_candidates,
    secret,
    stt_candidates,
    tts_candidates,
)
from runner.checkups import check_google, check_listed, speech_endpoint, within
from runner.config import Config, GoogleLLM, GoogleRealtimeLLM, OpenAILLM
from runner.providers.endpoint import Endpoint
from runner.providers.failure import Failure
from runner.providers.google_errors import GOOGLE_URL


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
            latency, trouble = await _timed(check_listed(server, chat.model), server, timeout_s)
            return _finding(candidate, chat.base_url, chat.model, latency, trouble)
        case GoogleLLM() | GoogleRealtimeLLM() as google:
            base = google.base_url or GOOGLE_URL
            place = f"{google.name} at {base}"
            latency, trouble = await _timed(check_google(google, http), place, timeout_s)
            return _finding(candidate, base, google.model, latency, trouble)
        case _:
            return _finding(candidate, "", "", None, None)


async def _probe_speech(
    candidate: SpeechCandidate, model: str, http: aiohttp.ClientSession, timeout_s: float
) -> Finding:
    server = speech_endpoint(candidate, http)
    latency, trouble = await _timed(check_listed(server, model), server, timeout_s)
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
        await within(timeout_s, place, check)
    except Failure as failure:
        return None, str(failure).removeprefix(f"{place}: ")
    return (time.perf_counter() - begin) * 1000, None
