"""What the OpenAI-shaped servers take, and how each of them words a refusal."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runner.simulator.exchange import Refusal


class Part(BaseModel):
    """A piece of a message's content; only text is read."""

    text: str = ""


class Told(BaseModel):
    """A message of the request."""

    role: str
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        """Its content as one text."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class Function(BaseModel):
    """A tool's name."""

    name: str = ""


class Tool(BaseModel):
    """A tool that is offered."""

    function: Function = Function()


class StreamOptions(BaseModel):
    """Whether the stream ends with the number of tokens."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """``POST /v1/chat/completions``; what is not here has no effect."""

    model: str
    messages: list[Told] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    continue_final_message: bool = False
    add_generation_prompt: bool = True


class SpokenRequest(BaseModel):
    """``POST /v1/audio/speech``; what else it holds goes on to a real server."""

    model_config = ConfigDict(extra="allow")

    model: str
    input: str
    response_format: str = "mp3"
    sample_rate: int | None = None


class EmbeddingRequest(BaseModel):
    """``POST /v1/embeddings``."""

    model: str
    input: str | list[str]


def refusal_body(speaks: str, refusal: Refusal) -> dict[str, Any]:
    """The JSON of an error status, as the servers write it."""
    kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(
        refusal.status, "invalid_request_error" if refusal.status < 500 else "server_error"
    )
    error: dict[str, Any] = {"message": refusal.message, "type": kind, "param": None}
    match speaks:
        case "openrouter":
            return {"error": {"message": refusal.message, "code": refusal.status}}
        case "ollama":
            return {"error": {**error, "code": None}}
        case _:
            return {"error": {**error, "code": refusal.code or refusal.status}}


def unknown_model(speaks: str, model: str) -> Refusal:
    """The refusal of a model that the server does not have."""
    match speaks:
        case "openrouter":
            return Refusal(400, f"{model} is not a valid model ID")
        case "ollama":
            return Refusal(404, f"model '{model}' not found")
        case _:
            words = f"The model `{model}` does not exist."
            return Refusal(404, words, "model_not_found")
