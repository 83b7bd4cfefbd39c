"""Foreign formats read by Docling in its process: text, tables, pages, properties, scans."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from runner.rag.documents import DocumentError
from runner.rag.parser import Limits, Parser
from tests.integration import samples

LIMITS = Limits(timeout_s=120, memory_mb=2000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parser() -> AsyncIterator[Parser]:
    parser = Parser(LIMITS, models="")
    yield parser
    await parser.aclose()


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_word_document_keeps_headings_tables_and_properties(
    parser: Parser, tmp_path: Path
) -> None:
    path = tmp_path / "a.docx"
    samples.docx(path, "The boiler holds forty litres.")
    parsed = await parser.parse(path)
    [page] = parsed.pages
    assert page.number is None
    assert "# Upkeep\n\nThe boiler holds forty litres.\n" in page.text
    assert "| part | price |\n| - | - |\n| valve \\| brass | 7 EUR |" in page.text
    assert parsed.metadata["title"] == "The boiler"
    assert parsed.metadata["authors"] == ["Ann Author", "Bob Builder"]
    assert parsed.metadata["created"].startswith("20")


async def test_slides_are_pages(parser: Parser, tmp_path: Path) -> None:
    path = tmp_path / "a.pptx"
    samples.pptx(path, "Pumps", "Valves", "Prices")
    parsed = await parser.parse(path)
    assert [page.number for page in parsed.pages] == [1, 2, 3]
    assert parsed.pages[1].text == "# Valves\n\n- About Valves."


async def test_sheets_are_tables_below_their_names(parser: Parser, tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    samples.xlsx(path, Prices=[["part", "EUR"], ["valve", 7]], Stock=[["part", "n"], ["pump", 2]])
    parsed = await parser.parse(path)
    assert [page.text for page in parsed.pages] == [
        "## Prices\n\n| part | EUR |\n| - | - |\n| valve | 7 |",
        "## Stock\n\n| part | n |\n| - | - |\n| pump | 2 |",
    ]


async def test_a_web_page_gives_its_text_and_fetches_nothing(
    parser: Parser, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("a secret")
    path = tmp_path / "a.html"
    path.write_text(
        "<html><head><title>The  valve</title><meta name=author content='Ann Author'>"
        "<meta property='article:published_time' content='2026-01-31T12:00:00Z'></head>"
        f"<body><h1>Valves</h1><p>Made of brass &amp; steel.</p><img src='{tmp_path}/secret.txt'>"
        f"<iframe src='file://{tmp_path}/secret.txt'></iframe><script>alert(1)</script>"
        "<table><tr><th>part</th></tr><tr><td>valve</td></tr></table></body></html>"
    )
    parsed = await parser.parse(path)
    assert parsed.pages[0].text.split("\n\n") == [
        "# Valves",
        "Made of brass & steel.",
        "| part |\n| - |\n| valve |",
    ]
    assert parsed.metadata == {
        "title": "The valve",
        "authors": ["Ann Author"],
        "created": "2026-01-31T12:00:00Z",
    }


async def test_a_pdf_keeps_pages_headings_and_ruled_tables_and_says_how_it_was_read(
    parser: Parser, tmp_path: Path
) -> None:
    path = tmp_path / "a.pdf"
    samples.pdf(path, "The pump is red. " * 20, "The pump is loud.")
    parsed = await parser.parse(path)
    first, second = parsed.pages
    assert (first.number, second.number) == (1, 2)
    assert second.text.split("\n\n") == [
        "## Section 2",
        "The pump is loud.",
        "| part | price |\n| - | - |\n| valve | 2 EUR |",
    ]
    assert " ".join(first.text.split()).count("The pump is red.") == 20
    assert parsed.metadata["title"] == "The pump"
    assert parsed.metadata["authors"] == ["Ann Author"]
    assert parsed.metadata["extraction"] == "text only"
    assert "rag.docling_models" in parsed.metadata["extraction_reason"]


async def test_the_picture_of_a_page_is_read_aloud_too(parser: Parser, tmp_path: Path) -> None:
    path = tmp_path / "scan.pdf"
    samples.scan(path, "The boiler holds forty litres.", "It was built in Leeds.")
    parsed = await parser.parse(path)
    text = parsed.pages[0].text.split("\n")
    assert text == ["The boiler holds forty litres.", "It was built in Leeds."]
    assert parsed.metadata["ocr_pages"] == [1]


async def test_without_its_weights_the_layout_pipeline_steps_aside_and_says_why(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.pdf"
    samples.pdf(path, "The pump is loud.")
    (tmp_path / "models").mkdir()
    parser = Parser(LIMITS, models=str(tmp_path / "models"))
    try:
        parsed = await parser.parse(path)
    finally:
        await parser.aclose()
    assert "The pump is loud." in parsed.pages[0].text
    assert parsed.metadata["extraction"] == "text only"
    assert parsed.metadata["extraction_reason"].startswith(("Docling's layout", "The extra"))


async def test_a_parser_that_was_killed_starts_again(parser: Parser, tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("<p>still there</p>")
    await parser.parse(path)
    assert parser._process
    os.kill(parser._process.pid, signal.SIGKILL)
    await parser._process.wait()
    assert (await parser.parse(path)).pages[0].text == "still there"


@pytest.mark.skipif(sys.platform != "linux", reason="macOS limits no addresses")
async def test_the_parser_is_limited_and_gives_way_to_calls(parser: Parser, tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("<p>text</p>")
    await parser.parse(path)
    assert parser._process
    process = psutil.Process(parser._process.pid)
    soft, hard = process.rlimit(psutil.RLIMIT_AS)
    assert soft == hard < 4 * 2**30
    assert process.nice() >= 10


async def test_a_file_that_is_gone_is_refused(parser: Parser, tmp_path: Path) -> None:
    with pytest.raises(DocumentError):
        await parser.parse(tmp_path / "gone.pdf")
