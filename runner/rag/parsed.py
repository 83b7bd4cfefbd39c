"""What reading a document gives, whoever reads it."""

from dataclasses import dataclass, field
from typing import Any


class UnreadableError(Exception):
    """A file has no text to give. The message says why, and how to mend it."""


@dataclass(frozen=True)
class Page:
    """A page or slide, counted from 1; ``number`` is None where the format has no pages."""

    number: int | None
    text: str


@dataclass(frozen=True)
class Parsed:
    """A document's text as markdown, and what is stored with each of its chunks.

    ``metadata``: ``title``, ``authors``, ``created``, ``modified`` (ISO 8601) where the file has
    them; for a PDF ``extraction`` (``layout`` or ``text only``) with ``extraction_reason``,
    ``ocr_pages``, ``incomplete``.
    """

    pages: list[Page]
    metadata: dict[str, Any] = field(default_factory=dict)
