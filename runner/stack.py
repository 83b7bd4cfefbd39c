"""What a configuration stands on: what runs already is used, what is missing is started.

Every address is asked first; nothing that is not ours is ever stopped or written over.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncEngine

from runner import database, livekit_server, postgres
from runner.config import Config, GoogleRealtimeLLM, Models, RetrievalLLM
from runner.errors import DatabaseError, ServiceError
from runner.folders import cache_dir, data_dir
from runner.health import health
from runner.livekit_server import Answer, Keys
from runner.models import service as model_server
from runner.progress import Progress
from runner.services import READY, Report, Service, Supervisor, port_taken
from runner.simulator import service as simulator

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Need(StrEnum):
    """What a task cannot do without."""

    POSTGRES = "postgres"
    LIVEKIT = "livekit"
    MODELS = "models"
    SIMULATOR = simulator.NAME


@dataclass(frozen=True)
class Endpoints:
    """Where things are that the configuration does not say. Picklable, without secrets.

    ``postgres_socket``: the folder of the embedded Postgres' socket; None: the Postgres at
    ``database.host`` and ``database.port``. ``notes``: what stands in for what, and why.
    """

    postgres_socket: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Running:
    """A stack that serves. ``keys`` are empty where LiveKit was not asked for.

    ``failed`` waits until a service died for good, and then raises its ServiceError.
    """

    endpoints: Endpoints
    keys: Keys
    failed: Callable[[], Awaitable[NoReturn]]


@dataclass(frozen=True)
class _Part:
    """What was found for one need: the service to start, if any, and what to know of it."""

    service: Service | None = None
    postgres_socket: str | None = None
    note: str = ""


def needs(config: Config, *, calls: bool = True) -> frozenset[Need]:
    """What ``config`` needs; ``calls=False``: for a conversation in text."""
    wanted = {Need.POSTGRES}
    if calls:
        wanted.add(Need.LIVEKIT)
    if config.simulate:
        wanted.add(Need.SIMULATOR)
    if (calls and _speaks_by_models(config)) or _embeds_by_models(config):
        wanted.add(Need.MODELS)
    return frozenset(wanted)


def _speaks_by_models(config: Config) -> bool:
    """Whether a chain of STT or TTS ends in the model server. Realtime LLMs have no chain."""
    if isinstance(config.llm, GoogleRealtimeLLM):
        return False
    chain = (config.stt_tts, config.stand_in.speech)
    return any(speech is not None and speech.server == "embedded" for speech in chain)


def _embeds_by_models(config: Config) -> bool:
    llms = (config.llm, config.stand_in.llm, *(config.fallback[n] for n in config.failover.order))
    if not config.rag.enabled and not any(isinstance(llm, RetrievalLLM) for llm in llms):
        return False
    embedding = urlsplit(config.rag.embedding_url)
    return embedding.port == config.models.port and _same_host(
        embedding.hostname or "", config.models.host
    )


def _same_host(one: str, other: str) -> bool:
    return one == other or (one in _LOOPBACK and other in _LOOPBACK)


@asynccontextmanager
async def stack(config: Config, wanted: frozenset[Need], report: Report) -> AsyncIterator[Running]:
    """Everything in ``wanted``, ready, for as long as the block lasts.

    Raises:
        RunnerError: a part is neither there nor can be started; names the key.
    """
    keys = Keys("", "")
    if Need.LIVEKIT in wanted:
        keys = livekit_server.load_keys(config.livekit, data_dir(config.deployment))
    in_order = [need for need in Need if need in wanted]
    parts = await asyncio.gather(*(_find(need, config, keys, report) for need in in_order))
    sockets = [part.postgres_socket for part in parts if part.postgres_socket]
    endpoints = Endpoints(
        postgres_socket=sockets[0] if sockets else None,
        notes=tuple(part.note for part in parts if part.note),
    )
    async with Supervisor(report, config.deployment.ready_timeout_s) as supervisor:
        await supervisor.start([part.service for part in parts if part.service])
        yield Running(endpoints, keys, supervisor.failed)


@asynccontextmanager
async def database_pool(
    config: Config, wanted: frozenset[Need], *, task: str, pool_size: int
) -> AsyncIterator[AsyncEngine]:
    """The database of a task that takes no calls, prepared, with what else it wants beside it; the
    terminal shows how that gets ready.

    Raises:
        RunnerError: a part is neither there nor can be started; names the key.
    """
    async with AsyncExitStack() as exits:
        with Progress() as progress:
            running = await exits.enter_async_context(stack(config, wanted, progress))
            socket = running.endpoints.postgres_socket
            await database.prepare(config.database, socket, config.agent)
        engine = database.engine(
            config.database, socket, pool_size=pool_size, application_name=f"runner-{task}"
        )
        exits.push_async_callback(engine.dispose)
        yield engine


async def _find(need: Need, config: Config, keys: Keys, report: Report) -> _Part:
    match need:
        case Need.POSTGRES:
            part = await _postgres(config)
        case Need.LIVEKIT:
            part = await _livekit(config, keys)
        case Need.MODELS:
            part = await _models(config)
        case Need.SIMULATOR:
            part = await _simulator(config)
    if part.service is None:
        report(need, f"{READY}, it runs already")
    return part


async def _postgres(config: Config) -> _Part:
    """The Postgres of the configuration if it lets us in, else the embedded one."""
    try:
        await database.prepare(config.database, None, config.agent)
    except DatabaseError as error:
        refusal = str(error)
    else:
        return _Part()
    if reason := _why_not_embedded(config):
        raise ServiceError(f"{refusal} No other is started, because {reason}.")
    folder = data_dir(config.deployment)
    note = f"Postgres: the embedded one is used. {refusal}"
    if running := await asyncio.to_thread(postgres.find_running, folder):
        return _Part(postgres_socket=running, note=note)
    return _Part(postgres.service(folder), postgres.socket_dir(folder), note)


def _why_not_embedded(config: Config) -> str:
    """Why the user means the Postgres of the configuration and no other; empty: may be another."""
    variable, url = config.database.password_env, config.database.url_env
    if os.environ.get(url):
        return f"{url} is set (unset it to have an embedded one)"
    if config.database.host not in _LOOPBACK:
        return f"database.host is {config.database.host}"
    if os.environ.get(variable):
        return f"{variable} is set (unset it to have an embedded one)"
    if not config.deployment.start_postgres:
        return "deployment.start_postgres is false"
    return ""


async def _livekit(config: Config, keys: Keys) -> _Part:
    """The LiveKit server at ``livekit.url`` if it takes our keys, else one of our own."""
    here = _is_loopback(config.livekit.url)
    answer = await livekit_server.who_answers(config.livekit) if here else Answer.LIVEKIT
    if answer is Answer.OTHER:
        port = livekit_server.port(config.livekit)
        raise _taken(port, "livekit.url", "a LiveKit server")
    if answer is Answer.LIVEKIT:
        await livekit_server.check_access(config.livekit, keys)
        return _Part()
    if not config.deployment.start_livekit:
        raise ServiceError(
            f"No LiveKit server answers at {config.livekit.url} (livekit.url), and none is "
            "started, because deployment.start_livekit is false."
        )
    _check_media_ports(config)
    return _Part(livekit_server.service(config.livekit, keys, cache_dir(config.deployment)))


def _is_loopback(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "ws" and (parts.hostname or "") in _LOOPBACK


def _check_media_ports(config: Config) -> None:
    if config.livekit.media_over_tcp and port_taken("", config.livekit.tcp_port):
        raise _taken(config.livekit.tcp_port, "livekit.tcp_port")
    if port_taken("127.0.0.1", config.livekit.udp_port, socket.SOCK_DGRAM):
        raise _taken(config.livekit.udp_port, "livekit.udp_port")


async def _models(config: Config) -> _Part:
    """The model server at ``models.host`` and ``models.port``, or one of our own."""
    models = config.models
    if await _healthy(models):
        return _Part()
    if port_taken(models.host, models.port):
        raise _taken(models.port, "models.port", "the model server")
    if not config.deployment.start_models:
        raise ServiceError(
            f"No model server answers at {models.host}:{models.port} (models.host, models.port), "
            "and none is started, because deployment.start_models is false."
        )
    return _Part(model_server.service(models, cache_dir(config.deployment)))


async def _healthy(models: Models) -> bool:
    """Whether a server like ours answers, by the shape of its health."""
    told = await health(models.host, models.port)
    return told.get("status") == "ok" and "versions" in told


async def _simulator(config: Config) -> _Part:
    """The simulator that runs already, with this script from now on, or one of our own."""
    assert config.simulate is not None
    played = ", ".join(config.simulate.servers)
    note = f"Simulated, nobody real answers for them (simulate): {played}."
    if await simulator.play(config.simulate):
        return _Part(note=note)
    if port_taken(simulator.HOST, config.simulate.port):
        raise _taken(config.simulate.port, "simulate.port", "a simulator of the same servers")
    return _Part(simulator.service(config.simulate), note=note)


def _taken(port: int, key: str, expected: str = "") -> ServiceError:
    by = f"by something that is not {expected}" if expected else "by another program"
    return ServiceError(f"Port {port} is taken {by}. Stop that, or set {key} to another port.")
