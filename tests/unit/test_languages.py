"""The caller's language and what a configuration has for it."""

from collections.abc import Callable

import pytest

from runner.candidates import stt_candidates, tts_candidates
from runner.config import Config, GoogleRealtimeLLM
from runner.fingerprint import fingerprint
from runner.languages import caller_language, spoken

Composed = Callable[..., Config]


@pytest.mark.parametrize(
    ("said", "language"),
    [
        ("de", "de"),
        ("pt-BR", "pt-br"),
        ("zh-Hans-CN", "zh-hans-cn"),
        (None, None),
        ("", None),
        ("e", None),
        ("english", None),
        ("de\n", None),
        ("de'; DROP TABLE agent_instructions; --", None),
        ("\u0435s", None),
        ("e\u0301s", None),
        ("de-" + "x" * 9, None),
        ("de" + "-x1" * 100, None),
    ],
)
def test_a_language_is_taken_and_everything_else_is_none(
    said: str | None, language: str | None
) -> None:
    assert caller_language(said) == language


@pytest.mark.parametrize(
    ("language", "code", "voice"),
    [
        ("es", "es", "ef_dora"),
        ("es-MX", "es", "ef_dora"),
        ("pt-BR", "pt", "pf_dora"),
    ],
)
def test_a_language_is_heard_and_spoken_by_its_own_model_and_voice(
    settings: Config, language: str, code: str, voice: str
) -> None:
    call = spoken(settings, language.lower())
    assert (call.stt_tts.stt.language, call.stt_tts.tts.voice) == (code, voice)
    assert call.stt_tts.stt.model == settings.stt_tts.stt.multilingual_model
    assert call.agent.apology == settings.agent.languages[code].apology
    assert call.agent.back == settings.agent.languages[code].back


def test_the_stand_in_that_knows_one_language_is_asked_in_that_one(settings: Config) -> None:
    call = spoken(settings, "es")
    assert [c.speech.stt.language for c in stt_candidates(call)] == ["es", "es", "en"]
    assert [c.speech.tts.voice for c in tts_candidates(call)][-1] == "en_US-joe-medium"


@pytest.mark.parametrize("language", ["en", "en-gb"])
def test_the_language_of_the_configuration_changes_nothing(settings: Config, language: str) -> None:
    assert spoken(settings, language) == settings


def test_a_language_that_nobody_speaks_is_told_and_makes_no_new_configuration(
    settings: Config, caplog: pytest.LogCaptureFixture
) -> None:
    assert fingerprint(spoken(settings, "xx-yy")) == fingerprint(settings)
    assert "stt_tts.languages has no xx-yy: en is heard" in caplog.text


def test_a_speech_to_speech_model_is_told_the_caller_s_language(composed: Composed) -> None:
    config = composed("llm=google_realtime")
    for language, code in (("de", "de-DE"), ("pt-br", "pt-BR"), ("en", ""), ("xx", "")):
        llm = spoken(config, language).llm
        assert isinstance(llm, GoogleRealtimeLLM)
        assert llm.language == code
