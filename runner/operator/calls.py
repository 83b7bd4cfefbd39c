"""The calls that are on: seen, listened to, ended."""

import json
from typing import Annotated, Any

from aiohttp import web
from pydantic import AwareDatetime, StringConstraints

from runner import calls
from runner.operator.archive import Archive
from runner.operator.routes import Actor, Done, Events, Given, Plain, Refused, Route, Shown
from runner.operator.streams import Streams
from runner.rooms import Rooms


class Room(Given):
    """Of a call."""

    room: Annotated[Plain, StringConstraints(min_length=1, max_length=255)]


class Last(Shown):
    """The latest answer: its times, and who served it."""

    stages_s: dict[str, float]
    served_by: dict[str, str | None]
    services: dict[str, dict[str, Any]]


class Call(Shown):
    """A call that is on. Who calls is not known in its first moments."""

    session_id: str | None
    room: str
    caller: str | None
    began_at: AwareDatetime
    state: str
    provider: str | None
    language: str | None
    turns: int
    last: Last | None


class Calls:
    """Those of this worker."""

    def __init__(self, live: calls.Calls, rooms: Rooms, archive: Archive, streams: Streams) -> None:
        self._live = live
        self._rooms = rooms
        self._archive = archive
        self._streams = streams

    def routes(self) -> list[Route]:
        """What is served of them."""
        gone = {404: "There is no call in that room."}
        return [
            Route("GET", "/api/calls", self.all),
            Route("GET", "/api/calls/{room}/captions", self.captions, gone),
            Route("POST", "/api/calls/{room}/end", self.end, gone),
        ]

    async def all(self) -> list[Call]:
        """The calls that are on."""
        return [_shown(call) for call in self._live]

    async def captions(self, place: Room, request: web.Request) -> Events:
        """What is said in a call from now on: an event a message, as the call page gets it.

        An event with `interim` holds the words so far of a message that is still being said; the
        next event of the same role takes its place. It ends with the call. Nothing of it is kept.
        """
        self._call(place.room)
        with self._live.captions(place.room) as heard:
            async with self._streams.open(request) as stream:
                while self._live.get(place.room):
                    if told := await stream.next(heard):
                        await stream.send(json.dumps(told))
        return stream.response

    async def end(self, place: Room, by: Actor) -> Done:
        """End a call, for all who are in it."""
        call = self._call(place.room)
        await self._archive.note(by, "end the call in", place.room, before=_seen(call))
        await self._rooms.close(place.room)
        await self._archive.end_call(place.room)
        return Done(done="The call is ended.")

    def _call(self, room: str) -> calls.Call:
        if call := self._live.get(room):
            return call
        raise Refused(404, "There is no call in that room. It may have ended.")


def _shown(call: calls.Call) -> Call:
    who = call.who
    return Call(
        session_id=who.session_id,
        room=call.room,
        caller=who.caller,
        began_at=call.began_at,
        state=call.state,
        provider=_provider(call),
        language=who.language,
        turns=call.turns,
        last=Last(**call.last) if call.last else None,
    )


def _provider(call: calls.Call) -> str | None:
    """Who served last, else who is asked first."""
    served: str | None = call.last["served_by"].get("llm") if call.last else None
    return served or call.who.provider


def _seen(call: calls.Call) -> dict[str, object]:
    return {"session_id": call.who.session_id, "turns": call.turns}
