"""The order in which providers are asked."""

from dataclasses import replace

import pytest

from runner.candidates import llm_candidates, stt_candidates, tts_candidates
from runner.config import Config


def test_the_stand_in_comes_last(settings: Config) -> None:
    chain = llm_candidates(settings)
    assert [candidate.name for candidate in chain] == ["vllm", "ollama", "openrouter", "retrieval"]
    assert [candidate.stand_in for candidate in chain] == [False, False, False, True]


def test_a_provider_is_in_the_chain_once(settings: Config) -> None:
    chosen = replace(settings, llm=settings.fallback["ollama"])
    assert [c.name for c in llm_candidates(chosen)] == ["ollama", "openrouter", "retrieval"]


def test_a_stand_in_that_was_chosen_is_no_stand_in(settings: Config) -> None:
    assert settings.stand_in.llm is not None
    chosen = replace(settings, llm=settings.stand_in.llm)
    first = llm_candidates(chosen)[0]
    assert (first.name, first.stand_in) == ("retrieval", False)


def test_a_missing_key_is_named_by_its_variable(
    settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
    chain = {candidate.name: candidate for candidate in llm_candidates(settings)}
    assert chain["openrouter"].missing_key == "OPENROUTER_API_KEY"
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk")
    assert chain["openrouter"].missing_key is None


def test_speech_goes_to_the_gpu_then_the_cpu_then_the_model_server(settings: Config) -> None:
    names = ["speaches_gpu", "speaches_cpu", "embedded"]
    assert [candidate.name for candidate in stt_candidates(settings)] == names
    assert [candidate.name for candidate in tts_candidates(settings)] == names
    assert stt_candidates(settings)[-1].speech.stt.model == "whisper-tiny.en"


def test_one_address_under_two_names_is_asked_once(settings: Config) -> None:
    gpu = replace(settings.gpu, stt={"gpu": "http://one/v1", "cpu": "http://one/v1"})
    assert [c.name for c in stt_candidates(replace(settings, gpu=gpu))] == ["gpu", "embedded"]


def test_embedded_speech_asks_the_model_server_alone(settings: Config) -> None:
    assert settings.stand_in.speech is not None
    chosen = replace(settings, stt_tts=settings.stand_in.speech)
    assert [(c.name, c.stand_in) for c in tts_candidates(chosen)] == [("embedded", False)]
