"""What the tasks print, and which index fits how many rows."""

import io
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from runner import eval as evaluation
from runner.errors import ModelError, RunnerError
from runner.eval import Outcome, Question, figures, questions
from runner.folders import RESOURCES
from runner.rag import document_embedding
from runner.rag.document_embedding import LocalEmbedder
from runner.rag.embedding import unfit
from runner.rag.search import Hit
from runner.rag.vector_index import VectorIndex, _fits, _wanted
from runner.search import place, table

HIT = Hit("a.md", 0, None, "text", 0.5)


def hit(name: str, **changes: object) -> Hit:
    return replace(HIT, filename=name, **changes)  # type: ignore[arg-type]


def shown(printable: object) -> str:
    out = io.StringIO()
    Console(file=out, width=160, force_terminal=False).print(printable)
    return out.getvalue()


# What is printed.


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (hit("a.pdf", page=3, heading="## Prices"), "page 3, Prices"),
        (hit("a.pdf", page=3), "page 3"),
        (hit("a.md", heading="# Prices"), "Prices"),
        (hit("a.txt", chunk_index=4), "chunk 4"),
    ],
)
def test_a_place_is_a_page_a_heading_or_a_number(found: Hit, expected: str) -> None:
    assert place(found) == expected


def test_the_table_shows_scores_and_lets_no_document_paint_the_terminal() -> None:
    text = shown(
        table([hit("[red]a\x1b[2J.md", content="[bold]x\x1b]0;owned\x07\u202ey", score=0.0312)])
    )
    assert "0.031" in text
    assert "0.500" in text
    assert "[red]a" in text
    assert "[bold]x" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


# Which index.


def test_the_exact_scan_serves_below_ten_thousand_chunks() -> None:
    assert _wanted("auto", 9_999, None) is None
    assert _wanted("auto", 10_000, None) == VectorIndex("hnsw")
    assert _wanted("auto", 9_999, VectorIndex("hnsw")) == VectorIndex("hnsw")
    assert _wanted("auto", 4_999, VectorIndex("hnsw")) is None
    assert _wanted("exact", 1_000_000, VectorIndex("hnsw")) is None
    assert _wanted("hnsw", 0, None) == VectorIndex("hnsw")


@pytest.mark.parametrize("chunks", [1_000, 50_000, 1_000_000])
def test_ivfflat_has_the_root_of_the_rows_as_lists(chunks: int) -> None:
    wanted = _wanted("ivfflat", chunks, None)
    assert wanted is not None
    assert wanted.lists == pytest.approx(math.sqrt(chunks), abs=1)


def test_ivfflat_waits_for_some_rows() -> None:
    assert _wanted("ivfflat", 0, None) is None
    assert _wanted("ivfflat", 50, None) is None


def test_an_index_stays_until_the_rows_have_quadrupled() -> None:
    assert _fits(VectorIndex("ivfflat", 20), VectorIndex("ivfflat", 39))
    assert not _fits(VectorIndex("ivfflat", 20), VectorIndex("ivfflat", 40))
    assert not _fits(VectorIndex("ivfflat", 40), VectorIndex("ivfflat", 20))
    assert not _fits(VectorIndex("ivfflat", 20), VectorIndex("hnsw"))
    assert not _fits(VectorIndex("hnsw"), None)
    assert _fits(None, None)


# Embeddings.


def test_a_vector_that_the_database_cannot_hold_is_refused_with_the_mend() -> None:
    assert "gives 768 numbers a text" in unfit([0.1] * 768, "large")
    assert "rag.embedding_model" in unfit([0.1] * 768, "large")
    assert "zeros" in unfit([0.0] * 384, "small")
    assert unfit([0.1] * 384, "small") == ""


async def test_a_model_of_another_dimension_is_refused_before_anything_is_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LocalEmbedder, "_embed", lambda _, texts: [[0.1] * 768 for _ in texts])
    with pytest.raises(ModelError, match=r"768 numbers.*rag\.embedding_model"):
        await LocalEmbedder("large").embed(["text"])


