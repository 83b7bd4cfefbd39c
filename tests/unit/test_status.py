"""What callers may choose to speak, as the page is told."""

from types import SimpleNamespace
from typing import Any

import pytest

from runner.errors import DatabaseAwayError
from runner.status import Status


class Personas:
    """The rows of a database; None: it is away."""

    def __init__(self, *languages: str) -> None:
        self.rows: tuple[str, ...] | None = languages
        self.asked = 0

    async def languages(self) -> list[str]:
        self.asked += 1
        if self.rows is None:
            raise DatabaseAwayError("It is away.")
        return list(self.rows)


@pytest.fixture(autouse=True)
def nothing_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(*_: object) -> list[object]:
        return []

    monkeypatch.setattr("runner.status.probes.stand_ins", found)


def status(personas: Personas) -> Status:
    config: Any = SimpleNamespace(
        livekit=SimpleNamespace(agent_name="agent"), agent=SimpleNamespace(language="en")
    )
    running: Any = SimpleNamespace(endpoints=SimpleNamespace(notes=["A note."]))
    return Status(config, running, personas)  # type: ignore[arg-type]


async def test_the_language_of_the_configuration_comes_first_and_what_is_none_is_left_out() -> None:
    told = status(Personas("de", "EN", "pt-BR", "ar", "<b>", "de"))
    assert await told() == {
        "agent": "agent",
        "languages": ["en", "ar", "de", "pt-br"],
        "notes": ["A note."],
        "stand_ins": [],
    }


async def test_one_answer_serves_many_pages() -> None:
    personas = Personas("de")
    told = status(personas)
    assert await told() == await told()
    assert personas.asked == 1


async def test_without_a_database_the_languages_are_those_of_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runner.status._AGE_S", 0.0)
    personas = Personas("de", "en")
    told = status(personas)
    await told()
    personas.rows = None
    assert (await told())["languages"] == ["en", "de"]
