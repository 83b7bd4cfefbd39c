"""``POST /v1/chat/completions`` as vLLM, OpenRouter and Ollama answer it."""

import time
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from pydantic_core import to_json

from runner.config import SimulatedServer, ToolAnswer
from runner.models.shapes import read_json
from runner.simulator import answers
from runner.simulator.answers import Message
from runner.simulator.exchange import Exchange, Refusal, State
from runner.simulator.shapes import ChatRequest, unknown_model
from runner.simulator.stream import Events, pour
from runner.simulator.whole import answer_whole

_DONE = b"data: [DONE]\n\n"
_KEEPALIVE = b": keep-alive\n\n"
_OPENROUTER_KEEPALIVE = b": OPENROUTER PROCESSING\n\n"
_ARGUMENT_PIECES = 3


@dataclass(frozen=True)
class Written:
    """An answer before it is put into events."""

    pieces: list[str]
    call: ToolAnswer | None
    finish_reason: str
    prompt_tokens: int

    @property
    def usage(self) -> dict[str, int]:
        """As every one of these servers counts it."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": len(self.pieces),
            "total_tokens": self.prompt_tokens + len(self.pieces),
        }


async def post(exchange: Exchange) -> web.StreamResponse:
    """Answer one request, streamed or whole.

    Raises:
        Refusal: the request is not one that such a server takes.
    """
    wanted = await read_json(exchange.request, ChatRequest)
    exchange.entry.asked = [f"{message.role}: {message.text}" for message in wanted.messages]
    written = _write(exchange, wanted)
    head = {
        "id": f"chatcmpl-{exchange.state.name}-{exchange.entry.number}",
        "created": int(time.time()),
        "model": wanted.model,
    }
    if wanted.stream:
        return await pour(exchange, _events(exchange.state, wanted, written, head), {})
    await exchange.until_first()
    exchange.entry.tokens = len(written.pieces)
    return await answer_whole(exchange, to_json(_completion(head, written, exchange)))


def _write(exchange: Exchange, wanted: ChatRequest) -> Written:
    """The answer to ``wanted``, in tokens."""
    server = exchange.state.server
    if wanted.model not in server.models:
        raise unknown_model(server.speaks, wanted.model)
    messages = [Message(message.role, message.text) for message in wanted.messages]
    limit = _limit(server, wanted)
    kept = _fitted(server, messages, limit)
    exchange.entry.dropped = len(messages) - len(kept)
    offered = [tool.function.name for tool in wanted.tools or []]
    answer = answers.choose(server, kept, [] if wanted.tool_choice == "none" else offered)
    if isinstance(answer, ToolAnswer):
        pieces = _in_pieces(to_json(answer.arguments).decode(), server.speaks)
        return Written(pieces, answer, "tool_calls", answers.size(kept))
    text = "" if exchange.meets("empty") else _continued(server, wanted, kept, answer)
    pieces = answers.tokens(text)
    short = limit is not None and len(pieces) > limit
    return Written(
        pieces[:limit] if short else pieces,
        None,
        "length" if short else "stop",
        answers.size(kept),
    )


def _limit(server: SimulatedServer, wanted: ChatRequest) -> int | None:
    """The longest answer that the request allows. Ollama does not know the newer name."""
    if server.speaks == "ollama":
        return wanted.max_tokens
    return wanted.max_completion_tokens or wanted.max_tokens


def _fitted(server: SimulatedServer, messages: list[Message], limit: int | None) -> list[Message]:
    """What the model reads of the prompt."""
    if server.speaks == "ollama":
        return answers.without_oldest(messages, server.context_tokens)
    needed = answers.size(messages) + (limit or 0)
    if needed > server.context_tokens:
        raise Refusal(
            400,
            f"This model's maximum context length is {server.context_tokens} tokens. However, "
            f"you requested {needed} tokens. Please reduce the length of the messages.",
            "context_length_exceeded",
        )
    return messages


def _continued(
    server: SimulatedServer, wanted: ChatRequest, messages: list[Message], answer: str
) -> str:
    """The answer, or what is still to be said of it."""
    if wanted.continue_final_message and wanted.add_generation_prompt:
        raise Refusal(
            400,
            "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
        )
    final = messages[-1].text if messages and messages[-1].role == "assistant" else None
    asked = wanted.continue_final_message or (server.speaks == "ollama" and server.continues)
    if final is not None and asked:
        return answers.rest(answer, final)
    if (spoken := answers.said(messages)) is not None:
        return answers.told_to_go_on(answer, spoken, server.manners)
    return answer


def _in_pieces(arguments: str, speaks: str) -> list[str]:
    """A tool call's arguments as they are streamed; Ollama sends them whole."""
    size = len(arguments) if speaks == "ollama" else len(arguments) // _ARGUMENT_PIECES + 1
    return [arguments[at : at + size] for at in range(0, len(arguments), size)]


