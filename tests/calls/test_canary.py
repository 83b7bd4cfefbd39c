"""Callers at once, each with a secret: nothing of one gets to another."""

from collections.abc import Callable
from pathlib import Path

from tests.calls.canary import canary

CALLERS, TURNS = 6, 4


def test_no_secret_leaks_and_no_word_is_lost_while_postgres_dies(
    new_data_dir: Callable[[], Path],
) -> None:
    found = canary(new_data_dir(), CALLERS, TURNS, kills=1)
    assert found.leaks == []
    assert found.lost_or_doubled == []
    assert len(found.misheard) <= found.turns // 4  # an ear that hears nothing finds no leak
    assert found.turns >= CALLERS * (TURNS - 1)  # one that was never understood is not counted
    assert found.rows >= CALLERS * (1 + 2 * TURNS)
    assert found.prompts >= found.turns
