"""LLMs behind ``/v1/chat/completions``: vLLM, Ollama, OpenRouter, and any other."""

import ssl
from typing import Any

import httpx2
import openai as client
from livekit.agents import llm
from livekit.agents.types import NOT_GIVEN
from livekit.plugins import openai

_AUTHORITIES = ssl.create_default_context()  # read here, where no call waits for it
_NO_KEY = "none"  # the client insists on a key, local servers ignore it


def chat_llm(
    *,
    base_url: str,
    model: str,
    api_key: str,
    temperature: float | None,
    max_tokens: int | None,
) -> llm.LLM[Any]:
    """An LLM that asks once: retries belong to the chain.

    ``max_tokens`` goes out under its older name, which vLLM, Ollama and OpenRouter all obey.
    """
    return openai.LLM(
        client=client.AsyncClient(
            base_url=base_url,
            api_key=api_key or _NO_KEY,
            max_retries=0,
            http_client=httpx2.AsyncClient(verify=_AUTHORITIES, follow_redirects=True),
        ),
        model=model,
        temperature=NOT_GIVEN if temperature is None else temperature,
        extra_body=NOT_GIVEN if max_tokens is None else {"max_tokens": max_tokens},
    )
