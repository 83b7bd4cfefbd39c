"""Files that were made to hurt, each with its limits: it is refused, and the next one is read."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from runner.rag.documents import DocumentError
from runner.rag.parser import Limits, Parser
from tests.integration import samples

TIMEOUT_S = 20.0
MEMORY_MB = 700
PATIENCE_S = 120.0  # a test that waits longer has failed
PROGRAM_MB = 700  # what the parser takes by itself
_MB = 2**20

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parser() -> AsyncIterator[Parser]:
    parser = Parser(Limits(TIMEOUT_S, MEMORY_MB), models="")
    yield parser
    await parser.aclose()


async def refusal(parser: Parser, path: Path) -> str:
    """Why ``path`` is refused; its memory is watched, and then a good file is read."""
    watching = asyncio.create_task(most_memory(parser))
    with pytest.raises(DocumentError) as refused:
        await asyncio.wait_for(parser.parse(path), PATIENCE_S)
    watching.cancel()
    await asyncio.wait([watching])
    await read_another(parser, path)
    return str(refused.value)


async def most_memory(parser: Parser) -> None:
    """Fails as soon as the parser takes more than it may."""
    while True:
        if parser._process and psutil.pid_exists(parser._process.pid):
            taken = psutil.Process(parser._process.pid).memory_info().rss
            assert taken <= (MEMORY_MB + PROGRAM_MB) * _MB
        await asyncio.sleep(0.05)


async def read_another(parser: Parser, path: Path) -> None:
    good = path.with_name("good.html")
    good.write_text("<p>unharmed</p>")
    assert (await parser.parse(good)).pages[0].text == "unharmed"


@pytest.mark.parametrize("suffix", [".pdf", ".docx", ".pptx", ".xlsx"])
async def test_garbage_is_refused(parser: Parser, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(bytes(range(256)) * 40)
    assert "save it" in await refusal(parser, path)


@pytest.mark.parametrize("suffix", [".pdf", ".docx", ".pptx", ".xlsx", ".html"])
async def test_an_empty_file_is_called_empty(parser: Parser, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.touch()
    assert await refusal(parser, path) == "It is empty; save it again or remove it."


async def test_an_encrypted_pdf_is_called_so(parser: Parser, tmp_path: Path) -> None:
    samples.pdf(tmp_path / "a.pdf", "secret", password="sesame")
    reason = await refusal(parser, tmp_path / "a.pdf")
    assert reason == "It is encrypted; save it without a password."


async def test_an_encrypted_office_file_is_called_so(parser: Parser, tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 4000)
    assert (await refusal(parser, path)).startswith("It is encrypted or of an old Office")


async def test_a_web_page_named_pdf_is_no_pdf(parser: Parser, tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_text("<html><body>text</body></html>")
    assert (await refusal(parser, path)).startswith("It is no PDF")


async def test_of_a_truncated_pdf_what_is_left_is_kept_or_it_is_called_damaged(
    parser: Parser, tmp_path: Path
) -> None:
    path = tmp_path / "a.pdf"
    samples.pdf(path, *["The pump is loud. " * 40] * 5)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    try:
        parsed = await parser.parse(path)
    except DocumentError as error:
        assert "damaged" in str(error)  # noqa: PT017
    else:
        assert "The pump is loud." in parsed.pages[0].text
    await read_another(parser, path)


@pytest.mark.parametrize(
    ("name", "inside", "megabytes"),
    [
        ("bomb.docx", "word/document.xml", 200),
        ("bomb.xlsx", "xl/worksheets/sheet1.xml", 200),
        ("bomb.pptx", "ppt/slides/slide1.xml", 600),
    ],
)
async def test_what_unpacks_to_hundreds_of_megabytes_is_refused(
    parser: Parser, tmp_path: Path, name: str, inside: str, megabytes: int
) -> None:
    samples.zip_bomb(tmp_path / name, inside, megabytes)
    assert (await refusal(parser, tmp_path / name)).startswith("It unpacks to more than 128 MB")


async def test_one_cell_at_the_far_end_of_a_sheet_takes_no_more_than_the_limits(
    parser: Parser, tmp_path: Path
) -> None:
    samples.one_far_cell(tmp_path / "a.xlsx")
    reason = await refusal(parser, tmp_path / "a.xlsx")
    assert "rag.parser_memory_mb" in reason or "rag.parser_timeout_s" in reason


async def test_a_web_page_of_endless_depth_takes_no_more_than_the_limits(tmp_path: Path) -> None:
    samples.deep_html(tmp_path / "a.html", 5_000)
    parser = Parser(Limits(2, MEMORY_MB), models="")
    try:
        reason = await refusal(parser, tmp_path / "a.html")
    finally:
        await parser.aclose()
    assert "longer than 2 s (rag.parser_timeout_s)" in reason


async def test_entities_neither_unfold_nor_read_files(parser: Parser, tmp_path: Path) -> None:
    samples.xml_bomb(tmp_path / "a.docx")
    try:
        parsed = await parser.parse(tmp_path / "a.docx")
    except DocumentError:
        pass
    else:
        assert "root:" not in parsed.pages[0].text
        assert parsed.metadata == {}
    await read_another(parser, tmp_path / "a.docx")
