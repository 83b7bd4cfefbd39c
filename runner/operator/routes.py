"""A route: what its handler takes and gives is what the handler's types say. By them requests are
checked, answers written, and the API described (`runner.operator.description`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, get_type_hints

from aiohttp import web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

_BODY_TIMEOUT_S = 10.0
_LARGEST_INTEGER = 2**31 - 1  # of PostgreSQL's INTEGER


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("text without the character NUL")
    return text


Plain = Annotated[
    str, AfterValidator(_without_nul), Field(json_schema_extra={"pattern": r"^[^\u0000]*$"})
]
"""A text that PostgreSQL can hold."""

Number = Annotated[int, Field(ge=1, le=_LARGEST_INTEGER)]
"""The id of a row."""


class Given(BaseModel):
    """Base of what requests bring: what is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class Shown(BaseModel):
    """Base of what answers hold."""

    model_config = ConfigDict(from_attributes=True)


class Done(Shown):
    """A change was made."""

    done: str


class Events(web.StreamResponse):
    """An answer as server-sent events."""


class Whole(web.Response):
    """An answer that a handler wrote by itself. ``kind``: its media type."""

    kind = "text/plain"

    @classmethod
    def shape(cls) -> dict[str, Any]:
        """Its JSON schema."""
        return {"type": "string"}


class Upload:
    """A file that comes as ``multipart/form-data`` in the field ``file``, not read yet."""

    def __init__(self, request: web.Request) -> None:
        self.request = request


class Actor(str):
    """Who changes something, as it stands in the audit table."""

    __slots__ = ()


ACTOR = web.RequestKey("actor", Actor)


class Refused(Exception):  # noqa: N818  an answer, no error of the runner
    """The request is not carried out. Its sentence says why, and what to do."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers


class Route:
    """``handler`` takes some of ``place`` (of the path), ``query``, ``body`` (JSON), ``upload``,
    ``by`` (an `Actor`) and ``request``. ``refusals``: by status, why it may be refused. ``public``:
    nobody need be known to ask it.

    ``takes``: the types of what the handler takes, by name. ``gives``: that of its answer;
    ``writes``: the handler writes it by itself.
    """

    def __init__(
        self,
        method: str,
        path: str,
        handler: Callable[..., Awaitable[Any]],
        refusals: dict[int, str] | None = None,
        *,
        public: bool = False,
    ) -> None:
        self.method = method
        self.path = path
        self.handler = handler
        self.refusals = refusals or {}
        self.public = public
        self.takes = get_type_hints(handler, include_extras=True)
        self.gives: Any = self.takes.pop("return")
        self.writes = isinstance(self.gives, type) and issubclass(self.gives, web.StreamResponse)
        self._writer = None if self.writes else TypeAdapter(self.gives)

    @property
    def changes(self) -> bool:
        """Whether it does more than show."""
        return self.method != "GET"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answers a request.

        Raises:
            Refused: it does not fit.
        """
        values = {name: await _value(name, kind, request) for name, kind in self.takes.items()}
        answer = await self.handler(**values)
        if self._writer is None:
            written: web.StreamResponse = answer
            return written
        body = self._writer.dump_json(answer, by_alias=True)
        return web.Response(body=body, content_type="application/json")


async def _value(name: str, kind: Any, request: web.Request) -> Any:
    match name:
        case "place":
            return _checked(kind, dict(request.match_info))
        case "query":
            return _checked(kind, _query(request))
        case "body":
            return await _body(kind, request)
        case "upload":
            return Upload(request)
        case "by":
            return request[ACTOR]
        case _:
            return request


def _query(request: web.Request) -> dict[str, str]:
    if len(set(request.query)) != len(request.query):
        raise Refused(422, "Each part of the query may be given once.")
    return dict(request.query)


def _checked(kind: type[BaseModel], values: dict[str, str]) -> BaseModel:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise Refused(422, _told(error)) from None


async def _body(kind: type[BaseModel], request: web.Request) -> BaseModel:
    if request.content_type != "application/json":
        raise Refused(415, "The body must be JSON, with Content-Type: application/json.")
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            content = await request.read()
        return kind.model_validate_json(content)
    except TimeoutError:
        raise Refused(408, "The body did not come in time.") from None
    except ValidationError as error:
        raise Refused(422, _told(error)) from None


def _told(error: ValidationError) -> str:
    """The first misfits, without what was sent: it may be a secret."""
    lines = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False)[:5]:
        where = ".".join(str(part) for part in detail["loc"]) or "body"
        lines.append(f"{where}: {detail['msg'].removeprefix('Value error, ')}")
    return f"The request does not fit. {'; '.join(lines)}."
