"""Gemini's ``streamGenerateContent`` and ``GET models/…`` on the wire, errors included."""

import json
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import Any

from aiohttp import web

from runner.config import SimulatedServer, ToolAnswer
from runner.simulator.answers import Message, choose, said, size, tokens, told_to_go_on
from runner.simulator.exchange import Exchange, Refusal, State
from runner.simulator.stream import Events, pour

_STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
_INSTRUCTIONS = "<instructions>"  # how livekit's plugin sends a later system message
_FILLER = "."  # a user's turn that the plugin puts where there is none

BAD_KEY = "API key not valid. Please pass a valid API key."


def routes(state: State) -> list[web.RouteDef]:
    """What Gemini answers over HTTP, in both of its versions."""

    async def generate(request: web.Request) -> web.StreamResponse:
        async with state.exchange(request) as exchange:
            return await _generate(exchange, request.match_info["model"])

    return [
        web.post("/{version:v1|v1beta}/models/{model}:streamGenerateContent", generate),
        web.get("/{version:v1|v1beta}/models/{model}", partial(show, state)),
    ]


async def show(state: State, request: web.Request) -> web.Response:
    """What there is to know of a model.

    Raises:
        Refusal: the key is wrong, or there is no such model.
    """
    async with state.glance(request) as exchange:
        await exchange.begin()
        check_key(state.server, request)
        return web.json_response(_model(state.server, request.match_info["model"]))


def check_key(server: SimulatedServer, request: web.BaseRequest) -> None:
    """Raises:
    Refusal: the key is missing (403) or wrong (400, as Google has it).
    """
    if not server.api_key:
        return
    given = request.headers.get("x-goog-api-key") or request.query.get("key")
    if not given:
        raise Refusal(403, "Method doesn't allow unregistered callers.")
    if given != server.api_key:
        raise Refusal(400, BAD_KEY, "API_KEY_INVALID")


def not_found(model: str, method: str) -> Refusal:
    """No such model."""
    name = model.removeprefix("models/")
    return Refusal(404, f"models/{name} is not found, or is not supported for {method}.")


def refused(refusal: Refusal) -> web.Response:
    """An error in Google's body. What is to be waited for stands in there, not in a header."""
    details: list[dict[str, Any]] = []
    if refusal.code:
        domain = "googleapis.com"
        details.append({"@type": _ERROR_INFO, "reason": refusal.code, "domain": domain})
    if delay := refusal.headers.get("Retry-After"):
        details.append({"@type": _RETRY_INFO, "retryDelay": f"{delay}s"})
    body = error(refusal.status, refusal.message)
    if details:
        body["error"]["details"] = details
    return web.json_response(body, status=refusal.status)


def error(status: int, message: str) -> dict[str, Any]:
    """The JSON of an error."""
    name = _STATUS_NAMES.get(status) or HTTPStatus(status).name
    return {"error": {"code": status, "message": message, "status": name}}


def messages(body: dict[str, Any]) -> list[Message]:
    """The conversation in a request. Each part is a message: the plugin joins turns into one."""
    instructions = body.get("systemInstruction") or body.get("system_instruction") or {}
    found = [Message("system", part["text"]) for part in _parts(instructions) if "text" in part]
    for content in body.get("contents") or body.get("turns") or []:
        role = "assistant" if content.get("role") == "model" else "user"
        found += [_message(role, part) for part in _parts(content)]
    return [message for message in found if message.text != _FILLER]


def tool_names(body: dict[str, Any]) -> list[str]:
    """The functions that may be called."""
    return [
        str(function.get("name"))
        for tool in body.get("tools") or []
        for function in tool.get("functionDeclarations") or tool.get("function_declarations") or []
    ]


def usage(asked: int, answered: int, answer: str = "candidates") -> dict[str, int]:
    """What an answer cost, in tokens; the Live API calls its ``answer`` "response"."""
    return {
        "promptTokenCount": asked,
        f"{answer}TokenCount": answered,
        "totalTokenCount": asked + answered,
    }


async def _generate(exchange: Exchange, model: str) -> web.StreamResponse:
    server = exchange.state.server
    await exchange.begin()
    check_key(server, exchange.request)
    if model not in server.models:
        raise not_found(model, "generateContent")
    try:
        body = await exchange.request.json()
    except ValueError:
        raise Refusal(400, "Invalid JSON payload received.") from None
    asked = messages(body)
    exchange.entry.asked = [message.text for message in asked]
    return await pour(exchange, _events(server, body, asked), {})


def _events(server: SimulatedServer, body: dict[str, Any], asked: list[Message]) -> Events:
    answer = choose(server, asked, tool_names(body))
    if isinstance(answer, ToolAnswer):
        call = {"name": answer.tool, "args": answer.arguments}
        pieces: list[dict[str, Any]] = [{"functionCall": call}]
        finish = "STOP"
    else:
        spoken = said(asked)
        if spoken is not None:
            answer = told_to_go_on(answer, spoken, server.manners)
        longest = (body.get("generationConfig") or {}).get("maxOutputTokens")
        cut = tokens(answer)
        finish = "MAX_TOKENS" if longest and len(cut) > longest else "STOP"
        pieces = [{"text": token} for token in cut[:longest]]
    end = {
        "candidates": [{"content": {"role": "model", "parts": []}, "finishReason": finish}],
        "usageMetadata": usage(size(asked), len(pieces)),
    }
    return Events(
        opening=b"",
        tokens=[_event(_candidate(piece)) for piece in pieces],
        end=_event(end),
        keepalive=b"",  # Gemini sends none, and its client takes a comment for an error
        malformed=b'data: {"candidates": [{"content": {"parts"\r\n\r\n',
        error=_event(error(503, "The model is overloaded. Please try again later.")),
    )


def _candidate(part: dict[str, Any]) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]}


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\r\n\r\n"


def _model(server: SimulatedServer, name: str) -> dict[str, Any]:
    if name not in server.models:
        raise not_found(name, "generateContent")
    return {
        "name": f"models/{name}",
        "displayName": name,
        "inputTokenLimit": server.context_tokens,
        "supportedGenerationMethods": ["generateContent", "countTokens", "bidiGenerateContent"],
    }


def _message(role: str, part: dict[str, Any]) -> Message:
    if "text" in part:
        text = str(part["text"])
        return Message("system" if text.startswith(_INSTRUCTIONS) else role, text)
    if result := part.get("functionResponse") or part.get("function_response"):
        return Message("tool", json.dumps(result.get("response")))
    if call := part.get("functionCall") or part.get("function_call"):
        return Message(role, f"{call.get('name')}({json.dumps(call.get('args'))})")
    return Message(role, "")


def _parts(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (part for part in content.get("parts") or [] if isinstance(part, dict))
