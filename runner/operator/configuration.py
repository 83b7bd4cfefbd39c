"""The composed configuration, and where each of its values comes from."""

from collections.abc import Callable
from typing import Any

from runner.config import Config
from runner.live import overlay
from runner.operator.routes import Route, Shown
from runner.origins import Kind, Origin, flat
from runner.store import Store

_HIDDEN = "…"


class Entry(Shown):
    """A key. ``origin``: where its value comes from; ``source``: which file, variable, or word of
    the command line that is."""

    key: str
    value: Any
    origin: Kind
    source: str


class Configuration:
    """What new calls get. ``origins``: of the composed configuration."""

    def __init__(
        self, config: Config, store: Store, origins: Callable[[], dict[str, Origin]]
    ) -> None:
        self._config = config
        self._store = store
        self._origins = origins

    def routes(self) -> list[Route]:
        """What is served of it."""
        return [Route("GET", "/api/configuration", self.all)]

    async def all(self) -> list[Entry]:
        """Every key with its value and its origin. Secrets are none of it: only the names of the
        variables that hold them; headers, which may hold some, are left out.
        """
        live, _ = overlay(self._config, await self._store.live_settings())
        composed, now, origins = flat(self._config), flat(live), self._origins()
        return [
            Entry(
                key=key,
                value=_HIDDEN if ".headers." in key else value,
                origin=origin.kind if composed.get(key) == value else "system_config",
                source=origin.source if composed.get(key) == value else "",
            )
            for key, value in now.items()
            for origin in [origins.get(key, Origin("default"))]
        ]
