"""``POST /v1/embeddings``: MiniLM behind OpenAI's shape, and a line beside it for questions."""

import asyncio
import base64
from typing import Any

from aiohttp import WSCloseCode, web

from runner.config import EMBEDDING_DIMENSIONS
from runner.models.lanes import Lane, LaneFullError
from runner.models.minilm import Cache, Embedding, MiniLM
from runner.models.shapes import ApiError, EmbeddingRequest, as_json, read_json, unknown_model
from runner.models.weights import MINILM

_CACHED_TEXTS = 20_000  # 1.6 kB each
_QUESTION_CHARS = 200  # takes 2 to 4 ms: a caller's turn waits for it, and a thread would add to it
_LINE_BYTES = 65_536
_NAMES = {MINILM.name, MINILM.repo}
_URGENT_CHARS = 4_096  # a request that is no longer comes from a call, a longer one indexes


class Embeddings:
    """The model, with a lane for the questions of calls and one for the texts of an index."""

    def __init__(self, minilm: MiniLM, urgent: Lane, bulk: Lane) -> None:
        self._minilm = minilm
        self._urgent = urgent
        self._bulk = bulk
        self._cache = Cache(_CACHED_TEXTS)
        self._lines: set[web.WebSocketResponse] = set()
        self.description: dict[str, Any] = {
            "id": MINILM.name,
            "object": "model",
            "created": 0,
            "owned_by": "sentence-transformers",
            "task": "feature-extraction",
            "dimensions": EMBEDDING_DIMENSIONS,
        }

    def add_to(self, app: web.Application) -> None:
        """Its endpoints; at the server's end, which would wait for them, the lines are closed."""
        app.router.add_post("/v1/embeddings", self.post)
        app.router.add_get("/v1/embeddings/line", self.line)
        app.on_shutdown.append(self._hang_up)

    async def post(self, request: web.Request) -> web.Response:
        """A vector a text, in their order. ``X-Cached`` counts those that were known already."""
        wanted = await read_json(request, EmbeddingRequest)
        if wanted.model not in _NAMES:
            raise unknown_model(MINILM.name)
        texts = wanted.texts
        known = {text: kept for text in texts if (kept := self._cache.get(text))}
        new = list(dict.fromkeys(text for text in texts if text not in known))
        cached = sum(text in known for text in texts)
        if new:
            known |= await self._made(new)
        vectors = [_encoded(known[text], wanted.encoding_format) for text in texts]
        data = [
            {"object": "embedding", "index": at, "embedding": vector}
            for at, vector in enumerate(vectors)
        ]
        tokens = sum(known[text].tokens for text in texts)
        answer = {"object": "list", "model": MINILM.name, "data": data}
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return as_json({**answer, "usage": usage}, headers={"X-Cached": str(cached)})

    async def line(self, request: web.Request) -> web.WebSocketResponse:
        """A WebSocket: each text is answered by its vector, in little-endian float32. It stays
        open, because an HTTP request for each question takes half as long as the model."""
        if request.query.get("model") not in _NAMES:
            raise unknown_model(MINILM.name)
        if "Origin" in request.headers:  # any page may open a WebSocket to this machine
            raise ApiError(403, "This is not for browsers.")
        line = web.WebSocketResponse(compress=False, max_msg_size=_LINE_BYTES)
        await line.prepare(request)
        self._lines.add(line)
        try:
            async for message in line:
                if not (isinstance(message.data, str) and message.data):
                    break
                await line.send_bytes(_packed(await self._one(message.data)))
        except LaneFullError:
            await line.close(code=WSCloseCode.TRY_AGAIN_LATER)
        finally:
            self._lines.discard(line)
            await line.close()
        return line

    async def _hang_up(self, _: web.Application) -> None:
        await asyncio.gather(*(line.close(code=WSCloseCode.GOING_AWAY) for line in self._lines))

    async def _one(self, text: str) -> Embedding:
        return self._cache.get(text) or (await self._made([text]))[text]

    async def _made(self, texts: list[str]) -> dict[str, Embedding]:
        urgent = len(texts) == 1 or sum(map(len, texts)) <= _URGENT_CHARS
        lane = self._urgent if urgent else self._bulk
        if len(texts) == 1 and len(texts[0]) <= _QUESTION_CHARS:
            embedding = self._minilm.embed(texts[0])
            self._cache.put(texts[0], embedding)
            return {texts[0]: embedding}
        parts = [texts[start :: lane.threads] for start in range(lane.threads)]
        with lane.place():
            made = await asyncio.gather(*(self._part(lane, part) for part in parts))
        return {text: embedding for part in made for text, embedding in part.items()}

    async def _part(self, lane: Lane, texts: list[str]) -> dict[str, Embedding]:
        """The embeddings of ``texts``, by one of the lane's threads at a time."""
        made = {}
        steps = ((text, self._minilm.embed(text)) for text in texts)
        async for text, embedding in lane.turns(steps):
            made[text] = embedding
            self._cache.put(text, embedding)
        return made


def _encoded(embedding: Embedding, encoding: str) -> Any:
    if encoding == "base64":
        return base64.b64encode(_packed(embedding)).decode()
    return embedding.vector.tolist()


def _packed(embedding: Embedding) -> bytes:
    return embedding.vector.astype("<f4").tobytes()
