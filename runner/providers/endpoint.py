"""An OpenAI-shaped server: what is posted to it, and what it means when it does not serve."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp

from runner.providers.failure import Failure, Reason
from runner.providers.refusals import Asked, of_error, of_response, shown

_CONNECT_S = 5.0
_ERROR_BYTES = 16_384
_ERROR_S = 1.0  # an error's text is worth no longer wait
_WHOLE_BYTES = 4_000_000  # an answer that is no stream; OpenRouter's list of models is one
_WHY_LOST = (
    (TimeoutError, f"no connection within {_CONNECT_S:g} s"),
    (aiohttp.ClientConnectorCertificateError, "its certificate is not trusted"),
    (aiohttp.ClientConnectorSSLError, "no TLS there; is it http instead of https?"),
    (aiohttp.ServerDisconnectedError, "it closed the connection without an answer"),
    (aiohttp.InvalidURL, "base_url is no address"),
)
_WAITS = aiohttp.ClientTimeout(total=None, connect=_CONNECT_S)


class Endpoint:
    """A server: its name in messages, its address, its key and the variable that holds it.

    It sets no deadline but one for the connection: whoever waits keeps the time, and closes.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str,
        http: aiohttp.ClientSession,
        *,
        key_env: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self._base_url = base_url
        self._key, self._key_env = api_key.strip(), key_env
        self._headers = {"Accept-Encoding": "identity"} | (headers or {})  # no packing that waits
        if self._key:
            self._headers["Authorization"] = f"Bearer {self._key}"
        self._http = http

    def __str__(self) -> str:
        return f"{self.name} at {self._base_url}"

    def asked(self, model: str, private: tuple[str, ...] = ()) -> Asked:
        """What is needed to say in a sentence why a request was refused: for which model, without
        repeating which texts."""
        return Asked(model, self._key_env, self._key, private)

    def post(
        self, path: str, asked: Asked, **body: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """The answer to a POST, see `_request`."""
        return self._request("POST", path, asked, **body)

    def get(self, path: str, asked: Asked) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """The answer to a GET, see `_request`."""
        return self._request("GET", path, asked)

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, asked: Asked, **body: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a request, its status checked. Leaving early closes the connection.

        Redirects are not followed: what a caller says goes where the configuration says.

        Raises:
            Failure: the server was not reached, refused, or broke off while its answer was read.
        """
        if not self._key.isprintable():
            what = f"the key in {self._key_env} holds a line break; set a valid one"
            raise self.failure(Reason.REFUSED, what)
        response = None
        try:
            async with self._http.request(
                method,
                f"{self._base_url}{path}",
                headers=self._headers,
                timeout=_WAITS,
                allow_redirects=False,
                **body,
            ) as response:
                if response.status >= 300:
                    text = await _error_text(response)
                    raise of_response(str(self), asked, response.status, response.headers, text)
                yield response
        except (aiohttp.ClientError, OSError) as error:
            raise self._lost(error, answered=response is not None) from None

    async def read_json(self, response: aiohttp.ClientResponse, asked: Asked) -> dict[str, Any]:
        """The whole answer, an object that is no error.

        Raises:
            Failure: it is too long, no object, or an error.
        """
        body = bytearray()
        async for data in response.content.iter_any():
            body += data
            if len(body) > _WHOLE_BYTES:
                raise self.failure(Reason.MALFORMED, "its answer is too long")
        try:
            answer = json.loads(bytes(body))
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise self.failure(Reason.MALFORMED, "its answer is no JSON object")
        if answer.get("error"):
            raise of_error(str(self), asked, answer["error"])
        return answer

    def failure(self, reason: Reason, what: str) -> Failure:
        """A failure of this server; ``what`` happened, in words."""
        return Failure(reason, f"{self}: {what}")

    def _lost(self, error: Exception, *, answered: bool) -> Failure:
        if answered:
            return self.failure(Reason.CUT, "the connection broke in the middle of its answer")
        if isinstance(error, aiohttp.ClientResponseError):
            return self.failure(Reason.MALFORMED, "it does not speak HTTP")
        return self.failure(Reason.UNREACHABLE, why_lost(error))


def why_lost(error: Exception) -> str:
    """Why there is no connection, in a few words."""
    for kind, words in _WHY_LOST:
        if isinstance(error, kind):
            return words
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"no such host {error.host}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _strerror(error.os_error)
    if isinstance(error, OSError):
        return _strerror(error)
    return shown(str(error)) or type(error).__name__


def _strerror(error: OSError) -> str:
    """Happy eyeballs may join several errors into one without a number."""
    return os.strerror(error.errno).lower() if error.errno else "no connection"


async def _error_text(response: aiohttp.ClientResponse) -> str:
    """The beginning of an error's body, or what of it comes in time."""
    body = bytearray()
    try:
        async with asyncio.timeout(_ERROR_S):
            while len(body) < _ERROR_BYTES and (data := await response.content.read(_ERROR_BYTES)):
                body += data
    except (TimeoutError, aiohttp.ClientError):
        pass  # its status says enough
    return body[:_ERROR_BYTES].decode(errors="replace")
