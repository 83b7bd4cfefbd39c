"""The operator's port: the metrics, and the state of the providers and of the documents."""

from collections.abc import Callable

from aiohttp import web

from runner.config import Operator
from runner.errors import ServiceError
from runner.metrics import CONTENT_TYPE, Metrics
from runner.same_site import same_site
from runner.switchboard import Switchboard

_SHUTDOWN_TIMEOUT_S = 2.0


async def start_operator_api(
    config: Operator,
    switchboard: Switchboard,
    metrics: Metrics,
    documents: Callable[[], dict[str, object]],
) -> web.AppRunner:
    """Serves at ``operator.host`` and ``operator.port`` until the result is cleaned up.

    Raises:
        ServiceError: the address cannot be bound.
    """

    async def page(_: web.Request) -> web.Response:
        return web.Response(body=metrics.page(), headers={"Content-Type": CONTENT_TYPE})

    async def providers(_: web.Request) -> web.Response:
        return web.json_response(state_of(switchboard))

    async def library(_: web.Request) -> web.Response:
        return web.json_response(documents())

    app = web.Application(middlewares=[same_site(config.host, config.port)])
    app.router.add_get("/metrics", page)
    app.router.add_get("/api/providers", providers)
    app.router.add_get("/api/documents", library)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, config.host, config.port).start()
    except OSError as error:
        await runner.cleanup()
        raise ServiceError(
            f"Port {config.port} on {config.host} cannot be opened for the operator "
            f"({error.strerror}). Set operator.port to another port."
        ) from None
    return runner


def state_of(switchboard: Switchboard) -> dict[str, object]:
    """Permits, and each provider of which something is known."""
    return {
        "permits": {
            "allowed": switchboard.permits,
            "in_flight": switchboard.in_flight,
            "waiting": switchboard.waiting,
        },
        "providers": [
            {
                "capability": capability,
                "name": name,
                "state": str(breaker.state),
                "reason": breaker.reason and str(breaker.reason),
            }
            for (capability, name), breaker in switchboard.breakers()
        ],
    }
