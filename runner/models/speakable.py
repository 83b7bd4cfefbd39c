"""Text made fit to be spoken: marks and symbols that a voice would read out as noise are gone.

No pattern here may take longer than in proportion to the text, which comes from anywhere.
"""

import re
import unicodedata

_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")  # [text](address) is heard as its text
_URL = re.compile(r"\b(?:https?|wss?|ftp)://([^\s/?#]+)\S*")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_LINE_MARK = re.compile(r"^(?:(?:#{1,6}|[-*+•]) |>)+ ?")
_DASH = re.compile(r" ?\u2014 ?| [-\u2013]+ ")
_CELL_END = re.compile(r" ?\|[ |]*")
_SILENT = str.maketrans(dict.fromkeys("*`~^{}[]\\", "")) | str.maketrans("_", " ")
_SYMBOLS = frozenset({"So", "Sk", "Cs", "Co", "Cn", "Cf", "Cc"})  # Unicode's categories
_KEPT = frozenset("°\n\t")
_AFTER_URL = ".,;:!?)\"'"
_ENDS = tuple(".,;:!?")


def speakable(text: str) -> str:
    """``text`` without Markdown, addresses' paths, emoji and control characters.

    Letters of any script, digits, punctuation and what a voice reads well ($ % + & @ °) stay.
    A line is heard as a sentence. Empty where nothing can be said.
    """
    text = _TAG.sub(" ", _URL.sub(_host, _LINK.sub(r"\1", text)))
    text = "".join(c for c in text if c in _KEPT or unicodedata.category(c) not in _SYMBOLS)
    lines = [line for part in text.split("\n") if (line := _line(part))]
    return " ".join([*map(_ended, lines[:-1]), *lines[-1:]])


def _host(url: re.Match[str]) -> str:
    """The host of an address, and the punctuation that follows the address."""
    bare = url[0].rstrip(_AFTER_URL)
    return url[1].rstrip(_AFTER_URL) + url[0][len(bare) :]


def _line(line: str) -> str:
    """One line without its marks; empty where nothing in it can be said."""
    line = _LINE_MARK.sub("", " ".join(line.split()))
    line = _DASH.sub(", ", _CELL_END.sub(", ", line.translate(_SILENT)))
    line = " ".join(line.split()).strip(" ,")
    return line if any(map(str.isalnum, line)) else ""


def _ended(line: str) -> str:
    return line if line.endswith(_ENDS) else f"{line}."
