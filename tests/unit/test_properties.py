"""What files say of themselves, told in one way."""

import pytest

from runner.rag.properties import _iso, _properties


@pytest.mark.parametrize(
    ("date", "iso"),
    [
        ("D:20240131120000+01'00'", "2024-01-31T12:00:00+01:00"),
        ("D:20240131120000Z", "2024-01-31T12:00:00Z"),
        ("D:20240131", "2024-01-31"),
        ("2024", "2024"),
        ("yesterday", ""),
        ("", ""),
    ],
)
def test_dates_of_pdfs_become_iso_dates(date: str, iso: str) -> None:
    assert _iso(date) == iso


def test_what_is_empty_no_date_or_endless_is_not_kept() -> None:
    found = _properties([" A\0\n title " + "x" * 999], ["", "Ann "], "<script>", "2024-01-31")
    assert found == {
        "title": ("A title " + "x" * 999)[:300],
        "authors": ["Ann"],
        "modified": "2024-01-31",
    }
