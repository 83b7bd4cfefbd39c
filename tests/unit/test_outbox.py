"""The outbox: once, in order, whatever happens."""

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import outbox
from runner.errors import DatabaseAwayError, DatabaseError
from runner.outbox import Entry, Journal, Outbox, deliver_left
from runner.store import Opening

SESSION = str(uuid.uuid4())
OPENING = {"room_id": "r", "participant_id": "p", "llm_provider": "vllm", "context": {}}


class Shelf:
    """A store that keeps what it is given, each message once; ``away``: it does not answer."""

    def __init__(self) -> None:
        self.away = False
        self.refuses = False
        self.opened: list[uuid.UUID] = []
        self.ended: list[uuid.UUID] = []
        self.messages: dict[uuid.UUID, str] = {}
        self.asked = 0

    async def open_session(self, session_id: uuid.UUID, _: Opening) -> None:
        self._answer()
        self.opened.append(session_id)

    async def add_message(
        self, _: uuid.UUID, message_id: uuid.UUID, *, content: str, **__: object
    ) -> None:
        self._answer()
        if self.refuses and content == "refused":
            raise DatabaseError("no such session")
        self.messages.setdefault(message_id, content)

    async def end_session(self, session_id: uuid.UUID, job_id: str | None = None) -> None:
        self._answer()
        self.ended.append(session_id)

    def _answer(self) -> None:
        self.asked += 1
        if self.away:
            raise DatabaseAwayError("the database is away")

    @property
    def said(self) -> list[str]:
        return list(self.messages.values())


def message(text: str) -> Entry:
    return Entry("message", SESSION, {"role": "user", "content": text, "metadata": {}})


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  threads and tasks make it so
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(outbox, "_LONGEST_PAUSE_S", 0.001)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox" / "call.jsonl"


async def test_a_call_is_stored_in_order_and_leaves_no_file(path: Path) -> None:
    shelf = Shelf()
    box = Outbox(shelf, path)
    box.put(Entry("open", SESSION, OPENING))
    for number in range(100):
        box.put(message(f"{number}"))
    box.put(Entry("end", SESSION))
    await box.aclose()
    assert shelf.said == [f"{number}" for number in range(100)]
    assert shelf.opened == shelf.ended == [uuid.UUID(SESSION)]
    assert not path.exists()


async def test_the_file_is_emptied_as_soon_as_the_database_has_it(path: Path) -> None:
    shelf = Shelf()
    box = Outbox(shelf, path)
    box.put(message("one"))
    await until(lambda: shelf.said == ["one"] and path.stat().st_size == 0)
    await box.aclose()


async def test_what_is_said_while_the_database_is_away_is_stored_when_it_is_back(
    path: Path,
) -> None:
    shelf = Shelf()
    shelf.away = True
    box = Outbox(shelf, path)
    for number in range(10):
        box.put(message(f"{number}"))
    await until(lambda: shelf.asked > 3)
    assert path.read_bytes().count(b"\n") == 10
    shelf.away = False
    await until(lambda: len(shelf.said) == 10)
    await box.aclose()
    assert shelf.said == [f"{number}" for number in range(10)]


async def test_more_than_fits_into_memory_is_read_back_from_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_HELD_ENTRIES", 3)
    shelf = Shelf()
    shelf.away = True
    box = Outbox(shelf, path)
    for number in range(20):
        box.put(message(f"{number}"))
        await asyncio.sleep(0)
    await until(lambda: path.exists() and path.read_bytes().count(b"\n") == 20)
    assert len(box._held) <= 20
    shelf.away = False
    await until(lambda: len(shelf.said) == 20)
    await box.aclose()
    assert shelf.said == [f"{number}" for number in range(20)]
    assert not path.exists()


async def test_what_a_call_leaves_is_stored_by_the_worker_once(path: Path) -> None:
    """As after a kill -9: nobody closed the file, and the database has some of it already."""
    shelf, entries = Shelf(), [message("one"), message("two")]
    journal = Journal(path)
    journal.append(entries)
    journal._file.write(b'{"kind": "mess')  # the last line was being written
    journal._file.close()
    await outbox.deliver(shelf, entries[0])
    assert await deliver_left(shelf, path.parent) == 2
    assert shelf.said == ["one", "two"]
    assert not path.exists()
    assert await deliver_left(shelf, path.parent) == 0


async def test_a_call_that_lives_is_left_alone(path: Path) -> None:
    shelf = Shelf()
    shelf.away = True
    box = Outbox(shelf, path)
    box.put(message("one"))
    await until(lambda: shelf.asked > 0)
    assert await deliver_left(Shelf(), path.parent) == 0
    shelf.away = False
    await box.aclose()


async def test_what_cannot_be_stored_when_a_call_ends_stays_in_its_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_FLUSH_TIMEOUT_S", 0.02)
    shelf = Shelf()
    shelf.away = True
    box = Outbox(shelf, path)
    box.put(message("one"))
    await box.aclose()
    with pytest.raises(DatabaseAwayError):
        await deliver_left(shelf, path.parent)
    shelf.away = False
    assert await deliver_left(shelf, path.parent) == 1
    assert shelf.said == ["one"]


async def test_what_the_database_refuses_holds_up_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf()
    shelf.refuses = True
    box = Outbox(shelf, path)
    for text in ("one", "refused", "two"):
        box.put(message(text))
    await box.aclose()
    assert shelf.said == ["one", "two"]
    assert "is not stored" in caplog.text


async def test_a_full_disk_costs_nothing_while_the_database_is_there(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "append", full)
    shelf = Shelf()
    box = Outbox(shelf, path)
    box.put(message("one"))
    await box.aclose()
    assert shelf.said == ["one"]
    assert "No space left" in caplog.text


async def test_what_has_no_place_any_more_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "_QUEUED_ENTRIES", 1)
    box = Outbox(Shelf(), path)
    box.put(message("one"))
    box.put(message("two"))
    assert "is lost" in caplog.text
    await box.aclose()


def test_the_file_is_the_owner_s_alone(path: Path) -> None:
    Journal(path).close(keep=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
