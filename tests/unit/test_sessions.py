"""What is kept of a turn: rows and lines, in order, with their sources."""

import json

from livekit.agents import ConversationItemAddedEvent, llm

from runner.outbox import Entry
from runner.rag.search import Hit
from runner.record import Attempt, Record
from runner.sessions import Recorder, UserSession, source

PASSAGE = "Much comes before. The tea is kept in the blue cupboard. Much comes after."


def hit(content: str = PASSAGE) -> Hit:
    return Hit("tea.md", 3, "Tea", content, 0.81234)


def test_a_source_is_quoted_from_where_the_answer_was_read() -> None:
    shown = source(hit(), "The tea is kept in the blue cupboard. That is according to tea.")
    assert str(shown["quote"]).startswith("The tea is kept")
    assert (shown["filename"], shown["heading"], shown["similarity"]) == ("tea.md", "Tea", 0.8123)


def test_a_source_is_quoted_from_its_beginning_where_the_answer_is_in_other_words() -> None:
    assert str(source(hit(), "In a cupboard.")["quote"]).startswith("Much comes before.")


def test_a_passage_is_shown_whole_and_of_a_very_long_one_what_is_around_the_quote() -> None:
    assert source(hit(), "The tea is kept in the blue cupboard.")["passage"] == PASSAGE
    long = hit("Before. " * 9000 + PASSAGE + " After." * 9000)
    shown = source(long, "The tea is kept in the blue cupboard.")
    assert str(shown["quote"]) in str(shown["passage"])
    assert len(str(shown["passage"])) == 2000


class Shelf:
    """An outbox that keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, dict[str, object]]] = []

    def put(self, entry: Entry) -> None:
        values = entry.values
        self.rows.append((values["role"], values["content"], values["metadata"]))


def said(role: str, text: str, **metrics: float) -> ConversationItemAddedEvent:
    message = llm.ChatMessage(role=role, content=[text], metrics=metrics)
    if role == "assistant":
        message.extra = {"passages": [hit()], "service": Record(speaker="vllm").metadata()}
    return ConversationItemAddedEvent(item=message)


async def conversation(shelf: Shelf) -> list[dict[str, object]]:
    """A question and its answer; the lines that reached the page."""
    lines: list[dict[str, object]] = []

    async def publish(line: str) -> None:
        lines.append(json.loads(line))

    heard = Record([Attempt("speaches", "whisper", 0.1, None)], speaker="speaches")
    recorder = Recorder(
        UserSession("room", "caller", "vllm"), shelf, lambda: {"stt": heard}, publish
    )
    recorder.on_item(said("user", "Where is the tea?", transcription_delay=0.1))
    recorder.on_item(said("assistant", "In the cupboard.", llm_node_ttft=0.2, e2e_latency=0.7))
    await recorder.aclose()
    return lines


async def test_every_message_is_stored_in_order_with_its_timings_and_who_served() -> None:
    shelf = Shelf()
    await conversation(shelf)
    assert [(role, text) for role, text, _ in shelf.rows] == [
        ("user", "Where is the tea?"),
        ("assistant", "In the cupboard."),
    ]
    metadata = shelf.rows[1][2]
    assert metadata["served_by"] == {"stt": "speaches", "llm": "vllm"}
    assert metadata["services"]["llm"]["failovers"] == []
    assert metadata["stages_s"] == {"stt": 0.1, "llm_ttft": 0.2, "e2e": 0.7}
    assert metadata["response_s"] == 0.7
    assert metadata["sources"][0]["filename"] == "tea.md"


async def test_the_page_is_told_with_the_passages_which_no_row_repeats() -> None:
    shelf = Shelf()
    lines = await conversation(shelf)
    assert [line["role"] for line in lines] == ["user", "assistant"]
    shown, stored = lines[1]["sources"], shelf.rows[1][2]["sources"]
    assert shown == [{**stored[0], "passage": PASSAGE}]
    assert set(stored[0]) == {"filename", "heading", "page", "quote", "similarity"}


async def test_a_page_that_is_gone_costs_no_message() -> None:
    shelf = Shelf()

    async def publish(_: str) -> None:
        raise OSError("the room is closed")

    recorder = Recorder(UserSession("room", "caller", "vllm"), shelf, dict, publish)
    recorder.on_item(said("user", "one"))
    recorder.on_item(said("user", "two"))
    await recorder.aclose()
    assert [text for _, text, _ in shelf.rows] == ["one", "two"]
