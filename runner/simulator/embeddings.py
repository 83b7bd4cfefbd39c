"""``POST /v1/embeddings``: vectors of length 1 that depend on the text alone."""

import math
import random

from aiohttp import web
from pydantic_core import to_json

from runner.models.shapes import read_json
from runner.simulator.exchange import Exchange
from runner.simulator.shapes import EmbeddingRequest, unknown_model
from runner.simulator.whole import answer_whole


async def embed(exchange: Exchange) -> web.StreamResponse:
    """Equal texts get equal vectors; nothing else is meant by them."""
    wanted = await read_json(exchange.request, EmbeddingRequest)
    server = exchange.state.server
    texts = [wanted.input] if isinstance(wanted.input, str) else wanted.input
    exchange.entry.asked = texts
    if wanted.model not in server.models:
        raise unknown_model(server.speaks, wanted.model)
    await exchange.until_first()
    data = [
        {"object": "embedding", "index": at, "embedding": _vector(text, server.dimensions)}
        for at, text in enumerate(texts)
    ]
    size = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": size, "total_tokens": size}
    return await answer_whole(
        exchange, to_json({"object": "list", "data": data, "model": wanted.model, "usage": usage})
    )


def _vector(text: str, dimensions: int) -> list[float]:
    source = random.Random(text)  # noqa: S311  deterministic on purpose
    vector = [source.gauss() for _ in range(dimensions)]
    length = math.hypot(*vector)
    return [value / length for value in vector]
