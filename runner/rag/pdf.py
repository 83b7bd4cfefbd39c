"""A PDF without a layout model: Docling's lines, pdfplumber's ruled tables, RapidOCR's scans.

Runs in the parser's process only.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import pdfplumber
import pypdfium2
from docling_core.types.doc.document import DoclingDocument
from rapidocr import RapidOCR
from rapidocr.utils.output import RapidOCROutput

from runner.rag.parsed import Page, Parsed, UnreadableError

_ENCRYPTED = 4  # FPDF_ERR_PASSWORD of fpdfview.h
_SCANNED_CHARS = 20  # a page with less text than that is a picture of a page
_OCR_DPI = 200  # the resolution of a scan; a PDF's unit is 1/72 of an inch
_OCR_PIXELS = 3000  # of the longer side, however large a page says it is
_HEADING_HEIGHT = 1.2  # times the page's usual line
_HEADING_CHARS = 100
_PARAGRAPH_GAP = 0.6  # times the line's height


@dataclass(frozen=True)
class _Line:
    """``top`` and ``bottom`` in points from the page's upper edge."""

    text: str
    left: float
    right: float
    top: float
    bottom: float

    @property
    def height(self) -> float:
        return self.bottom - self.top


@dataclass(frozen=True)
class _Table:
    box: tuple[float, float, float, float]
    markdown: str

    def holds(self, line: _Line) -> bool:
        """Whether the line's middle lies inside."""
        left, top, right, bottom = self.box
        across, down = (line.left + line.right) / 2, (line.top + line.bottom) / 2
        return left <= across <= right and top <= down <= bottom


def check(path: Path, beginning: bytes) -> None:
    """Raises:
    UnreadableError: it is no PDF, or one that PDFium does not open.
    """
    if b"%PDF-" not in beginning:
        raise UnreadableError("It is no PDF, whatever its name says; save it as PDF or rename it.")
    try:
        pypdfium2.PdfDocument(path).close()
    except pypdfium2.PdfiumError as error:
        if error.err_code == _ENCRYPTED:
            raise UnreadableError("It is encrypted; save it without a password.") from None
        raise UnreadableError("It is damaged; save it as PDF anew.") from None


def parsed(path: Path, document: DoclingDocument, deadline: float) -> Parsed:
    """Lines become paragraphs and headings, ruled tables markdown, pictures of pages text.

    After ``deadline`` (of `time.monotonic`) no table and no scan is looked for any more, which
    the metadata says.
    """
    lines = _lines(document)
    pages, scanned, late = [], [], []
    with pdfplumber.open(path) as plumber, closing(pypdfium2.PdfDocument(path)) as pdf:
        for number in document.pages:
            found = lines.get(number, [])
            if time.monotonic() > deadline:
                late.append(number)
                text = _text(found, [])
            elif sum(len(line.text) for line in found) >= _SCANNED_CHARS:
                text = _text(found, _tables(plumber.pages[number - 1]))
            elif text := _ocr(pdf[number - 1]):
                scanned.append(number)
            pages.append(Page(number, text))
    metadata: dict[str, Any] = {"ocr_pages": scanned} if scanned else {}
    if late:
        metadata["incomplete"] = (
            f"From page {late[0]} on tables and scans were left out, for they took too long "
            "(rag.parser_timeout_s)."
        )
    return Parsed(pages, metadata)


def _lines(document: DoclingDocument) -> dict[int, list[_Line]]:
    """By page, in the order in which the file draws them."""
    lines: dict[int, list[_Line]] = {}
    for item in document.texts:
        number = item.prov[0].page_no
        size = document.pages[number].size
        box = item.prov[0].bbox.to_top_left_origin(size.height)
        line = _Line(item.text, box.l, box.r, box.t, box.b)
        lines.setdefault(number, []).append(line)
    return lines


def _text(lines: Sequence[_Line], tables: Sequence[_Table]) -> str:
    """Each table stands where its first line would."""
    if not lines:
        return ""
    usual = statistics.median(line.height for line in lines for _ in line.text)
    parts = []
    told: set[int] = set()
    for table, group in groupby(lines, key=lambda line: _table_of(line, tables)):
        if table is None:
            parts.append(_prose(list(group), usual))
        elif id(table) not in told:
            told.add(id(table))
            parts.append(table.markdown)
    return "\n\n".join(parts)


def _table_of(line: _Line, tables: Sequence[_Table]) -> _Table | None:
    return next((table for table in tables if table.holds(line)), None)


def _prose(lines: Sequence[_Line], usual: float) -> str:
    text = ""
    above: _Line | None = None
    for line in lines:
        if _is_heading(line, usual):
            text += f"\n\n## {line.text}"
        elif above is None or _is_heading(above, usual) or _is_apart(above, line):
            text += f"\n\n{line.text}"
        else:
            text += f"\n{line.text}"
        above = line
    return text.strip("\n")


def _is_heading(line: _Line, usual: float) -> bool:
    return line.height >= _HEADING_HEIGHT * usual and len(line.text) <= _HEADING_CHARS


def _is_apart(above: _Line, line: _Line) -> bool:
    """Whether a new paragraph or column begins."""
    gap = line.top - above.bottom
    return gap > _PARAGRAPH_GAP * line.height or gap < -line.height


def _tables(page: Any) -> list[_Table]:
    """The page's ruled tables of at least two rows and columns."""
    try:
        found = [(table.bbox, table.extract()) for table in page.find_tables()]
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  (its text is there all the same)
        return []
    finally:
        page.close()
    return [
        _Table(box, _markdown(rows)) for box, rows in found if len(rows) > 1 and len(rows[0]) > 1
    ]


def _markdown(rows: Sequence[Sequence[str | None]]) -> str:
    head, *body = (_row(row) for row in rows)
    return "\n".join([head, "|" + " - |" * len(rows[0]), *body])


def _row(cells: Sequence[str | None]) -> str:
    texts = (" ".join((cell or "").split()).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(texts)} |"


def _ocr(page: pypdfium2.PdfPage) -> str:
    """The text in the picture of a page; a page with nothing on it is not looked at."""
    if not any(_drawn(page)):
        return ""
    scale = min(_OCR_DPI / 72, _OCR_PIXELS / max(*page.get_size(), 1))
    found = _engine()(page.render(scale=scale).to_numpy())
    assert isinstance(found, RapidOCROutput)
    return "\n".join(found.txts or ())


def _drawn(page: pypdfium2.PdfPage) -> Iterator[bool]:
    yield from (True for _ in page.get_objects(max_depth=1))


@cache
def _engine() -> RapidOCR:
    """Without the classifier of upside-down lines, which costs a third of the time."""
    return RapidOCR(params={"Global.use_cls": False, "Global.log_level": "critical"})
