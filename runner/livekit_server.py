"""The LiveKit server: its API key, whether one answers, and our own as a child process."""

import contextlib
import json
import os
import secrets
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import aiohttp
from google.protobuf.message import DecodeError
from livekit import api

from runner.config import LiveKit
from runner.errors import ServiceError
from runner.livekit_binary import livekit_binary
from runner.services import Command, Report, Service

_TIMEOUT = aiohttp.ClientTimeout(total=5, sock_connect=3)
_SECRET_CHARACTERS = 32  # the HMAC key of a token, RFC 7518 section 3.2; LiveKit warns below it
_LONGEST_ANSWER_BYTES = 10_000
_LIST_ROOMS = "/twirp/livekit.RoomService/ListRooms"


@dataclass(frozen=True)
class Keys:
    """What signs access to a LiveKit server."""

    api_key: str
    api_secret: str = field(repr=False)


class Answer(Enum):
    """Who answers at an address."""

    LIVEKIT = auto()
    OTHER = auto()
    NOBODY = auto()


def load_keys(config: LiveKit, data_dir: Path) -> Keys:
    """The keys of the environment, else those of ``data_dir``, which are made once.

    Raises:
        ServiceError: half a pair in the environment, or the file cannot be used.
    """
    names = (config.api_key_env, config.api_secret_env)
    given = {name: os.environ.get(name, "") for name in names}
    if all(given.values()):
        return Keys(*given.values())
    if any(given.values()):
        present, absent = sorted(names, key=lambda name: not given[name])
        raise ServiceError(f"{present} is set and {absent} is not; set both, or neither.")
    path = data_dir / "livekit.keys"
    try:
        if not path.exists():
            _make_keys(path)
        return _read_keys(path)
    except OSError as error:
        raise ServiceError(
            f"The LiveKit keys cannot be kept in {path}: {error.strerror}. "
            "Set deployment.data_dir to a folder that can be written."
        ) from error


def _make_keys(path: Path) -> None:
    """Write a new pair; of several runners that do so at once, the first one's stands."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pair = f"API{secrets.token_hex(6)}: {secrets.token_urlsafe(36)}\n"  # as LiveKit's key files
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        draft.touch(mode=0o600)
        draft.write_text(pair)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)


def _read_keys(path: Path) -> Keys:
    match path.read_text(errors="replace").split():
        case [key, secret] if key.endswith(":"):
            return Keys(key.removesuffix(":"), secret)
        case _:
            raise ServiceError(f'{path} does not hold "key: secret"; delete it to have a new one.')


async def who_answers(config: LiveKit) -> Answer:
    """Who answers at ``livekit.url``. LiveKit gives itself away by how it refuses a stranger."""
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as http,
            http.post(f"{http_url(config)}{_LIST_ROOMS}", json={}) as answer,
        ):
            body = json.loads(await answer.content.read(_LONGEST_ANSWER_BYTES))
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        return Answer.NOBODY
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return Answer.OTHER
    known = isinstance(body, dict) and body.get("code") == "unauthenticated"
    return Answer.LIVEKIT if known else Answer.OTHER


async def check_access(config: LiveKit, keys: Keys) -> None:
    """See that the server at ``livekit.url`` takes ``keys``.

    Raises:
        ServiceError: it does not, or does not answer.
    """
    try:
        async with api.LiveKitAPI(
            http_url(config), keys.api_key, keys.api_secret, timeout=_TIMEOUT, failover=False
        ) as server:
            await server.room.list_rooms(api.ListRoomsRequest())
    except api.ServerError as error:
        raise ServiceError(_refusal(config, error)) from None
    except (aiohttp.ClientError, TimeoutError, DecodeError) as error:
        raise ServiceError(
            f"No LiveKit server answers at {config.url} (livekit.url): {_reason(error)}."
        ) from None


def _reason(error: Exception) -> str:
    match error:
        case TimeoutError():
            return "no answer in time"
        case aiohttp.ClientConnectorDNSError():
            return "no host has that name"
        case aiohttp.ClientConnectorError() if error.os_error.errno:
            return os.strerror(error.os_error.errno).lower()
        case _:
            return str(error)


def _refusal(config: LiveKit, error: api.ServerError) -> str:
    at = f"The LiveKit server at {config.url}"
    if error.status == HTTPStatus.UNAUTHORIZED:
        return (
            f"{at} refuses the API key and secret: set {config.api_key_env} and "
            f"{config.api_secret_env} to the pair that it was started with, or livekit.url to "
            "another address."
        )
    return f"{at} failed with HTTP status {error.status}: {error.message or error.code}."


def service(config: LiveKit, keys: Keys, cache_dir: Path) -> Service:
    """Our own server on loopback, at the port of ``livekit.url``."""

    async def prepare(report: Report) -> Command:
        _check_secret(config, keys)
        binary = await livekit_binary(cache_dir, report)
        return Command((str(binary),), env=_environment(config, keys))

    async def ready() -> bool:
        try:
            await check_access(config, keys)
        except ServiceError:
            return False
        return await _healthy(config)

    return Service("livekit", prepare, ready)


async def _healthy(config: LiveKit) -> bool:
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as http,
            http.get(http_url(config)) as answer,
        ):
            return answer.ok
    except (aiohttp.ClientError, TimeoutError):
        return False


def _check_secret(config: LiveKit, keys: Keys) -> None:
    """A page of any site may open ws://localhost, so the secret must not be one to guess."""
    if len(keys.api_secret) < _SECRET_CHARACTERS:
        raise ServiceError(
            f"{config.api_secret_env} is shorter than {_SECRET_CHARACTERS} characters, and no "
            f"LiveKit server is started with that. Set a longer one, or unset it and "
            f"{config.api_key_env} to have a pair made."
        )


def _environment(config: LiveKit, keys: Keys) -> dict[str, str]:
    """The server's configuration, in its environment: unlike arguments, only its owner sees it."""
    rtc = {
        "tcp_port": config.tcp_port if config.media_over_tcp else 0,  # it has no address to bind
        "udp_port": config.udp_port,
        "use_external_ip": False,
        "node_ip": "127.0.0.1",
        "enable_loopback_candidate": True,
        "interfaces": {"includes": ["lo", "lo0"]},
        "ips": {"includes": ["127.0.0.1/32"]},
    }
    server = {
        "port": port(config),
        "bind_addresses": ["127.0.0.1"],
        "rtc": rtc,
        "logging": {"level": "warn"},
    }
    return {
        "LIVEKIT_CONFIG": json.dumps(server),
        "LIVEKIT_KEYS": json.dumps({keys.api_key: keys.api_secret}),
        "REDIS_HOST": "",  # these three would otherwise win over the configuration above
        "NODE_IP": "",
        "UDP_PORT": "",
    }


def port(config: LiveKit) -> int:
    """The port of ``livekit.url``, also where the address leaves it out."""
    parts = urlsplit(config.url)
    return parts.port or (443 if parts.scheme == "wss" else 80)


def http_url(config: LiveKit) -> str:
    """Where the server's API is."""
    parts: SplitResult = urlsplit(config.url)
    return parts._replace(scheme=parts.scheme.replace("ws", "http")).geturl()
