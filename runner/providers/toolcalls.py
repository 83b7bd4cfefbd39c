"""Tool calls, put together from the pieces in which they are streamed."""

import json
from dataclasses import dataclass, field
from typing import Any

from livekit.agents import llm, utils

_MOST_CALLS = 64
_ARGUMENTS_CHARS = 100_000


@dataclass
class _Call:
    index: object
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class ToolCalls:
    """Gathers calls by id and by index; servers give the one, the other, or two calls the same
    index."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._chars = 0

    def add(self, piece: dict[str, Any]) -> None:
        """Takes an entry of ``delta.tool_calls``.

        Raises:
            AttributeError, TypeError: it is none.
            ValueError: there are too many.
        """
        function = piece.get("function") or {}
        call = self._call(piece.get("index"), piece.get("id") or "")
        name, arguments = function.get("name") or "", function.get("arguments") or ""
        if not isinstance(name, str) or not isinstance(arguments, str):
            raise TypeError("a tool call of another shape")
        call.name = call.name or name
        call.arguments.append(arguments)
        self._chars += len(arguments)
        if len(self._calls) > _MOST_CALLS or self._chars > _ARGUMENTS_CHARS:
            raise ValueError("too many tool calls")

    def whole(self) -> list[llm.FunctionToolCall]:
        """The calls in the order in which they began.

        Raises:
            ValueError: one has no name, or its arguments are no JSON object: it was cut.
        """
        return [_whole(call) for call in self._calls]

    def _call(self, index: object, call_id: str) -> _Call:
        """The call that a piece belongs to, or a new one."""
        for call in reversed(self._calls):
            if call_id and call.id:
                if call.id == call_id:
                    return call
            elif index is None or call.index == index:
                call.id = call.id or call_id
                return call
        self._calls.append(_Call(index, call_id))
        return self._calls[-1]


def _whole(call: _Call) -> llm.FunctionToolCall:
    arguments = "".join(call.arguments).strip() or "{}"
    if not call.name or not isinstance(json.loads(arguments), dict):
        raise ValueError("an unfinished tool call")
    return llm.FunctionToolCall(
        name=call.name, arguments=arguments, call_id=call.id or utils.shortuuid("call_")
    )
