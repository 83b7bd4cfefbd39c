"""The API described by OpenAPI 3.1, from the types of its handlers."""

import inspect
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter

from runner.operator.routes import Events, Route, Upload

_REF = "#/components/schemas/{model}"
_ERROR = {"$ref": "#/components/schemas/Error"}
_ERRORS = {
    400: "The request is none that HTTP knows.",
    401: "Nobody has logged in, or the token is wrong.",
    403: "The request comes from another site, or a change lacks the header X-Runner.",
    404: "There is no such thing.",
    413: "The request is too large.",
    415: "The body has another format.",
    422: "The request does not fit.",
    429: "Too many requests.",
    503: "The database or a service does not answer.",
}
_GUARD = {
    "name": "X-Runner",
    "in": "header",
    "required": True,
    "description": "No other site's page can send it.",
    "schema": {"type": "string", "const": "1"},
}
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "runner-operator"},
}


def described(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The OpenAPI document of ``routes``."""
    adapters = list(_adapters(routes))
    schemas, shared = TypeAdapter.json_schemas(adapters, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for number, route in enumerate(routes):
        given = schemas.get(((number, "body"), "validation"))
        shown = schemas.get(((number, "answer"), "serialization"))
        paths.setdefault(_plain(route.path), {})[route.method.lower()] = _operation(
            route, given, shown
        )
    error = {
        "type": "object",
        "properties": {"error": {"type": "string"}},
        "required": ["error"],
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "The operator's API of voice-agent-runner", "version": version},
        "paths": paths,
        "components": {
            "schemas": {**shared.get("$defs", {}), "Error": error},
            "securitySchemes": _SECURITY,
        },
    }


def _adapters(routes: Sequence[Route]) -> Any:
    for number, route in enumerate(routes):
        if "body" in route.takes:
            yield (number, "body"), "validation", TypeAdapter(route.takes["body"])
        if not route.writes:
            yield (number, "answer"), "serialization", TypeAdapter(route.gives)


def _operation(route: Route, given: Any, shown: Any) -> dict[str, Any]:
    summary, _, rest = (inspect.getdoc(route.handler) or "").partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": route.handler.__qualname__.replace(".", "_").lower(),
        "summary": " ".join(summary.split()),
        "parameters": list(_parameters(route)),
        "responses": _responses(route, shown),
        "security": [{}] if route.public else [{"bearer": []}, {"cookie": []}, {}],
    }
    if rest:
        operation["description"] = rest
    if body := _request_body(route, given):
        operation["requestBody"] = body
    return operation


def _request_body(route: Route, given: Any) -> dict[str, Any] | None:
    if given is not None:
        return {"required": True, "content": {"application/json": {"schema": given}}}
    if route.takes.get("upload") is Upload:
        file = {"type": "string", "contentMediaType": "application/octet-stream"}
        form = {"type": "object", "properties": {"file": file}, "required": ["file"]}
        return {"required": True, "content": {"multipart/form-data": {"schema": form}}}
    return None


def _responses(route: Route, shown: Any) -> dict[str, Any]:
    media = "application/json"
    if route.gives is Events:
        media, shown = "text/event-stream", {"type": "string"}
    elif route.writes:
        media, shown = route.gives.kind, route.gives.shape()
    content = {media: {"schema": shown}}
    errors = {
        str(status): {"description": why, "content": {"application/json": {"schema": _ERROR}}}
        for status, why in sorted((_ERRORS | route.refusals).items())
    }
    return {"200": {"description": "As asked.", "content": content}, **errors}


def _parameters(route: Route) -> Any:
    for name, where in (("place", "path"), ("query", "query")):
        if name in route.takes:
            yield from _of_model(route.takes[name], where)
    if route.changes:
        yield _GUARD


def _of_model(model: type[BaseModel], where: str) -> list[dict[str, Any]]:
    schema = model.model_json_schema()
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": where,
            "required": where == "path" or name in required,
            "schema": {key: value for key, value in shape.items() if key != "title"},
        }
        for name, shape in schema["properties"].items()
    ]


def _plain(path: str) -> str:
    """``/x/{name:.+}`` as OpenAPI has it: ``/x/{name}``."""
    return "/".join(
        part.partition(":")[0] + "}" if ":" in part else part for part in path.split("/")
    )