async def test_without_the_extra_models_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(ModelError, match=r"rag\.embedder=local.*\[models\]"):
        await LocalEmbedder("all-MiniLM-L6-v2").embed(["text"])


def test_a_folder_wins_over_the_packaged_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "all-MiniLM-L6-v2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert document_embedding._folder("all-MiniLM-L6-v2") == "all-MiniLM-L6-v2"
    assert document_embedding._folder("another/model") == "another/model"


# The evaluation.


def outcome(rank: int, answer: str | None, *, known: bool = True) -> Outcome:
    asked = Question("How long?", "a.md", ["20 minutes"]) if known else Question("Why?")
    return Outcome(asked, rank, rank > 0, answer, seconds=0.002)


def test_the_figures_are_those_of_the_outcomes() -> None:
    text = shown(
        figures(
            [
                outcome(1, "It takes **20  Minutes**."),
                outcome(2, "It takes an hour."),
                outcome(0, None),
                outcome(4, "20 minutes"),
                outcome(0, None, known=False),
                outcome(1, "Because.", known=False),
            ]
        )
    )
    rows = {
        line.split("│")[1].strip(): line.split("│")[2:4]
        for line in text.splitlines()
        if "│" in line
    }
    assert [cell.strip() for cell in rows["hit@1"]] == ["0.250", "1 of 4"]
    assert [cell.strip() for cell in rows["hit@5"]] == ["0.750", "3 of 4"]
    assert rows["MRR"][0].strip() == f"{(1 + 1 / 2 + 1 / 4) / 4:.3f}"
    assert [cell.strip() for cell in rows["retrieval says the fact"]] == ["0.500", "2 of 4"]
    assert [cell.strip() for cell in rows["retrieval declines"]] == ["0.500", "1 of 2"]
    assert rows["search, ms"][0].strip() == "2.0"


@pytest.mark.parametrize("text", ["", "question: no list", "- question: [", "- file: a.md", "- 7"])
def test_questions_that_are_none_are_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "questions.yaml"
    path.write_text(text)
    if text:
        with pytest.raises(RunnerError, match=r"task\.questions"):
            questions(path)
    with pytest.raises(RunnerError, match=r"task\.questions"):
        questions(tmp_path / "nowhere.yaml")


def test_the_evaluation_asks_100_questions_of_40_documents_in_every_format() -> None:
    asked = questions(RESOURCES / "eval" / "questions.yaml")
    corpus = RESOURCES / "eval" / "corpus"
    files = [path for path in corpus.rglob("*") if path.is_file()]
    formats = {
        ".txt",
        ".md",
        ".py",
        ".json",
        ".csv",
        ".log",
        ".pdf",
        ".docx",
        ".pptx",
        ".html",
        ".xlsx",
    }
    assert len(asked) == len({one.question for one in asked}) == 100
    assert sum(not one.file for one in asked) == 20
    assert all((corpus / one.file).is_file() and one.fact for one in asked if one.file)
    assert len(files) >= 40
    assert {path.suffix for path in files} == formats
    assert max(path.stat().st_size for path in files) < 1_000_000


def test_the_facts_of_plain_files_stand_in_them() -> None:
    corpus = RESOURCES / "eval" / "corpus"
    for one in questions(RESOURCES / "eval" / "questions.yaml"):
        if Path(one.file).suffix in {".md", ".py", ".json", ".csv", ".log"}:
            assert one.answered_by((corpus / one.file).read_text()), one


def test_what_comes_with_the_program_is_found_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert evaluation.shipped("eval/corpus") == RESOURCES / "eval" / "corpus"
    (tmp_path / "eval" / "corpus").mkdir(parents=True)
    assert evaluation.shipped("eval/corpus") == tmp_path / "eval" / "corpus"
