"""Where values come from."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config import Config
from runner.folders import RESOURCES
from runner.origins import Composition, Origin, flat, origins

CHOICES = {
    "task": "serve",
    "simulate": "off",
    "deployment": "local",
    "llm@stand_in.llm": "retrieval",
    "rag": "on",
    "stt_tts": "speaches",
    "gpu": "split",
    "llm@fallback.ollama": "ollama",
    "llm": "vllm",
    "agent": "assistant",
    "hydra/env": "default",
}
SHIPPED = (RESOURCES / "conf",)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (RESOURCES / "conf").rglob("*.yaml"):
        for name in re.findall(r"oc\.env:([A-Z_]+)", path.read_text()):
            monkeypatch.delenv(name, raising=False)


def test_every_key_has_one(settings: Config) -> None:
    found = origins(settings, Composition((), CHOICES, SHIPPED))
    assert found.keys() == flat(settings).keys()
    assert found["turn.max_turn_s"] == Origin("default", "conf/config.yaml")
    assert found["llm.model"] == Origin("default", "conf/llm/vllm.yaml")
    assert found["fallback.ollama.base_url"] == Origin("default", "conf/llm/ollama.yaml")
    assert found["deployment.name"] == Origin("default", "conf/deployment/local.yaml")
    assert {origin.kind for origin in found.values()} == {"default"}


def test_the_command_line_s_are_named(composed: Callable[..., Config]) -> None:
    words = ("llm=ollama", "rag.top_k=3", "++turn.max_turn_s=20")
    config = composed(*words)
    found = origins(config, Composition(words, CHOICES | {"llm": "ollama"}, SHIPPED))
    assert found["rag.top_k"] == Origin("command line", "rag.top_k")
    assert found["turn.max_turn_s"] == Origin("command line", "turn.max_turn_s")
    assert found["llm.base_url"] == Origin("command line", "llm")
    assert found["rag.chunk_size"].kind == "default"


def test_variables_count_while_they_are_set(
    settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_PORT", "5433")
    monkeypatch.setenv("LLM_PROVIDER", "vllm")
    found = origins(settings, Composition((), CHOICES, SHIPPED))
    assert found["database.port"] == Origin("environment", "POSTGRES_PORT")
    assert found["database.host"].kind == "default"
    assert found["llm.model"] == Origin("environment", "LLM_PROVIDER")
    monkeypatch.setenv("DATABASE_URL", "postgresql://db.example/voice")
    found = origins(settings, Composition((), CHOICES, SHIPPED))
    assert found["database.host"] == Origin("environment", "DATABASE_URL")


def test_a_file_of_one_s_own_is_named(settings: Config, tmp_path: Path) -> None:
    own = tmp_path / "llm" / "vllm.yaml"
    own.parent.mkdir()
    own.write_text("model: mine\n")
    found = origins(settings, Composition((), CHOICES, (tmp_path, *SHIPPED)))
    assert found["llm.model"] == Origin("file", str(own))
