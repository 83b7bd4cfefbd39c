"""All of the operator's port, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from runner.config import Config
from runner.gauges import Seen
from runner.indexing import Indexing
from runner.metrics import CONTENT_TYPE, Metrics
from runner.operator.archive import Archive
from runner.operator.audit import Audit
from runner.operator.calls import Calls
from runner.operator.configuration import Configuration
from runner.operator.description import described
from runner.operator.documents import Documents
from runner.operator.events import EventsApi
from runner.operator.health import Examine, HealthApi
from runner.operator.instructions import InstructionsApi
from runner.operator.plots import PlotsApi
from runner.operator.providers import Providers
from runner.operator.routes import Route, Whole
from runner.operator.sessions import Sessions
from runner.operator.settings import Settings
from runner.operator.site import Doorman, start_site
from runner.operator.streams import Streams
from runner.origins import Composition, origins
from runner.personas import Personas
from runner.rag.search import Search
from runner.rooms import Rooms
from runner.store import Store
from runner.switchboard import Switchboard


@dataclass(frozen=True)
class Office:
    """What the operator sees, and where changes are made."""

    config: Config
    engine: AsyncEngine
    rooms: Rooms
    switchboard: Switchboard
    seen: Seen
    indexing: Indexing
    search: Search
    examine: Examine
    composition: Composition


class Exposition(Whole):
    """The metrics."""

    kind = CONTENT_TYPE.partition(";")[0]


class Metered:
    """The metrics, and the API's own description."""

    def __init__(self, metrics: Metrics, known: list[Route]) -> None:
        self._metrics = metrics
        self._known = known

    def routes(self) -> list[Route]:
        """What is served of them."""
        return [
            Route("GET", "/metrics", self.metrics),
            Route("GET", "/openapi.json", self.description),
        ]

    async def metrics(self) -> Exposition:
        """What Prometheus reads."""
        return Exposition(body=self._metrics.page(), headers={"Content-Type": CONTENT_TYPE})

    async def description(self) -> dict[str, Any]:
        """This description."""
        return described(self._known, _version())


@asynccontextmanager
async def operator_api(office: Office) -> AsyncIterator[web.AppRunner]:
    """Serves the operator's port for as long as the block lasts.

    Raises:
        ServiceError: the address cannot be bound.
    """
    doorman = Doorman(office.config.operator)
    site = await start_site(office.config.operator, doorman, routes(office, doorman))
    try:
        yield site
    finally:
        await site.cleanup()


def routes(office: Office, doorman: Doorman) -> list[Route]:
    """Every route of the API."""
    config, archive, store = office.config, Archive(office.engine), Store(office.engine)
    streams = Streams()
    live = Calls(office.seen.calls, office.rooms, archive, streams)
    providers = Providers(config, office.switchboard, archive)
    documents = Documents(config.rag, office.indexing, archive, office.search)
    plots = PlotsApi(office.seen.timeline)
    looks = {
        "calls": live.all,
        "providers": providers.all,
        "documents": documents.if_changed,
        "plots": plots.if_changed,
    }
    known: list[Route] = [Route("POST", "/api/login", doorman.login, public=True)]
    for subject in (
        *(live, Sessions(archive), documents, providers, plots, Audit(archive)),
        InstructionsApi(Personas(office.engine), archive),
        Settings(config, store, archive),
        Configuration(config, store, partial(origins, config, office.composition)),
        HealthApi(office.examine),
        EventsApi(streams, office.seen.calls, looks),
    ):
        known += subject.routes()
    known += Metered(office.seen.metrics, known).routes()
    return known


def _version() -> str:
    try:
        return version("voice-agent-runner")
    except PackageNotFoundError:
        return "0"
