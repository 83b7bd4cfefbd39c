"""Settings that change while calls run: rows of ``system_config`` over the configuration."""

from collections.abc import Iterator
from typing import Annotated, Any, get_type_hints

from pydantic import JsonValue, StringConstraints, TypeAdapter

from runner.config import Config
from runner.live import LIVE, overlay
from runner.operator.archive import Archive
from runner.operator.routes import Actor, Done, Given, Plain, Refused, Route, Shown
from runner.store import Store


class Key(Given):
    """Of a setting."""

    key: Annotated[Plain, StringConstraints(min_length=1, max_length=255)]


class Value(Given):
    """Its value."""

    value: JsonValue


class Setting(Shown):
    """A key. ``type`` and ``allowed``: its type and its bounds, as JSON Schema has them.
    ``composed``: the configuration's value; ``live``: what every new call has instead, if
    ``is_set``. ``trouble``: why that is ignored."""

    key: str
    description: str
    type: str
    allowed: dict[str, Any]
    composed: JsonValue
    is_set: bool
    live: JsonValue
    trouble: str | None


class Settings:
    """All keys that may change, and what is in the table besides."""

    def __init__(self, config: Config, store: Store, archive: Archive) -> None:
        self._config = config
        self._store = store
        self._archive = archive

    def routes(self) -> list[Route]:
        """What is served of them."""
        gone = {404: "There is no such setting."}
        return [
            Route("GET", "/api/settings", self.all),
            Route("PUT", "/api/settings/{key}", self.set, gone),
            Route("DELETE", "/api/settings/{key}", self.unset, gone),
        ]

    async def all(self) -> list[Setting]:
        """Every key that may change while calls run."""
        rows = await self._store.live_settings()
        known = dict(_known(self._config))
        return [
            *(_setting(self._config, key, meaning, rows) for key, meaning in known.items()),
            *(_stranger(key, rows[key], self._config) for key in rows if key not in known),
        ]

    async def set(self, place: Key, body: Value, by: Actor) -> Done:
        """Change a setting for every new call. Calls that are on keep theirs."""
        known = dict(_known(self._config))
        if place.key not in known:
            raise Refused(404, "No such setting changes while calls run.")
        rows = await self._store.live_settings()
        if trouble := _trouble(self._config, rows | {place.key: body.value}, place.key):
            raise Refused(422, trouble)
        before = {"value": rows[place.key]} if place.key in rows else None
        await self._archive.note(by, "set", place.key, before, {"value": body.value})
        await self._archive.set_setting(place.key, body.value, known[place.key])
        return Done(done=f"Every new call has the new {place.key}.")

    async def unset(self, place: Key, by: Actor) -> Done:
        """Go back to the configuration's value."""
        rows = await self._store.live_settings()
        if place.key not in rows:
            raise Refused(404, "That setting is the configuration's already.")
        await self._archive.note(by, "unset", place.key, {"value": rows[place.key]})
        await self._archive.delete_setting(place.key)
        return Done(done=f"Every new call has the configuration's {place.key}.")


def _known(config: Config) -> Iterator[tuple[str, str]]:
    """The keys of this configuration that may change, with what they do."""
    for pattern, meaning in LIVE.items():
        for name in config.fallback if "*" in pattern else [""]:
            key = pattern.replace("*", name)
            if _at(config, key) is not None:
                yield key, meaning


def _at(config: Config, key: str) -> tuple[Any, Any] | None:
    """The value of a key, and its type; None: this configuration has no such key."""
    value: Any = config
    kind: Any = Config
    for part in key.split("."):
        if isinstance(value, dict):
            found = {name: (item, type(item)) for name, item in value.items()}
        else:
            hints = get_type_hints(type(value), include_extras=True)
            found = {
                name: (getattr(value, name), hint)
                for name, hint in hints.items()
                if not name.startswith("_")
            }
        if part not in found:
            return None
        value, kind = found[part]
    return value, kind


def _setting(config: Config, key: str, meaning: str, rows: dict[str, object]) -> Setting:
    found = _at(config, key)
    assert found is not None
    composed, kind = found
    allowed = TypeAdapter(kind).json_schema()
    kinds = [allowed, *allowed.get("anyOf", [])]
    return Setting(
        key=key,
        description=meaning,
        type=next((str(shape["type"]) for shape in kinds if "type" in shape), "any"),
        allowed=allowed,
        composed=composed,
        is_set=key in rows,
        live=_json(rows.get(key)),
        trouble=_trouble(config, rows, key) if key in rows else None,
    )


def _stranger(key: str, value: object, config: Config) -> Setting:
    return Setting(
        key=key,
        description="no setting of this configuration",
        type="any",
        allowed={},
        composed=None,
        is_set=True,
        live=_json(value),
        trouble=_trouble(config, {key: value}, key),
    )


def _trouble(config: Config, rows: dict[str, object], key: str) -> str | None:
    """Why a row is ignored."""
    _, ignored = overlay(config, rows)
    return next((said for said in ignored if said.startswith(f"system_config: {key} is")), None)


def _json(value: object) -> JsonValue:
    return TypeAdapter(JsonValue).validate_python(value)
