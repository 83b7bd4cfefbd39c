"""What a reasoning model thinks aloud between ``<think>`` and ``</think>``, taken out of its
answer: a caller hears the answer alone."""

_OPEN, _CLOSE = "<think>", "</think>"


class Thoughts:
    """Takes the thoughts out of a text that comes in pieces, wherever their tags are cut."""

    def __init__(self) -> None:
        self._inside = False
        self._held = ""

    def spoken(self, piece: str) -> str:
        """What may be said now; the beginning of what may become a tag is held back."""
        if not self._held and not self._inside and "<" not in piece:
            return piece
        text, said = self._held + piece, ""
        while found := self._next_tag(text):
            tag, at = found
            said += "" if self._inside else text[:at]
            text = text[at + len(tag) :]
            self._inside = tag == _OPEN
        kept = _open_end(text)
        self._held = text[len(text) - kept :]
        return said if self._inside else said + text[: len(text) - kept]

    def rest(self) -> str:
        """What was held back when the answer has ended."""
        return "" if self._inside else self._held

    def _next_tag(self, text: str) -> tuple[str, int] | None:
        """The first tag and where it stands. A closing one alone, whose partner stood in the
        prompt, is taken out as well."""
        found = [(at, tag) for tag in (_OPEN, _CLOSE) if (at := text.find(tag)) >= 0]
        return (min(found)[1], min(found)[0]) if found else None


def _open_end(text: str) -> int:
    """How many characters at the end may be the beginning of a tag."""
    for count in range(min(len(_CLOSE) - 1, len(text)), 0, -1):
        if _OPEN.startswith(text[-count:]) or _CLOSE.startswith(text[-count:]):
            return count
    return 0
