"""A conversation cut to what its LLM can read: a server that is sent more drops its beginning
(Ollama, silently, the instructions with it) or refuses (vLLM)."""

import math
from collections.abc import Iterator

from livekit.agents import llm

_BYTES_PER_TOKEN = 3
_MESSAGE_TOKENS = 4


def tokens(text: str) -> int:
    """About how many tokens a text has: UTF-8 bytes / 3.

    No tokenizer fits every model. OpenAI gives 4 characters a token as a rule of thumb for
    English, other languages have more bytes and more tokens a word
    (https://help.openai.com/en/articles/4936856). Of the manual's pages it is 0.9 (tables) to 1.3
    (prose) of what GPT-2's tokenizer counts, and newer tokenizers count less.
    """
    return math.ceil(len(text.encode(errors="replace")) / _BYTES_PER_TOKEN)


def fitting(chat_ctx: llm.ChatContext, budget_tokens: int) -> llm.ChatContext:
    """The conversation without its oldest turns, so many of them that the rest fits.

    What a system or developer message says (instructions, passages) stays, and so does everything
    from the caller's latest message on, even if that alone is too long. A tool's call and its
    output go together.
    """
    items = chat_ctx.items
    excess = sum(_tokens(item) for item in items) - budget_tokens
    dropped: set[int] = set()
    turns = _old_turns(items)
    while excess > 0 and (turn := next(turns, None)):
        excess -= sum(_tokens(items[at]) for at in turn)
        dropped.update(turn)
    if not dropped:
        return chat_ctx
    calls = {item.call_id for at in dropped if isinstance(item := items[at], _TOOL)}
    kept = [
        item
        for at, item in enumerate(items)
        if at not in dropped and not (isinstance(item, _TOOL) and item.call_id in calls)
    ]
    return llm.ChatContext(kept)


_TOOL = (llm.FunctionCall, llm.FunctionCallOutput)


def _old_turns(items: list[llm.ChatItem]) -> Iterator[list[int]]:
    """What may go, oldest first: a turn is a message of the caller and all that follows it."""
    asked = [at for at, item in enumerate(items) if _is_caller(item)]
    latest = asked[-1] if asked else len(items) - 1
    turn: list[int] = []
    for at in range(latest):
        if turn and _is_caller(items[at]):
            yield turn
            turn = []
        if not _is_instruction(items[at]):
            turn.append(at)
    if turn:
        yield turn


def _is_caller(item: llm.ChatItem) -> bool:
    return isinstance(item, llm.ChatMessage) and item.role == "user"


def _is_instruction(item: llm.ChatItem) -> bool:
    return isinstance(item, llm.ChatMessage) and item.role in ("system", "developer")


def _tokens(item: llm.ChatItem) -> int:
    """The text's, and those of the template around it, 3 or 4 with OpenAI's and Llama's
    (https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken)."""
    match item:
        case llm.ChatMessage():
            return tokens(item.text_content or "") + _MESSAGE_TOKENS
        case llm.FunctionCall():
            return tokens(item.name + item.arguments) + _MESSAGE_TOKENS
        case llm.FunctionCallOutput():
            return tokens(item.output) + _MESSAGE_TOKENS
        case _:
            return 0
