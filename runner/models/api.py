"""The model server's application: OpenAI's endpoints over the engines.

Callers wait in lanes, one for each kind of work; a lane that is full answers 503. Nothing of
what callers send is logged.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version
from typing import Any

from aiohttp import web

from runner.config import Models
from runner.models import weights
from runner.models.embeddings import Embeddings
from runner.models.engines import Engines
from runner.models.lanes import Lane, LaneFullError
from runner.models.shapes import ApiError, as_json, unknown_model
from runner.models.speech import Speech
from runner.models.transcriptions import Transcriptions

_INDEXING_NICENESS = 19  # it takes what the calls leave
_RETRY_AFTER_S = "1"
_PACKAGES = ("faster-whisper", "ctranslate2", "piper-tts", "onnxruntime")

_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(engines: Engines, models: Models) -> web.Application:
    """All endpoints. The engines are taken to be warm: ``/health`` says ok from the start."""
    lanes = {
        "stt": Lane("stt", models.threads, models.max_waiting),
        "tts": Lane("tts", 1, models.max_waiting),
        "embedding": Lane("embedding", 1, models.max_waiting),
        "indexing": Lane("indexing", models.threads, models.max_waiting, _INDEXING_NICENESS),
    }
    stt = Transcriptions(engines.stt, weights.WHISPER[models.whisper], lanes["stt"])
    tts = Speech(engines.tts, lanes["tts"])
    embedding = Embeddings(engines.embedding, lanes["embedding"], lanes["indexing"])
    listed = [stt.description, tts.description, embedding.description]

    app = web.Application(middlewares=[refusals])
    app.add_routes(
        [
            web.get("/health", _health(lanes)),
            web.get("/v1/models", _list(listed)),
            web.get("/v1/models/{id:.+}", _one(listed)),
            web.post("/v1/audio/transcriptions", stt.post),
            web.post("/v1/audio/speech", tts.post),
        ]
    )
    embedding.add_to(app)
    app.cleanup_ctx.append(_closing(lanes))
    return app


def _health(lanes: dict[str, Lane]) -> Handler:
    versions = {package: version(package) for package in _PACKAGES}

    async def health(_: web.Request) -> web.Response:
        waiting = {name: lane.waiting for name, lane in lanes.items()}
        return as_json({"status": "ok", "versions": versions, "waiting": waiting})

    return health


def _list(listed: list[dict[str, Any]]) -> Handler:
    async def models(_: web.Request) -> web.Response:
        return as_json({"object": "list", "data": listed})

    return models


def _one(listed: list[dict[str, Any]]) -> Handler:
    by_id = {model["id"]: model for model in listed}

    async def model(request: web.Request) -> web.Response:
        wanted = request.match_info["id"]
        if wanted not in by_id:
            raise unknown_model(", ".join(by_id))
        return as_json(by_id[wanted])

    return model


def _closing(lanes: dict[str, Lane]) -> Callable[[web.Application], AsyncIterator[None]]:
    async def closing(_: web.Application) -> AsyncIterator[None]:
        yield
        for lane in lanes.values():
            lane.close()

    return closing


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Everything that goes wrong, in OpenAI's shape."""
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001  the request fails, the server does not
        refusal = _refusal(error, f"{request.method} {request.path}")
    headers = {"Retry-After": _RETRY_AFTER_S} if refusal.status == 503 else None
    return as_json(refusal.body, status=refusal.status, headers=headers)


def _refusal(error: Exception, endpoint: str) -> ApiError:
    match error:
        case ApiError():
            # Without its frames: they would keep an upload of 64 MiB until the next collection.
            return error.with_traceback(None)
        case LaneFullError():
            return ApiError(503, "Too many requests wait already (models.max_waiting).")
        case web.HTTPException():
            return ApiError(error.status, f"{error.reason}: {endpoint}.")
        case _:
            if not isinstance(error, ConnectionError):  # a caller who hung up is no failure
                _log.error("%s failed: %s", endpoint, type(error).__name__)
            return ApiError(500, "The model server failed at this request.")
