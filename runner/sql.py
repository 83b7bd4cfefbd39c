"""The SQL texts under ``sql/``: whole scripts, and files of named queries."""

import re
from functools import cache

from runner.folders import RESOURCES

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def script(file: str) -> str:
    """The text of a file under ``sql/``, such as ``schema.sql``."""
    return (RESOURCES / "sql" / file).read_text(encoding="utf-8")


@cache
def queries(file: str = "queries.sql") -> dict[str, str]:
    """The queries of a file by name, without comments (a driver reads ``%`` even in those)."""
    _, *parts = _NAME.split(script(file))
    return {name: _code(text) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def _code(text: str) -> str:
    lines = (line for line in text.splitlines() if not line.startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")
