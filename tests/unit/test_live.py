"""Settings of the database, laid over the configuration."""

import re
from collections.abc import Callable

import pytest

from runner.config import Config
from runner.errors import DatabaseAwayError
from runner.fingerprint import fingerprint
from runner.folders import RESOURCES
from runner.live import LIVE, Settings, live_config, overlay

Composed = Callable[..., Config]
EXAMPLES = {
    "llm.temperature": 0.2,
    "llm.max_tokens": 99,
    "llm.first_token_s": 3.5,
    "llm.stall_s": 2.5,
    "fallback.ollama.temperature": 0.3,
    "fallback.ollama.max_tokens": 98,
    "fallback.ollama.first_token_s": 3.25,
    "fallback.ollama.stall_s": 2.25,
    "failover.tries": 1,
    "failover.backoff_s": 0.7,
    "failover.hedge_after_s": 0.9,
    "failover.patience_s": 11.5,
    "failover.total_s": 33.0,
    "stt_tts.stt.timeout_s": 4.5,
    "stt_tts.tts.first_audio_s": 4.25,
    "stt_tts.tts.stall_s": 1.75,
    "stt_tts.tts.speed": 1.2,
    "turn.endpointing_delay_s": 0.8,
    "turn.vad_silence_s": 0.35,
    "turn.transcribe_after_s": 0.15,
    "turn.preemptive_generation": False,
    "turn.min_interruption_s": 0.7,
    "rag.enabled": False,
    "rag.hybrid": False,
    "rag.top_k": 3,
    "rag.min_similarity": 0.4,
    "rag.deadline_ms": 80,
    "sessions.timeout_minutes": 7,
    "log.level": "DEBUG",
    "log.transcripts": True,
}


def at(config: object, key: str) -> object:
    for part in key.split("."):
        config = config[part] if isinstance(config, dict) else getattr(config, part)
    return config


class Rows:
    """A store with these settings, or one that is away."""

    def __init__(self, rows: dict[str, object] | None) -> None:
        self.rows = rows

    async def live_settings(self) -> dict[str, object]:
        if self.rows is None:
            raise DatabaseAwayError("The database is away.")
        return self.rows


def test_the_examples_are_all_the_settings() -> None:
    assert [key.replace("ollama", "*") for key in EXAMPLES] == list(LIVE)


@pytest.mark.parametrize("key", EXAMPLES)
def test_every_setting_takes_its_place_in_the_configuration(settings: Config, key: str) -> None:
    assert at(settings, key) != EXAMPLES[key]
    changed, ignored = overlay(settings, {key: EXAMPLES[key]})
    assert (at(changed, key), ignored) == (EXAMPLES[key], [])
    assert fingerprint(changed) != fingerprint(settings)


def test_a_wrong_setting_is_told_and_the_others_hold(settings: Config) -> None:
    rows = {"llm.temperature": 5, "rag.top_k": 3, "rag.deadline_ms": "soon", "log.level": "LOUD"}
    changed, ignored = overlay(settings, rows)
    assert changed.rag.top_k == 3
    assert changed.llm == settings.llm
    assert ignored == [
        "system_config: llm.temperature is ignored: it is 5, and must be less than or equal to 2.",
        (
            "system_config: log.level is ignored: it is 'LOUD', and must be 'DEBUG', 'INFO', "
            "'WARNING' or 'ERROR'."
        ),
        (
            "system_config: rag.deadline_ms is ignored: it is 'soon', and must be a valid integer, "
            "unable to parse string as an integer."
        ),
    ]


def test_a_key_that_is_no_setting_is_told_with_the_nearest_one(settings: Config) -> None:
    rows = {"llm_temperature": 0.5, "database.host": "evil", "": 1, "llm.temperature.x": 1}
    changed, ignored = overlay(settings, rows)
    assert changed == settings
    assert len(ignored) == len(rows)
    assert any("llm_temperature is ignored: no such" in said for said in ignored)
    assert any("llm.temperature does." in said for said in ignored)
    assert any("docs/configuration.md lists those that do." in said for said in ignored)


def test_a_setting_that_this_llm_does_not_have_is_told(composed: Composed) -> None:
    changed, ignored = overlay(composed("llm=retrieval"), {"llm.temperature": 0.5})
    assert changed == composed("llm=retrieval")
    assert "this configuration has no such key" in ignored[0]


def test_a_provider_that_is_not_there_is_told(settings: Config) -> None:
    _, ignored = overlay(settings, {"fallback.nobody.temperature": 0.5})
    assert "fallback.nobody.temperature is ignored" in ignored[0]


def test_rules_between_keys_hold_for_settings_too(settings: Config) -> None:
    changed, ignored = overlay(settings, {"llm.max_tokens": 4000})
    assert changed == settings
    assert "at most half of llm.context_tokens" in ignored[0]


@pytest.mark.parametrize("value", [None, [], {}, "x" * 100_000, [[[]]], {"a": {}}, 1e308, "\ud800"])
def test_no_value_does_harm_or_fills_the_log(settings: Config, value: object) -> None:
    changed, ignored = overlay(settings, {"rag.top_k": value})
    assert changed == settings
    assert len(ignored[0]) < 300


async def test_while_the_database_is_away_the_configuration_holds(settings: Config) -> None:
    assert await live_config(Rows(None), settings) == settings  # type: ignore[arg-type]


async def test_what_is_ignored_is_told_once_until_it_changes(
    settings: Config, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rows = Rows({"rag.top_k": 0, "rag.hybrid": False})
    watched = Settings(rows, settings)  # type: ignore[arg-type]
    for _ in range(3):
        await watched.look()
    assert caplog.text.count("rag.top_k is ignored") == 1
    assert caplog.text.count("these settings of system_config: rag.hybrid") == 1
    assert watched.config.rag.hybrid is False
    rows.rows = {"rag.top_k": 0, "rag.hybrid": False, "rag.deadline_ms": 80}
    await watched.look()
    assert caplog.text.count("rag.top_k is ignored") == 1
    assert caplog.text.count("these settings of system_config: rag.deadline_ms, rag.hybrid") == 1
    rows.rows = {"rag.top_k": 99}
    await watched.look()
    assert caplog.text.count("rag.top_k is ignored") == 2
    assert watched.config == settings


def test_the_manual_lists_every_setting() -> None:
    manual = (RESOURCES / "docs" / "configuration.md").read_text()
    table = manual.partition("## Settings that change while calls run")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| (`.+?`(?:, `.+?`)*) \|", table, re.MULTILINE)
    assert re.findall(r"`(.+?)`", ", ".join(listed)) == list(LIVE)
