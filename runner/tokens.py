"""Tokens: how a caller gets into a room of their own, and back into it; how many one address may
have.
"""

import ipaddress
import math
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import jwt
from livekit import api

_NOBODY_CAME_S = 30  # a room into which nobody came is closed after it
_IN_A_ROOM = 2  # the caller and the agent
_WAY_BACK = timedelta(hours=12)  # after a token's end; longer than any call
_WINDOW_S = 60.0
_MAX_ADDRESSES = 10_000


@dataclass(frozen=True)
class Access:
    """How callers get into rooms: the LiveKit server as browsers reach it, the key that signs
    tokens, and the agent that is dispatched to each room. A room is kept for ``grace_s`` after its
    caller was lost.
    """

    server_url: str
    api_key: str
    api_secret: str = field(repr=False)
    agent_name: str
    grace_s: int


@dataclass(frozen=True)
class Seat:
    """A caller's place: a room of their own, and who they are in it. Nobody can guess either."""

    room: str = field(default_factory=lambda: f"call-{secrets.token_hex(8)}")
    identity: str = field(default_factory=lambda: f"caller-{secrets.token_hex(8)}")
    attributes: dict[str, str] = field(default_factory=dict)


def seat_of(access: Access, token: str) -> Seat | None:
    """The place for which ``token`` once was made, though the time to join with it may be over;
    None: it is not ours, or older than any call."""
    verifier = api.TokenVerifier(access.api_key, access.api_secret, leeway=_WAY_BACK)
    try:
        claims = verifier.verify(token)
    except (jwt.PyJWTError, TypeError, ValueError, AttributeError):
        return None
    if claims.video is None or not claims.video.room_join or not claims.identity:
        return None
    return Seat(claims.video.room, claims.identity, claims.attributes or {})


def caller_token(access: Access, seat: Seat, ttl_s: int) -> str:
    """A token (JWT) for a seat: microphone and text, nothing else.

    ``ttl_s`` bounds the time until the caller joins, not the call.
    """
    grants = api.VideoGrants(
        room_join=True,
        room=seat.room,
        can_publish=True,
        can_publish_sources=["microphone"],
        can_publish_data=True,
        can_subscribe=True,
        can_update_own_metadata=False,
        can_manage_agent_session=False,
    )
    config = api.RoomConfiguration(
        empty_timeout=_NOBODY_CAME_S,
        departure_timeout=access.grace_s,
        max_participants=_IN_A_ROOM,
        agents=[api.RoomAgentDispatch(agent_name=access.agent_name)],
    )
    return (
        api.AccessToken(access.api_key, access.api_secret)
        .with_identity(seat.identity)
        .with_attributes(seat.attributes)
        .with_ttl(timedelta(seconds=ttl_s))
        .with_grants(grants)
        .with_room_config(config)
        .to_jwt()
    )


class RateLimit:
    """At most ``per_minute`` grants to one address in any sixty seconds.

    Exact: it remembers the time of each grant. Bounded: it remembers 10,000 addresses and
    forgets first the one that has been idle longest. An IPv6 network of 64 bits is one address,
    because every home has a whole one.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._grants: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, address: str) -> int:
        """0 and counted when ``address`` may have one more now, else the seconds to wait."""
        key, now = _network(address), self._clock()
        grants = self._grants.setdefault(key, deque())
        while grants and grants[0] <= now - _WINDOW_S:
            grants.popleft()
        if len(grants) >= self._per_minute:
            return math.ceil(grants[0] + _WINDOW_S - now)
        grants.append(now)
        self._grants.move_to_end(key)
        if len(self._grants) > _MAX_ADDRESSES:
            self._grants.popitem(last=False)
        return 0


def _network(address: str) -> str:
    """What is counted as one caller: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
