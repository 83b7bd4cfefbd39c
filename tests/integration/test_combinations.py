"""Every combination of the groups composes and passes the checks."""

import itertools
from collections.abc import Iterator

import pytest
from hydra import compose, initialize_config_dir

from runner import checks, config
from runner.folders import RESOURCES

CONF = RESOURCES / "conf"
GROUPS = {
    "llm": ["vllm", "ollama", "openrouter", "google", "google_realtime", "retrieval"],
    "gpu": ["split", "cpu_fallback"],
    "rag": ["on", "off"],
    "stt_tts": ["speaches", "embedded"],
}
COMBINATIONS = [
    [f"{group}={choice}" for group, choice in zip(GROUPS, choices, strict=True)]
    for choices in itertools.product(*GROUPS.values())
]


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def test_every_option_of_every_group_is_in_the_combinations() -> None:
    for group, choices in GROUPS.items():
        assert sorted(choices) == sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("overrides", COMBINATIONS, ids=" ".join)
def test_it_composes_and_passes_the_checks(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "not-a-key")
    settings = config.load(compose("config", overrides=overrides))
    checks.check(settings)
    assert settings.llm.name == overrides[0].removeprefix("llm=")
    assert settings.rag.enabled is (overrides[2] == "rag=on")
