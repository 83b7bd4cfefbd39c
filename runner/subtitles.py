"""The agent's words, given on as they are heard: the page shows them with the voice, and of an
answer that was interrupted the history keeps what the caller heard.

LiveKit's own way looks for syllables in the spectrum of the voice, which takes half of the CPU that
a call needs in Python while the agent talks. The voices here speak one clause after the other, and
tell where each begins; within a clause, words are as long as they are written.
"""

import asyncio
import re
from bisect import bisect_right

from livekit.agents.types import TimedString
from livekit.agents.utils import is_given
from livekit.agents.voice import io

_CHARS_PER_S = 15.0  # 160 words of English a minute: until a voice's own pace is known
_SPACE = re.compile(r"\s")
_LONGEST_WORD = 30  # Japanese has no spaces: such text is cut anywhere


class Subtitles(io.TextOutput):
    """Holds what is going to be said, and gives it to ``shown`` when its voice has come to it."""

    def __init__(self, shown: io.TextOutput) -> None:
        super().__init__(label="subtitles", next_in_chain=shown)
        self._shown = shown
        self._given: asyncio.Queue[str | None] = asyncio.Queue()
        self._ignoring = False  # what is written after its sound was over
        self._begin()
        self._giving = asyncio.create_task(self._give(), name="subtitles")

    def _begin(self) -> None:
        self._text = ""
        self._whole = False  # nothing is added to the text
        self._given_chars = self._begun_chars = 0
        self._times: list[float] = [0.0]  # where clauses begin in the sound …
        self._chars: list[int] = [0]  # … and in the text

    def close(self) -> None:
        """Shows no more."""
        self._giving.cancel()

    async def capture_text(self, text: str) -> None:
        if self._whole:  # no sound was made of what came before
            self._begin()
        if not self._ignoring:
            self._text += text

    def flush(self) -> None:
        self._whole, self._ignoring = not self._ignoring, False

    def clause(self, clause: TimedString) -> None:
        """The voice has come to another clause."""
        if is_given(clause.start_time):
            self._mark(clause.start_time, self._begun_chars)
            self._begun_chars += len(clause)

    def sound(self, seconds: float) -> None:
        """No more is added to the sound of the text."""
        if self._whole:
            self._mark(seconds, len(self._text))

    def _mark(self, at_s: float, chars: int) -> None:
        if at_s > self._times[-1]:
            self._times.append(at_s)
            self._chars.append(max(chars, self._chars[-1]))

    def heard(self, at_s: float) -> None:
        """The sound was heard up to ``at_s`` seconds: each word that has begun is shown."""
        self._show(_word_end(self._text, self._spoken(at_s), whole=self._whole))

    def end(self, *, complete: bool) -> str:
        """The sound is over; what was shown of its text, which is all if it is ``complete``."""
        if complete:
            self._show(len(self._text))
        shown = self._text[: self._given_chars]
        if shown:
            self._given.put_nowait(None)
        self._ignoring = not self._whole
        self._begin()
        return shown

    def _show(self, end: int) -> None:
        if end > self._given_chars:
            self._given.put_nowait(self._text[self._given_chars : end])
            self._given_chars = end

    def _spoken(self, at_s: float) -> int:
        """How many characters are spoken at ``at_s``: between two marks as the sound has it, and
        after the last one at the pace so far."""
        after = bisect_right(self._times, at_s)
        began_s, chars = self._times[after - 1], self._chars[after - 1]
        if after < len(self._times):
            pace = (self._chars[after] - chars) / (self._times[after] - began_s)
        else:
            pace = chars / began_s if began_s else _CHARS_PER_S
        return chars + int((at_s - began_s) * pace)

    async def _give(self) -> None:
        while True:
            if (words := await self._given.get()) is None:
                self._shown.flush()
            else:
                await self._shown.capture_text(words)


def _word_end(text: str, at: int, *, whole: bool) -> int:
    """The end of the word that has begun at ``at``, with the space behind it; where it is not
    known yet, its beginning."""
    if found := _SPACE.search(text, at, at + _LONGEST_WORD):
        return found.end()
    if len(text) - at > _LONGEST_WORD:
        return at
    return len(text) if whole else text.rfind(" ", 0, at) + 1
