"""LLMs behind ``/v1/chat/completions``: vLLM, Ollama, OpenRouter, and any other.

livekit-plugins-openai is not used: an answer without its end, cut by the server or replaced by an
error with status 200 passes there for a whole one (docs/decisions/0009).
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

import aiohttp
from livekit.agents import llm

from runner.config import OpenAILLM, Routing
from runner.providers.completion import Completion
from runner.providers.endpoint import Endpoint
from runner.providers.events import Event, events
from runner.providers.failure import Failure, Reason
from runner.providers.history import fitting, tokens
from runner.providers.refusals import of_error
from runner.providers.request import Request, instruction_to_continue

log = logging.getLogger(__name__)

_USAGE_S = 0.25  # for what comes after the end: the last sentence must not wait for a bill


class ChatAnswers:
    """An `Answerer`: asked once, answers as a stream.

    Args:
        config: the provider's section.
        api_key: what the environment holds under ``config.api_key_env``; may be empty.
        http: shared; its connections are kept from one answer to the next.
    """

    def __init__(self, config: OpenAILLM, api_key: str, http: aiohttp.ClientSession) -> None:
        self.name = config.name
        self.model = config.model
        self.continues = config.continuation != "instruction"
        self._config = config
        self._endpoint = Endpoint(
            config.name,
            config.base_url,
            api_key,
            http,
            key_env=config.api_key_env,
            headers=config.headers,
        )
        self._told_length = False

    async def answer(self, request: Request) -> AsyncGenerator[llm.ChatChunk, None]:
        body = self._body(request)
        asked = self._endpoint.asked(self.model, _private(body["messages"]))
        completion = Completion(
            self._endpoint.failure,
            partial(of_error, str(self._endpoint), asked),
            goes_on=bool(request.said) and self.continues,
        )
        async with (
            self._endpoint.post("/chat/completions", asked, json=body) as response,
            aclosing(events(response.content.iter_any())) as stream,
        ):
            async with aclosing(self._until_end(stream, completion)) as words:
                async for chunk in words:
                    yield chunk
            for chunk in completion.end():
                yield chunk
            await _read_usage(stream, completion)
        self._tell_length(completion)
        for chunk in completion.usage_chunk():
            yield chunk

    async def probe(self) -> None:
        """Asks for one token of an answer to "Hi": whether it would serve, for little.

        Raises:
            Failure: it would not.
        """
        body = self._settings() | {
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 1,
        }
        asked = self._endpoint.asked(self.model)
        async with self._endpoint.post("/chat/completions", asked, json=body) as response:
            answer = await self._endpoint.read_json(response, asked)
        if not answer.get("choices"):
            raise self._endpoint.failure(Reason.EMPTY, "an answer without choices")

    async def aclose(self) -> None:
        """Nothing: the connections are the session's."""

    async def _until_end(
        self, stream: AsyncGenerator[Event, None], completion: Completion
    ) -> AsyncGenerator[llm.ChatChunk, None]:
        try:
            async for event in stream:
                for chunk in completion.take(event):
                    yield chunk
                if completion.finish:
                    return
        except ValueError:
            raise self._endpoint.failure(Reason.MALFORMED, "its answer cannot be read") from None

    def _tell_length(self, completion: Completion) -> None:
        if completion.finish == "length" and not self._told_length:
            self._told_length = True
            log.info("%s: an answer ended at max_tokens; raise it for longer ones", self._endpoint)

    def _body(self, request: Request) -> dict[str, Any]:
        body = self._settings()
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        if request.tools:
            body["tools"] = llm.ToolContext(request.tools).parse_function_tools("openai")
            if request.tool_choice is not None:
                body["tool_choice"] = request.tool_choice
        body["messages"] = self._messages(request, spent=tokens(json.dumps(body.get("tools", ""))))
        if request.said:
            self._go_on(body, request.said)
        return body

    def _settings(self) -> dict[str, Any]:
        """``max_tokens`` goes out under its older name, which every server obeys."""
        settings = {
            "model": self.model,
            "temperature": self._config.temperature,
            "max_tokens": self._config.max_tokens,
        }
        given = {key: value for key, value in settings.items() if value is not None}
        return given | (_routing(self._config.routing) if self._config.routing else {})

    def _messages(self, request: Request, spent: int) -> list[dict[str, Any]]:
        """The conversation, cut to what is left of the model's context."""
        budget = self._config.context_tokens - (self._config.max_tokens or 0)
        budget -= spent + tokens(request.said)
        fit = fitting(request.chat_ctx, budget)
        messages, _ = fit.to_provider_format("openai")
        return messages

    def _go_on(self, body: dict[str, Any], said: str) -> None:
        if not self.continues:
            content = instruction_to_continue(said)
            body["messages"].append({"role": "system", "content": content})
            return
        body["messages"].append({"role": "assistant", "content": said})
        if self._config.continuation == "continue_final_message":
            body |= {"continue_final_message": True, "add_generation_prompt": False}


async def _read_usage(stream: AsyncGenerator[Event, None], completion: Completion) -> None:
    """Reads on for the usage. The answer is whole, so nothing here is a failure."""
    try:
        async with asyncio.timeout(_USAGE_S):
            async for event in stream:
                for _ in completion.take(event):
                    pass
    except (TimeoutError, ValueError, aiohttp.ClientError, Failure):
        log.debug("no usage came")


def _routing(routing: Routing) -> dict[str, Any]:
    """OpenRouter's ``models`` and ``provider`` (https://openrouter.ai/docs/provider-routing)."""
    provider: dict[str, Any] = {
        "allow_fallbacks": routing.allow_fallbacks,
        "data_collection": routing.data_collection,
    }
    if routing.order:
        provider["order"] = routing.order
    if routing.sort:
        provider["sort"] = routing.sort
    return {"provider": provider} | ({"models": routing.models} if routing.models else {})


def _private(messages: list[dict[str, Any]]) -> tuple[str, ...]:
    """What must not come back in a message for the log: the whole conversation."""
    texts = (message.get("content") for message in messages)
    return tuple(text for text in texts if isinstance(text, str))
