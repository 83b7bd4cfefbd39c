"""The rooms of the LiveKit server, as those see them who look after the calls."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from livekit import api

from runner.config import LiveKit
from runner.errors import ServiceError
from runner.livekit_server import Keys, http_url

_TIMEOUT = aiohttp.ClientTimeout(total=5, sock_connect=3)
_NOT_FOUND = "not_found"


class Rooms:
    """Every method raises `ServiceError` where the server does not do it."""

    def __init__(self, config: LiveKit, keys: Keys) -> None:
        self._config = config
        self._keys = keys

    async def callers(self, room: str) -> list[str]:
        """The identities of those who are in a room and are no agents."""
        async with self._server() as server:
            answer = await server.room.list_participants(api.ListParticipantsRequest(room=room))
        standard = api.ParticipantInfo.Kind.STANDARD
        return [found.identity for found in answer.participants if found.kind == standard]

    async def dispatch(self, room: str) -> None:
        """Asks for an agent in a room; any worker of its name may send one."""
        request = api.CreateAgentDispatchRequest(agent_name=self._config.agent_name, room=room)
        async with self._server() as server:
            await server.agent_dispatch.create_dispatch(request)

    async def close(self, room: str) -> None:
        """Ends a call for all who are in it; a room that is gone already is closed."""
        async with self._server() as server:
            try:
                await server.room.delete_room(api.DeleteRoomRequest(room=room))
            except api.ServerError as error:
                if error.code != _NOT_FOUND:
                    raise

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[api.LiveKitAPI]:
        try:
            async with api.LiveKitAPI(
                http_url(self._config),
                self._keys.api_key,
                self._keys.api_secret,
                timeout=_TIMEOUT,
                failover=False,
            ) as server:
                yield server
        except (api.ServerError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ServiceError(
                f"The LiveKit server at {self._config.url} did not do it: {error}"
            ) from None
