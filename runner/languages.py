"""The caller's language, and what a configuration has for it: ears, a voice, a few sentences."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from runner.config import LLM, Agent, Config, GoogleRealtimeLLM, Speech, language_tag

log = logging.getLogger(__name__)

ATTRIBUTE = "language"
"""Of the participant: the caller's language, such as pt-BR."""

Found = TypeVar("Found")


def caller_language(said: str | None) -> str | None:
    """What a caller gave as a language, in small letters; None: nothing, or no language."""
    try:
        return language_tag(said or "")
    except ValueError:
        return None


def spoken(config: Config, language: str) -> Config:
    """``config`` for a call in ``language``: the STT's code and model, the voice, the sentences,
    the code of a speech-to-speech model. What has no such language stays as it is, so that callers
    cannot make more configurations than there are languages in this one."""
    stand_in = config.stand_in
    if stand_in.speech:
        stand_in = replace(stand_in, speech=_speech(stand_in.speech, language))
    speech = _speech(config.stt_tts, language)
    if not isinstance(config.llm, GoogleRealtimeLLM) and not _same(speech.stt.language, language):
        log.warning("stt_tts.languages has no %s: %s is heard", language, speech.stt.language)
    return replace(
        config,
        llm=config.llm if _same(config.agent.language, language) else _llm(config.llm, language),
        stt_tts=speech,
        stand_in=stand_in,
        agent=_agent(config.agent, language),
    )


def _speech(speech: Speech, language: str) -> Speech:
    found = None if _same(speech.stt.language, language) else _of(speech.languages, language)
    if found is None:
        return speech
    stt = replace(
        speech.stt, language=found.stt, model=speech.stt.multilingual_model or speech.stt.model
    )
    return replace(speech, stt=stt, tts=replace(speech.tts, voice=found.voice))


def _agent(agent: Agent, language: str) -> Agent:
    found = None if _same(agent.language, language) else _of(agent.languages, language)
    if found is None:
        return agent
    return replace(agent, apology=found.apology, not_heard=found.not_heard, back=found.back)


def _llm(llm: LLM, language: str) -> LLM:
    if isinstance(llm, GoogleRealtimeLLM) and (code := _of(llm.languages, language)):
        return replace(llm, language=code)
    return llm


def _of(table: Mapping[str, Found], language: str) -> Found | None:
    """What ``table`` has for pt-br: under that, or under pt."""
    return table.get(language) or table.get(_primary(language))


def _same(one: str, other: str) -> bool:
    return _primary(one) == _primary(other)


def _primary(language: str) -> str:
    return language.lower().partition("-")[0]
