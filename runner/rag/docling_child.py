"""The process that reads foreign formats: the only one that imports Docling.

``python -m runner.rag.docling_child '{"memory_mb": 2000, "models": ""}'`` answers each line of its
input, ``{"path": …, "seconds": …}``, with a line of JSON: a `runner.rag.parsed.Parsed`, or
``{"error": …}``. It ends with its input. It cannot be trusted once it has read a hostile file,
so `runner.rag.parser` limits its time and ends it now and then.
"""

import json
import os
import resource
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

os.environ["HF_HUB_OFFLINE"] = "1"  # before Docling's libraries read it: nothing is fetched
if len(sys.argv) < 2 or not json.loads(sys.argv[1])["models"]:
    sys.modules["torch"] = None  # type: ignore[assignment]  # 3 GB of addresses for nothing

from docling.backend.abstract_backend import AbstractDocumentBackend
from docling.backend.docling_parse_backend import DoclingParseDocumentBackend
from docling.backend.html_backend import HTMLDocumentBackend
from docling.backend.msexcel_backend import MsExcelDocumentBackend
from docling.backend.mspowerpoint_backend import MsPowerpointDocumentBackend
from docling.backend.msword_backend import MsWordDocumentBackend
from docling.datamodel.base_models import InputFormat
from docling.datamodel.document import ConversionResult, InputDocument
from docling.datamodel.pipeline_options import (
    ConvertPipelineOptions,
    NativePdfPipelineOptions,
    RapidOcrOptions,
    ThreadedPdfPipelineOptions,
)
from docling.pipeline.base_pipeline import ConvertPipeline
from docling.pipeline.native_pdf_pipeline import NativePdfPipeline
from docling.pipeline.simple_pipeline import SimplePipeline
from docling_core.types.doc.document import DoclingDocument
from docling_core.types.doc.labels import GroupLabel

from runner.rag import pdf, properties
from runner.rag.parsed import Page, Parsed, UnreadableError

_BACKENDS: dict[str, type[AbstractDocumentBackend]] = {
    ".docx": MsWordDocumentBackend,
    ".html": HTMLDocumentBackend,
    ".pdf": DoclingParseDocumentBackend,
    ".pptx": MsPowerpointDocumentBackend,
    ".xlsx": MsExcelDocumentBackend,
}
_MAX_CHARS = 5_000_000  # as of a text file
_MAX_XML_BYTES = 128 * 2**20  # of an office file, unpacked; Docling's own limit for each part
_OLD_OFFICE = b"\xd0\xcf\x11\xe0"  # also the wrapping of encrypted files
_NICE = 10  # calls come first
_SOFT_SHARE = 0.8  # of the time: then tables and OCR end, and what is there is handed over
_DAMAGED = "It is damaged or of another format than its name says; save it anew."


def main() -> None:
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    os.nice(_NICE)
    settings = json.loads(sys.argv[1])
    reader = Reader(settings["models"])
    _limit_memory(settings["memory_mb"])
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = reader.answer(Path(request["path"]), request["seconds"])
        print(json.dumps(answer), file=answers, flush=True)
        if "memory" in answer:
            return  # what its libraries hold after that is anybody's guess


