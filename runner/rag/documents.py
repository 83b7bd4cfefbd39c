"""The files of the documents folder: which there are, what they are called, the text of some.

Files are foreign: they are bounded in size and must lie inside the folder. Formats that need a
parser are read by `runner.rag.parser`, in a process of their own.
"""

import codecs
import os
import re
from collections.abc import Iterator, Sequence
from hashlib import file_digest, sha256
from pathlib import Path

import charset_normalizer
from pathspec import GitIgnoreSpec

from runner.errors import RunnerError

TEXT = frozenset({".csv", ".json", ".log", ".md", ".py", ".txt"})
"""Suffixes of files that are text as they are."""
PARSED = frozenset({".docx", ".html", ".pdf", ".pptx", ".xlsx"})
"""Suffixes of files whose text Docling finds."""

_MAX_TEXT_BYTES = 5_000_000  # the King James Bible has 4.3 million
_MAX_PARSED_BYTES = 100_000_000
_NAME_CHARS = 500  # rag_documents.filename
_LEFT_OUT = (".*", "~$*")  # hidden files, and those by which Office says that it edits another
_FOREIGN_SHARE = 0.25  # more bytes beyond ASCII than that, and it is no Western language
_ASCII = bytes(range(0x80))
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


def documents(root: Path, exclude: Sequence[str] = ()) -> Iterator[Path]:
    """The files below ``root`` that are documents by their suffix, sorted folder by folder.

    Left out are hidden and temporary files and folders, what ``exclude`` names (patterns as in a
    ``.gitignore``), and every link that leads out of ``root``.
    """
    inside = root.resolve()
    left_out = GitIgnoreSpec.from_lines([*_LEFT_OUT, *exclude])
    for folder, folders, names in os.walk(root):
        below = Path(folder).relative_to(root)
        folders[:] = sorted(name for name in folders if not left_out.match_file(f"{below / name}/"))
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix.lower() not in TEXT | PARSED or left_out.match_file(below / name):
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


def largest(suffix: str) -> int:
    """How many bytes a file of that format may have."""
    return _MAX_PARSED_BYTES if suffix in PARSED else _MAX_TEXT_BYTES


def fingerprint(path: Path, recipe: str) -> str:
    """The sha256 of a file's content, its format, and ``recipe``: how it is made into chunks.

    Raises:
        DocumentError: it cannot be read, or is too large.
    """
    suffix = path.suffix.lower()
    limit = largest(suffix)
    try:
        if path.stat().st_size > limit:
            megabytes = f"{limit // 1_000_000} MB"
            raise DocumentError(f"It is larger than {megabytes}; split it into smaller files.")
        with path.open("rb") as file:
            content = file_digest(file, sha256)
    except OSError as error:
        raise _unreadable(error) from None
    return sha256(f"{recipe}\n{suffix}\n{content.hexdigest()}".encode()).hexdigest()


def read(path: Path) -> str:
    """The text of a file in Unicode, or in an older encoding, which is guessed.

    A BOM disappears, and so do carriage returns.

    Raises:
        DocumentError: it cannot be read, is too large, is no text, or is empty.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise _unreadable(error) from None
    if len(data) > _MAX_TEXT_BYTES:
        limit = f"{_MAX_TEXT_BYTES // 1_000_000} MB"
        raise DocumentError(f"It is larger than {limit}; split it into smaller files.")
    text = _decode(data).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise DocumentError("It is empty; write something into it or remove it.")
    return text


def _unreadable(error: OSError) -> DocumentError:
    return DocumentError(f"It cannot be read ({error.strerror or error}); mend its permissions.")


def _decode(data: bytes) -> str:
    marked = [encoding for bom, encoding in _BOMS if data.startswith(bom)]
    for encoding in marked[:1] or ["utf-8", *_unmarked(data)]:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if _is_text(text):
            return text
    raise DocumentError("It is not a text file; save it as UTF-8 text.")


def _unmarked(data: bytes) -> list[str]:
    """What text without a BOM may be where it is not UTF-8.

    In Western text nearly every second byte of UTF-16 is zero. Windows' Western code page is told
    apart from those of other alphabets by how rare the bytes beyond ASCII are in it.
    """
    half = len(data) // 2
    if half and data[1::2].count(0) > 0.8 * half:
        return ["utf-16-le"]
    if half and data[::2].count(0) > 0.8 * half:
        return ["utf-16-be"]
    if len(data.translate(None, _ASCII)) > _FOREIGN_SHARE * len(data):
        guess = charset_normalizer.from_bytes(data).best()
        return [guess.encoding] if guess else []
    return ["cp1252"]


def _is_text(text: str) -> bool:
    """Postgres refuses NUL; a few stray control characters occur in honest logs."""
    return "\0" not in text and len(_CONTROLS.findall(text)) <= _CONTROL_SHARE * len(text)