def _events(state: State, wanted: ChatRequest, written: Written, head: dict[str, Any]) -> Events:
    """The answer as an event stream, each token's bytes made before the first is sent."""
    head = {**head, "object": "chat.completion.chunk"}
    speaks = state.server.speaks
    deltas = _call_deltas(written, head["id"]) if written.call else _text_deltas(written, speaks)
    end = _event(head, [_choice({}, written.finish_reason)])
    if speaks == "openrouter" or (wanted.stream_options and wanted.stream_options.include_usage):
        end += _event(head, [], usage=written.usage)
    opening = {"role": "assistant", "content": ""}
    failed = {"error": {"message": "The script says so (simulate).", "code": 502}}
    at_error = [_choice({"content": ""}, "error")] if speaks == "openrouter" else []
    return Events(
        opening=b"" if speaks == "ollama" else _event(head, [_choice(opening)]),
        tokens=[_event(head, [_choice(delta)]) for delta in deltas],
        end=end + _DONE,
        keepalive=_OPENROUTER_KEEPALIVE if speaks == "openrouter" else _KEEPALIVE,
        malformed=_event(head, [_choice({"content": " "})])[:-12] + b"\n\n",
        error=_event(head, at_error, **failed) if at_error else b"data: %b\n\n" % to_json(failed),
    )


def _text_deltas(written: Written, speaks: str) -> list[dict[str, Any]]:
    role = {} if speaks == "openai" else {"role": "assistant"}  # vLLM's is in a chunk of its own
    return [{**role, "content": piece} for piece in written.pieces]


def _call_deltas(written: Written, identity: str) -> list[dict[str, Any]]:
    """The first piece names the tool, the others carry on with its arguments."""
    first = _call(written, identity) | {"index": 0}
    first["function"] = {**first["function"], "arguments": written.pieces[0]}
    others = [{"index": 0, "function": {"arguments": piece}} for piece in written.pieces[1:]]
    return [{"tool_calls": [call]} for call in (first, *others)]


def _call(written: Written, identity: str) -> dict[str, Any]:
    assert written.call is not None
    function = {"name": written.call.tool, "arguments": "".join(written.pieces)}
    return {"id": identity.replace("chatcmpl", "call"), "type": "function", "function": function}


def _choice(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


def _event(head: dict[str, Any], choices: list[dict[str, Any]], **more: Any) -> bytes:
    return b"data: %b\n\n" % to_json({**head, "choices": choices, **more})


def _completion(head: dict[str, Any], written: Written, exchange: Exchange) -> dict[str, Any]:
    """The answer as one object."""
    if exchange.meets("error_chunk"):
        return {"error": {"message": "The script says so (simulate).", "code": 502}}
    message: dict[str, Any] = {"role": "assistant", "content": "".join(written.pieces)}
    if written.call:
        call = _call(written, head["id"])
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": written.finish_reason}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": written.usage}
