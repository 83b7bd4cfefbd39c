"""What a simulated LLM says: chosen by the request alone, so that two servers with the same
answers say the same to the same question."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from runner.config import SimulatedServer, TextAnswer, ToolAnswer

DEFAULT_ANSWER = (
    "The library opens at nine in the morning and closes at six in the evening, from Monday to "
    "Friday. On Saturdays it opens an hour later, and on Sundays the doors stay shut."
)

_TOKEN = re.compile(r" ?\w+| ?[^\w\s]|\s")
_LONG_WORD = 9  # letters with the space before them; longer ones are two tokens
_SAID = re.compile(r"<said>(.*?)</said>", re.DOTALL)
_WORD = re.compile(r"\w+")
_REPEATED_WORDS = 3
_NOTHING = "nothing"
_CHARS_PER_TOKEN = 4  # of English, as all of these tokenizers have it
_TOKENS_PER_MESSAGE = 4  # its role and its borders
_LEAST_KEPT = 2  # the instructions' neighbour, the newest message, always stays


@dataclass(frozen=True)
class Message:
    """One message of a conversation, as any provider's request holds it."""

    role: str
    text: str

    @property
    def tokens(self) -> int:
        """About how long it is."""
        return len(self.text) // _CHARS_PER_TOKEN + _TOKENS_PER_MESSAGE


def tokens(text: str) -> list[str]:
    """``text`` cut as tokenizers do: a word with the space before it, a long word in two,
    punctuation apart. Joined, they are ``text`` again."""
    cut: list[str] = []
    for token in _TOKEN.findall(text):
        half = len(token) // 2 if len(token) > _LONG_WORD else 0
        cut += [token[:half], token[half:]] if half else [token]
    return cut


def size(messages: Sequence[Message]) -> int:
    """The tokens of a whole prompt, about."""
    return sum(message.tokens for message in messages)


def without_oldest(messages: Sequence[Message], context: int) -> list[Message]:
    """What of ``messages`` fits into ``context`` tokens: the oldest turns go, the instructions
    stay, as Ollama does it."""
    kept = list(messages)
    while size(kept) > context:
        turns = [at for at, message in enumerate(kept) if message.role != "system"]
        if len(turns) < _LEAST_KEPT:
            break
        del kept[turns[0]]
    return kept


def said(messages: Sequence[Message]) -> str | None:
    """The words that the last message says were heard already; None: it says nothing of it."""
    found = _SAID.search(messages[-1].text) if messages else None
    return found[1] if found else None


def choose(
    server: SimulatedServer, messages: Sequence[Message], tools: Sequence[str]
) -> str | ToolAnswer:
    """The answer whose ``when`` occurs in the last question, else the next in turn.

    A tool is called where it is offered, and not right after its result.
    """
    questions = _questions(messages)
    question = questions[-1].lower() if questions else ""
    after_result = bool(messages) and messages[-1].role == "tool"
    usable = [
        answer
        for answer in server.answers
        if not isinstance(answer, ToolAnswer) or (answer.tool in tools and not after_result)
    ]
    for answer in usable:
        if not isinstance(answer, str) and answer.when and answer.when.lower() in question:
            return _plain(answer, questions)
    in_turn = [answer for answer in usable if isinstance(answer, str) or not answer.when]
    turn = max(0, len(questions) - 1)
    return _plain(in_turn[turn % len(in_turn)], questions) if in_turn else DEFAULT_ANSWER


def rest(answer: str, spoken: str) -> str:
    """What follows ``spoken`` in ``answer``; all of it, where they have nothing in common."""
    if answer.startswith(spoken):
        return answer[len(spoken) :]
    heard = [word.lower() for word in _WORD.findall(spoken)]
    words = list(_WORD.finditer(answer))
    for last in range(len(heard), 0, -1):
        tail = heard[-last:]
        for at in range(len(words) - last + 1):
            if [word[0].lower() for word in words[at : at + last]] == tail:
                return answer[words[at + last - 1].end() :]
    return f" {answer}" if spoken else answer


def told_to_go_on(answer: str, spoken: str, manners: str) -> str:
    """What a model writes that was told in words to go on after ``spoken``."""
    match manners:
        case "restarts":
            return answer
        case "repeats_words":
            return " ".join(spoken.split()[-_REPEATED_WORDS:]) + rest(answer, spoken)
        case _:
            return rest(answer, spoken).lstrip()


def _questions(messages: Sequence[Message]) -> list[str]:
    """What the user said; that an answer was cut off is no question."""
    return [m.text for m in messages if m.role == "user" and m.text and said([m]) is None]


def _plain(answer: str | TextAnswer | ToolAnswer, questions: Sequence[str]) -> str | ToolAnswer:
    if not isinstance(answer, TextAnswer):
        return answer
    if not answer.recalls:
        return answer.text
    found = [word for said in questions for word in re.findall(answer.recalls, said)]
    return answer.text.replace("{}", found[-1] if found else _NOTHING)
