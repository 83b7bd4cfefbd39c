"""The files of the documents folder: which there are, and their text.

Files are foreign: they are bounded in size, must be text, and must lie inside the folder.
"""

import codecs
import os
import re
from collections.abc import Iterator
from pathlib import Path

from runner.errors import RunnerError

SUFFIXES = (".md", ".txt")

_MAX_BYTES = 5_000_000  # the King James Bible has 4.3 million
_NAME_CHARS = 500  # rag_documents.filename
_CONTROL_SHARE = 0.01  # more control characters than that, and it is no text
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose BOM is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class DocumentError(RunnerError):
    """A file cannot be indexed. Its message says why and how to mend it, without the name."""


def documents(root: Path) -> Iterator[Path]:
    """The text and markdown files below ``root``, sorted folder by folder.

    Hidden files and folders are left out, and so is every link that leads out of ``root``.
    """
    inside = root.resolve()
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES:
                continue
            if path.is_file() and path.resolve().is_relative_to(inside):
                yield path


def document_name(path: Path, root: Path) -> str:
    """What a document is called: its path below ``root``, with ``/`` on every system.

    Raises:
        DocumentError: the name cannot be stored or shown.
    """
    name = path.relative_to(root).as_posix()
    if not name.isprintable():
        raise DocumentError("Its name is not UTF-8 or holds control characters; rename it.")
    if len(name) > _NAME_CHARS:
        raise DocumentError(f"Its name is longer than {_NAME_CHARS} characters; shorten it.")
    return name


def read(path: Path) -> str:
    """The text of a file: UTF-8, UTF-16 or UTF-32 by its BOM, else Windows' Western code page.

    A BOM disappears, and so do carriage returns.

    Raises:
        DocumentError: it cannot be read, is too large, is no text, or is empty.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or error
        raise DocumentError(f"It cannot be read ({reason}); mend its permissions.") from None
    if len(data) > _MAX_BYTES:
        limit = f"{_MAX_BYTES // 1_000_000} MB"
        raise DocumentError(f"It is larger than {limit}; split it into smaller files.")
    text = _decode(data).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise DocumentError("It is empty; write something into it or remove it.")
    return text


def _decode(data: bytes) -> str:
    marked = [encoding for bom, encoding in _BOMS if data.startswith(bom)]
    for encoding in marked[:1] or ["utf-8", "cp1252"]:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if _is_text(text):
            return text
    raise DocumentError("It is not a text file; save it as UTF-8 text.")


def _is_text(text: str) -> bool:
    """Postgres refuses NUL; a few stray control characters occur in honest logs."""
    return "\0" not in text and len(_CONTROLS.findall(text)) <= _CONTROL_SHARE * len(text)
