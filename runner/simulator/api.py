"""The endpoints of one simulated server, in the shapes that it speaks."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from runner.models.shapes import FORM_BYTES, ApiError, as_json
from runner.simulator import chat, control, embeddings, google, speech
from runner.simulator.exchange import Exchange, Refusal, State
from runner.simulator.shapes import refusal_body, unknown_model

Answer = Callable[[Exchange], Awaitable[web.StreamResponse]]


def application(state: State, settle: Callable[[], Awaitable[None]]) -> web.Application:
    """The endpoints of a server, in the shapes that it speaks."""
    app = web.Application(client_max_size=FORM_BYTES, middlewares=[_refusals(state)])
    app.add_routes(control.routes(state, settle, ""))
    app.router.add_get("/health", control.health({state.name: state}))
    if state.server.speaks == "google":
        app.add_routes(google.routes(state))
        return app
    app.router.add_get("/v1/models", _models(state))
    app.router.add_get("/v1/models/{id:.+}", _models(state))
    app.router.add_post("/v1/chat/completions", _answered(state, chat.post))
    app.router.add_post("/v1/audio/transcriptions", _answered(state, speech.transcribe))
    app.router.add_post("/v1/audio/speech", _answered(state, speech.speak))
    app.router.add_post("/v1/embeddings", _answered(state, embeddings.embed))
    return app


def _answered(state: State, answer: Answer) -> Handler:
    """A request of those that faults are counted by, in its place in the queue."""

    async def handle(request: web.Request) -> web.StreamResponse:
        async with state.exchange(request) as exchange:
            exchange.check_key(bearer(request))
            await exchange.begin()
            async with state.places:
                exchange.think()
                return await answer(exchange)

    return handle


def bearer(request: web.Request) -> str:
    """The key that came with a request, or nothing."""
    return request.headers.get("Authorization", "").removeprefix("Bearer ").strip()


def _models(state: State) -> Handler:
    """What is served; probes ask here, and meet the faults that are not bound to a request."""

    async def handle(request: web.Request) -> web.StreamResponse:
        async with state.glance(request) as exchange:
            exchange.check_key(bearer(request))
            await exchange.begin()
            wanted = request.match_info.get("id")
            if wanted is not None and wanted not in state.server.models:
                raise unknown_model(state.server.speaks, wanted)
            listed = [_model(state, model) for model in state.server.models]
            if wanted is not None:
                return as_json(_model(state, wanted))
            return as_json({"object": "list", "data": listed})

    return handle


def _model(state: State, name: str) -> dict[str, object]:
    described: dict[str, object] = {"id": name, "object": "model", "created": 0}
    described["owned_by"] = "library" if state.server.speaks == "ollama" else state.name
    if state.server.speaks == "openai":
        described["max_model_len"] = state.server.context_tokens
    return described


def _refusals(state: State) -> Middleware:
    """Everything that is refused, in the words of the server that is played."""

    @web.middleware
    async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refusal as refusal:
            return _refused(state, refusal)
        except ApiError as error:
            return as_json(error.body, status=error.status)

    return refusals


def _refused(state: State, refusal: Refusal) -> web.Response:
    if state.server.speaks == "google":
        return google.refused(refusal)
    body = refusal_body(state.server.speaks, refusal)
    return as_json(body, status=refusal.status, headers=refusal.headers)
