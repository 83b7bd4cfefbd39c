"""The line to an embedding server, for texts that are asked for one by one."""

import asyncio
from urllib.parse import urlencode

import aiohttp

_ANSWER_S = 10.0
_CLOSE_S = 1.0


class EmbeddingLine:
    """A WebSocket beside ``/v1/embeddings``, held open: a caller waits for the embedding of each
    question, and an HTTP request around it takes half as long as the model.

    The model server has one. A server that has none is asked for it once.
    """

    def __init__(self, url: str, model: str) -> None:
        self._url = f"{url}/line?{urlencode({'model': model})}"
        self._timeout = aiohttp.ClientWSTimeout(ws_receive=_ANSWER_S, ws_close=_CLOSE_S)
        self._one_by_one = asyncio.Lock()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._refused = False

    async def ask(self, http: aiohttp.ClientSession, text: str) -> bytes | None:
        """The vector of ``text`` in little-endian float32; None: there is no line now."""
        async with self._one_by_one:
            if self._refused:
                return None
            answer = None
            try:
                if self._socket is None:
                    self._socket = await http.ws_connect(self._url, timeout=self._timeout)
                await self._socket.send_str(text)
                answer = await self._socket.receive_bytes()
            except aiohttp.WSServerHandshakeError:
                self._refused = True
            except (aiohttp.ClientError, aiohttp.WSMessageTypeError, TimeoutError):
                pass  # HTTP says better what is wrong
            finally:
                if answer is None:
                    await self.aclose()
            return answer

    async def aclose(self) -> None:
        """Hangs up; the next question opens another."""
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()
