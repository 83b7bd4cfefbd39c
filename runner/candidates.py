"""Who is asked for what, in which order: the chains of a configuration, before they are built.

Pure: nothing is opened here, so doctor, the page and the job agree on the same list.
"""

import os
from dataclasses import dataclass

from runner.config import LLM, Config, RetrievalLLM, Speech


@dataclass(frozen=True)
class LLMCandidate:
    """An LLM in the chain. ``stand_in``: it is there only because nothing better answers."""

    config: LLM
    stand_in: bool

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def missing_key(self) -> str | None:
        """The environment variable that this provider needs and that is not set."""
        if isinstance(self.config, RetrievalLLM) or not self.config.api_key_env:
            return None
        return None if secret(self.config.api_key_env) else self.config.api_key_env


@dataclass(frozen=True)
class SpeechCandidate:
    """An STT or TTS endpoint in a chain."""

    name: str
    base_url: str
    speech: Speech
    stand_in: bool


def secret(variable: str) -> str:
    """What the environment holds under a name of the configuration; empty: no name, or unset."""
    return os.environ.get(variable, "") if variable else ""


def llm_candidates(config: Config) -> list[LLMCandidate]:
    """The chosen LLM, then ``failover.order``, then the stand-in; each provider once."""
    ordered = [
        LLMCandidate(config.llm, stand_in=False),
        *(LLMCandidate(config.fallback[name], stand_in=False) for name in config.failover.order),
    ]
    if config.stand_in.llm is not None:
        ordered.append(LLMCandidate(config.stand_in.llm, stand_in=True))
    once = {candidate.name: candidate for candidate in reversed(ordered)}
    return [candidate for candidate in ordered if once.get(candidate.name) is candidate]


def stt_candidates(config: Config) -> list[SpeechCandidate]:
    """Speaches where ``gpu`` says, then the model server; or the model server alone."""
    return _speech_candidates(config, config.gpu.stt)


def tts_candidates(config: Config) -> list[SpeechCandidate]:
    """As `stt_candidates`, for TTS."""
    return _speech_candidates(config, config.gpu.tts)


def _speech_candidates(config: Config, speaches: dict[str, str]) -> list[SpeechCandidate]:
    chosen, own = config.stt_tts, f"http://{config.models.host}:{config.models.port}/v1"
    if chosen.server == "embedded":
        return [SpeechCandidate("embedded", own, chosen, stand_in=False)]
    by_url = {url: name for name, url in reversed(speaches.items())}
    candidates = [
        SpeechCandidate(name, url, chosen, stand_in=False)
        for name, url in speaches.items()
        if by_url[url] == name
    ]
    if config.stand_in.speech is not None:
        candidates.append(SpeechCandidate("embedded", own, config.stand_in.speech, stand_in=True))
    return candidates
