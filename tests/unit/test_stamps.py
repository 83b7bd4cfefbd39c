"""When a file is read again, and when it has to wait."""

import os
import time
from pathlib import Path

import pytest

from runner.rag import stamps
from runner.rag.documents import DocumentError
from runner.rag.stamps import Stamps


def recipe(suffix: str) -> str:
    return f"recipe of {suffix}"


async def test_a_fingerprint_is_that_of_content_format_and_recipe(tmp_path: Path) -> None:
    texts = {"a.md": "x", "b.md": "x", "c.md": "y", "d.txt": "x"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    one, same, other, another = [
        await Stamps(recipe, 0).fingerprint(tmp_path / name) for name in texts
    ]
    assert one == same
    assert len({one, other, another}) == 3
    assert await Stamps(str.upper, 0).fingerprint(tmp_path / "a.md") != one


async def test_an_untouched_file_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.md"
    path.write_text("x")
    kept = Stamps(recipe, 0)
    first = await kept.fingerprint(path)
    monkeypatch.setattr(stamps, "fingerprint", lambda *_: "read again")
    assert await kept.fingerprint(path) == first
    path.write_text("y")
    assert await kept.fingerprint(path) == "read again"


async def test_a_change_that_sets_the_time_back_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("x")
    before = path.stat()
    kept = Stamps(recipe, 0)
    first = await kept.fingerprint(path)
    path.write_text("y")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert kept.changed(path)
    assert await kept.fingerprint(path) != first


async def test_a_fresh_file_waits_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.log"
    path.write_text("x")
    kept = Stamps(recipe, settle_s=3600)
    assert await kept.fingerprint(path) is None
    assert await kept.fingerprint(path) is None
    now = time.monotonic()
    monkeypatch.setattr("runner.rag.stamps.time.monotonic", lambda: now + 100)
    assert await kept.fingerprint(path)


async def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.touch()
    os.truncate(path, 100_000_001)
    with pytest.raises(DocumentError, match="larger than 100 MB"):
        await Stamps(recipe, 0).fingerprint(path)
