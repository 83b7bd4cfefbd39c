"""What a file says of itself: title, authors, dates. Runs in the parser's process only."""

import re
import zipfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import lxml.html
import pypdfium2
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

_CHARS = 300  # it is stored with every chunk
_AUTHORS = 20
_CORE_XML_BYTES = 100_000
_HTML_BYTES = 1_000_000  # the head is at the beginning
_PDF_DATE = re.compile(
    r"(?:D:)?(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:(Z)|([+-]\d\d)'?(\d\d)?)?"
)
_ISO_DATE = re.compile(r"\d{4}(-\d\d(-\d\d(T[\d:.]+(Z|[+-]\d\d:?\d\d)?)?)?)?")
_NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "dcterms": "http://purl.org/dc/terms/",
}

Properties = dict[str, str | list[str]]


def of(path: Path, suffix: str) -> Properties:
    """``title``, ``authors``, ``created`` and ``modified`` (ISO 8601), as far as they are there."""
    match suffix:
        case ".pdf":
            return _of_pdf(path)
        case ".html":
            return _of_html(path)
        case _:
            return _of_office(path)


def _of_pdf(path: Path) -> Properties:
    with closing(pypdfium2.PdfDocument(path)) as document:
        found = document.get_metadata_dict(skip_empty=True)
    return _properties(
        [found.get("Title", "")],
        re.split(r";", found.get("Author", "")),
        _iso(found.get("CreationDate", "")),
        _iso(found.get("ModDate", "")),
    )


def _of_office(path: Path) -> Properties:
    try:
        with zipfile.ZipFile(path) as archive, archive.open("docProps/core.xml") as file:
            core: Element = fromstring(file.read(_CORE_XML_BYTES))
    except (KeyError, ParseError, DefusedXmlException, zipfile.BadZipFile, ValueError):
        return {}

    def text(name: str) -> str:
        return core.findtext(name, "", _NAMESPACES) or ""

    return _properties(
        [text("dc:title")],
        text("dc:creator").split(";"),
        text("dcterms:created"),
        text("dcterms:modified"),
    )


def _of_html(path: Path) -> Properties:
    with path.open("rb") as file:
        beginning = file.read(_HTML_BYTES)
    try:
        page = lxml.html.document_fromstring(beginning)
    except (lxml.etree.LxmlError, ValueError):
        return {}

    def meta(*names: str) -> list[str]:
        tags = page.iterfind(".//meta")
        return [
            tag.get("content") or ""
            for tag in tags
            if (tag.get("name") or tag.get("property") or "").lower() in names
        ]

    return _properties(
        [page.findtext(".//title") or ""],
        meta("author", "article:author"),
        *(meta("article:published_time", "date") or [""])[:1],
        *(meta("article:modified_time") or [""])[:1],
    )


def _properties(
    titles: Iterable[str], authors: Iterable[str], created: str, modified: str
) -> Properties:
    found: Properties = {
        "title": next(iter(_clean(titles)), ""),
        "authors": _clean(authors)[:_AUTHORS],
        "created": created if _ISO_DATE.fullmatch(created) else "",
        "modified": modified if _ISO_DATE.fullmatch(modified) else "",
    }
    return {key: value for key, value in found.items() if value}


def _clean(texts: Iterable[str]) -> list[str]:
    shown = (" ".join("".join(c if c.isprintable() else " " for c in t).split()) for t in texts)
    return [text[:_CHARS] for text in shown if text]


def _iso(date: str) -> str:
    """``D:20240131120000+01'00'`` as ``2024-01-31T12:00:00+01:00``; what is no date as nothing."""
    found = _PDF_DATE.match(date)
    if not found:
        return ""
    year, month, day, hour, minute, second, utc, zone, zone_minutes = found.groups()
    if not (month and day):
        return year
    offset = "Z" if utc else f"{zone}:{zone_minutes or '00'}" if zone else ""
    time = f"T{hour}:{minute or '00'}:{second or '00'}{offset}" if hour else ""
    return f"{year}-{month}-{day}{time}"
