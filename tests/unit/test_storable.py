"""What is stored of what PostgreSQL cannot hold."""

import pytest

from runner.store import storable


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ("plain", "plain"),
        ("a\0b", "a\ufffdb"),
        ("half \ud83d of a pair", "half \ufffd of a pair"),
        ("😀 whole", "😀 whole"),
        (float("nan"), None),
        (float("-inf"), None),
        (0.25, 0.25),
        (10**30, 10**30),
        (True, True),
        (None, None),
        ({"a\0": ["\ud800", (1, float("inf"))]}, {"a\ufffd": ["\ufffd", [1, None]]}),
        ({7: "a key of JSON is a string"}, {"7": "a key of JSON is a string"}),
    ],
)
def test_what_postgres_refuses_is_replaced_and_the_rest_kept(said: object, stored: object) -> None:
    assert storable(said) == stored