def _limit_memory(megabytes: int) -> None:
    """Refuse memory beyond what is mapped already and so much more."""
    limit = psutil.Process().memory_info().vms + megabytes * 2**20
    with suppress(ValueError, OSError):  # macOS has no such limit; the time-out holds there
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class Reader:
    """Docling's pipelines, made once."""

    def __init__(self, models: str) -> None:
        self._simple = SimplePipeline(ConvertPipelineOptions())
        self._native = NativePdfPipeline(NativePdfPipelineOptions(parser_threads=1))
        self._layout, self._why_text_only = _layout(models)

    def answer(self, path: Path, seconds: float) -> dict[str, Any]:
        """The document as JSON; ``{"error"}`` says why not, ``{"memory"}`` that it had too little.

        Whatever a hostile file makes a library raise ends here.
        """
        try:
            parsed = self._parsed(path, time.monotonic() + _SOFT_SHARE * seconds)
        except UnreadableError as error:
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001
            if any(isinstance(cause, MemoryError) for cause in _causes(error)):
                return {"memory": True}
            return {"error": _DAMAGED}
        return asdict(parsed)

    def _parsed(self, path: Path, deadline: float) -> Parsed:
        suffix = path.suffix.lower()
        _check(path, suffix)
        found = properties.of(path, suffix)
        if suffix == ".pdf" and self._layout is None:
            document = _convert(self._native, path)
            parsed = pdf.parsed(path, document.document, deadline)
            parsed.metadata["extraction"] = "text only"
            parsed.metadata["extraction_reason"] = self._why_text_only
        elif suffix == ".pdf":
            assert self._layout is not None
            document = _convert(self._layout, path)
            parsed = Parsed(list(_pages(document.document)), {"extraction": "layout"})
        else:
            document = _convert(self._simple, path)
            parsed = Parsed(list(_pages(document.document)), {})
        if document.errors:
            parsed.metadata["incomplete"] = "Parts of the file are damaged and left out."
        _check_text(parsed)
        return Parsed(parsed.pages, found | parsed.metadata)


def _layout(models: str) -> tuple[ConvertPipeline | None, str]:
    """Docling's layout pipeline with the weights in the folder ``models``, or why not."""
    if not models:
        return None, "Docling's layout models are not set up (rag.docling_models)."
    if find_spec("torchvision") is None:
        return None, "The extra `models` is not installed, which Docling's layout models need."
    try:
        from docling.pipeline.standard_pdf_pipeline import StandardPdfPipeline

        options = ThreadedPdfPipelineOptions(artifacts_path=models, ocr_options=RapidOcrOptions())
        return StandardPdfPipeline(options), ""
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return None, f"Docling's layout models in {models} cannot be loaded: {_line(error)}"


def _convert(pipeline: ConvertPipeline, path: Path) -> ConversionResult:
    suffix = path.suffix.lower()
    source = InputDocument(path, InputFormat(suffix[1:]), _BACKENDS[suffix])
    if not source.valid:
        raise UnreadableError(_DAMAGED)
    return pipeline.execute(source, raises_on_error=True)


def _pages(document: DoclingDocument) -> Iterator[Page]:
    """The text as markdown, slide by slide or sheet by sheet; other formats have no pages."""
    sheets = [group.name for group in document.groups if group.label is GroupLabel.SHEET]
    for at, number in enumerate([*document.pages] or [None]):
        text = document.export_to_markdown(
            page_no=number,
            compact_tables=True,
            escape_html=False,
            escape_underscores=False,
            image_placeholder="",
        ).replace("&#124;", "\\|")
        heading = f"## {sheets[at]}\n\n" if at < len(sheets) else ""
        yield Page(None if sheets else number, heading + text)


def _check(path: Path, suffix: str) -> None:
    """Refuse, with a mend, what Docling would refuse without."""
    with path.open("rb") as file:
        beginning = file.read(1024)
    if not beginning:
        raise UnreadableError("It is empty; save it again or remove it.")
    if suffix == ".pdf":
        pdf.check(path, beginning)
    elif suffix != ".html":
        if beginning.startswith(_OLD_OFFICE):
            raise UnreadableError(
                f"It is encrypted or of an old Office; save it as {suffix} without a password."
            )
        _check_archive(path)


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = [part.file_size for part in archive.infolist() if part.filename.endswith("xml")]
    except zipfile.BadZipFile:
        raise UnreadableError(_DAMAGED) from None
    if sum(sizes) > _MAX_XML_BYTES:
        megabytes = f"{_MAX_XML_BYTES // 2**20} MB"
        raise UnreadableError(f"It unpacks to more than {megabytes} of text; split it.")


def _check_text(parsed: Parsed) -> None:
    chars = sum(len(page.text) for page in parsed.pages)
    if chars > _MAX_CHARS:
        raise UnreadableError(f"It holds more than {_MAX_CHARS} characters of text; split it.")
    if not any(page.text.strip() for page in parsed.pages):
        raise UnreadableError("No text was found in it; write some into it or remove it.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


if __name__ == "__main__":
    main()
