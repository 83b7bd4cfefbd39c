"""Is it there? A quick question to each member of the chains, and what its silence means.

The page asks to say what stands in for what; doctor asks and then measures.
"""

import asyncio
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from runner.chains import (
    LLMCandidate,
    SpeechCandidate,
    llm_candidates,
    secret,
    stt_candidates,
    tts_candidates,
)
from runner.config import Config, GoogleLLM, GoogleRealtimeLLM, OpenAILLM

_GOOGLE_URL = "https://generativelanguage.googleapis.com"


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
    async with _http(timeout_s) as http:
        return await _all(_probe_llm(candidate, http) for candidate in candidates)


async def probe_speech(config: Config, timeout_s: float) -> tuple[list[Finding], list[Finding]]:
    """The chains of STT and TTS, each in its order; empty where speech needs neither."""
    if isinstance(config.llm, GoogleRealtimeLLM):
        return [], []
    async with _http(timeout_s) as http:
        heard = _all(_probe_speech(c, c.speech.stt.model, http) for c in stt_candidates(config))
        spoken = _all(_probe_speech(c, c.speech.tts.model, http) for c in tts_candidates(config))
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


def _http(timeout_s: float) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s))


async def _all(probes: Iterable[Any]) -> list[Finding]:
    return list(await asyncio.gather(*probes))


async def _probe_llm(candidate: LLMCandidate, http: aiohttp.ClientSession) -> Finding:
    if candidate.missing_key:
        missing = f"{candidate.missing_key} is not set"
        return _finding(candidate, "", getattr(candidate.config, "model", ""), None, missing)
    match candidate.config:
        case OpenAILLM() as chat:
            latency, trouble = await _listed(http, chat.base_url, chat.model, chat.api_key_env)
            return _finding(candidate, chat.base_url, chat.model, latency, trouble)
        case GoogleLLM() | GoogleRealtimeLLM() as google:
            base = os.environ.get("GOOGLE_GEMINI_BASE_URL", _GOOGLE_URL).rstrip("/")
            headers = {"x-goog-api-key": secret(google.api_key_env)}
            url = f"{base}/v1beta/models/{google.model}"
            latency, trouble, _ = await _get(http, url, headers)
            return _finding(candidate, base, google.model, latency, trouble)
        case _:
            return _finding(candidate, "", "", None, None)


async def _probe_speech(
    candidate: SpeechCandidate, model: str, http: aiohttp.ClientSession
) -> Finding:
    key_env = candidate.speech.api_key_env
    latency, trouble = await _listed(http, candidate.base_url, model, key_env)
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


async def _listed(
    http: aiohttp.ClientSession, base_url: str, model: str, key_env: str
) -> tuple[float | None, str | None]:
    """Whether the server at ``base_url`` answers and lists ``model``."""
    key = secret(key_env)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    latency, trouble, body = await _get(http, f"{base_url}/models", headers)
    if trouble is None:
        listed = [entry.get("id") for entry in _entries(body)]
        if listed and model not in listed:
            trouble = f"it has no model {model}"
    return latency, trouble


def _entries(body: Any) -> list[dict[str, Any]]:
    data = body.get("data") if isinstance(body, dict) else None
    return [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []


async def _get(
    http: aiohttp.ClientSession, url: str, headers: dict[str, str]
) -> tuple[float | None, str | None, Any]:
    """Latency in ms, the trouble in a few words, and the JSON that came."""
    begin = time.perf_counter()
    try:
        async with http.get(url, headers=headers) as response:
            if response.status in (401, 403):
                return None, f"it refuses the key (HTTP {response.status})", None
            if response.status >= 400:
                return None, f"HTTP {response.status}", None
            body = await response.json(content_type=None)
            return (time.perf_counter() - begin) * 1000, None, body
    except TimeoutError:
        return None, f"no answer within {http.timeout.total:g} s", None
    except aiohttp.ClientConnectorDNSError:
        return None, f"no such host {urlsplit(url).hostname}", None
    except aiohttp.ClientConnectorError as error:
        return None, os.strerror(error.os_error.errno or 0).lower(), None
    except (aiohttp.ClientError, ValueError) as error:
        return None, f"not an OpenAI-shaped server ({type(error).__name__})", None
