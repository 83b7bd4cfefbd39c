"""Texts turned into vectors by an OpenAI-shaped ``/v1/embeddings``, or by the line beside it."""

import base64
import math
import os
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Protocol

import aiohttp
from annotated_types import Len
from pydantic import BaseModel, BeforeValidator, FiniteFloat, ValidationError

from runner.config import EMBEDDING_DIMENSIONS, RAG
from runner.errors import ProviderError
from runner.rag.line import EmbeddingLine

_BATCH_TEXTS = 64
_TIMEOUT_S = 60.0  # a full batch of long chunks takes two cores about 2 s, behind others' more
_ANSWER_BYTES = 8_000_000
_QUOTE_CHARS = 200


class Embeds(Protocol):
    """Whatever turns texts into vectors of 384 numbers, in their order."""

    async def embed(self, texts: Sequence[str]) -> list[list[float]]: ...
    async def aclose(self) -> None: ...


def _numbers(embedding: Any) -> Any:
    """Little-endian floats of 32 bits, where it is base64."""
    if not isinstance(embedding, str):
        return embedding
    return _unpacked(base64.b64decode(embedding, validate=True))


def _unpacked(packed: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(packed) // 4}f", packed))


class _Embedding(BaseModel):
    """Not every server knows base64; those answer a list."""

    index: int
    embedding: Annotated[list[FiniteFloat], Len(1), BeforeValidator(_numbers)]


class _Answer(BaseModel):
    data: list[_Embedding]


def embedder(rag: RAG) -> "Embedder":
    """The client of the server that ``rag`` names; its key is read from the environment now."""
    name = rag.embedding_api_key_env
    key = os.environ.get(name, "") if name else ""
    return Embedder(rag.embedding_url, rag.embedding_model, api_key=key, api_key_env=name)


class Embedder:
    """A client of the embedding server, for one event loop: one session, made when first used.

    ``url`` ends in ``/v1``; ``api_key_env`` is the name of the variable that ``api_key`` is from.
    """

    def __init__(self, url: str, model: str, *, api_key: str = "", api_key_env: str = "") -> None:
        self._url = f"{url}/embeddings"
        self._model = model
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._api_key_env = api_key_env
        self._http: aiohttp.ClientSession | None = None
        self._line = EmbeddingLine(self._url, model)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector of 384 numbers for each text, in their order.

        Raises:
            ProviderError: the server did not answer, or not with such vectors.
        """
        vectors: list[list[float]] = []
        for start in range(0, len(texts), _BATCH_TEXTS):
            vectors += await self._batch(texts[start : start + _BATCH_TEXTS])
        return vectors

    async def aclose(self) -> None:
        """Close the line and the session."""
        await self._line.aclose()
        if self._http is not None:
            await self._http.close()

    async def _batch(self, texts: Sequence[str]) -> list[list[float]]:
        try:
            if len(texts) == 1 and (packed := await self._line.ask(self._session(), texts[0])):
                return [self._checked(_unpacked(packed))]
            answer = _Answer.model_validate_json(await self._post(texts))
        except (ValidationError, struct.error):
            raise self._error("its answer is not that of an embedding server") from None
        found = sorted(answer.data, key=lambda item: item.index)
        if [item.index for item in found] != list(range(len(texts))):
            raise self._error(f"asked for {len(texts)} texts, it answered {len(found)}")
        return [self._checked(item.embedding) for item in found]

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
            self._http = aiohttp.ClientSession(timeout=timeout, headers=self._headers)
        return self._http

    async def _post(self, texts: Sequence[str]) -> bytes:
        body = {"model": self._model, "input": list(texts), "encoding_format": "base64"}
        try:
            async with self._session().post(self._url, json=body) as response:
                return await self._read(response)
        except TimeoutError:
            raise self._error(f"no answer within {_TIMEOUT_S:g} s") from None
        except aiohttp.ClientError as error:
            raise self._error(str(error)) from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for part in response.content.iter_any():
            body += part
            if len(body) > _ANSWER_BYTES:
                raise self._error(f"its answer is longer than {_ANSWER_BYTES} bytes")
        if response.status in {401, 403}:
            raise self._error(f"status {response.status}, {self._key_advice()}")
        if not response.ok:
            quote = body[:_QUOTE_CHARS].decode(errors="replace")
            raise self._error(f"status {response.status}, {quote!r}")
        return bytes(body)

    def _key_advice(self) -> str:
        if not self._api_key_env:
            return "it wants a key; name the variable that holds it in rag.embedding_api_key_env"
        if not self._headers:
            return f"{self._api_key_env} is not set; put its key there"
        return f"it does not take the key in {self._api_key_env}; correct that variable"

    def _checked(self, vector: list[float]) -> list[float]:
        if trouble := unfit(vector, self._model):
            raise self._error(trouble)
        return vector

    def _error(self, reason: str) -> ProviderError:
        return ProviderError(
            f"The embedding server at {self._url} (rag.embedding_url) does not serve: {reason}."
        )


def unfit(vector: Sequence[float], model: str) -> str:
    """Why the database cannot hold or search ``vector``; empty: it can."""
    if len(vector) != EMBEDDING_DIMENSIONS:
        return (
            f"{model} gives {len(vector)} numbers a text, the database holds "
            f"{EMBEDDING_DIMENSIONS}; set rag.embedding_model to a model with as many, "
            "such as all-MiniLM-L6-v2"
        )
    if not any(vector):
        return "it answered a vector of zeros, which has no direction"
    if not math.isfinite(sum(vector)):
        return "it answered a vector with what is no number"
    return ""
