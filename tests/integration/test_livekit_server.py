"""A real LiveKit server as a child: its keys, what it opens, and who else may be at its address."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from aiohttp import web
from livekit import api, rtc

from runner import livekit_server
from runner.config import LiveKit
from runner.errors import ServiceError
from runner.folders import cache_dir
from runner.livekit_server import Answer, Keys, check_access, who_answers
from runner.services import Supervisor, port_taken
from tests.composed import composed
from tests.ports import free_ports

PATIENCE_S = 60.0
KEYS = Keys("a-key", "0" * 40)  # digits alone: YAML would read a number


def settings() -> LiveKit:
    http, tcp, udp = free_ports(3)
    overrides = [
        f"livekit.url=ws://localhost:{http}",
        f"livekit.tcp_port={tcp}",
        f"livekit.udp_port={udp}",
    ]
    return composed(*overrides).livekit


def silent(_: str, __: str) -> None:
    """A `Report` that tells nobody."""


@pytest.fixture
async def server(user_cache: Path) -> AsyncIterator[tuple[LiveKit, int]]:
    """A running server and its process."""
    config = settings()
    before = set(psutil.Process().children())
    async with Supervisor(silent, PATIENCE_S) as supervisor:
        await supervisor.start([livekit_server.service(config, KEYS, user_cache)])
        (child,) = [
            process
            for process in set(psutil.Process().children()) - before
            if "livekit" in process.name()
        ]
        yield config, child.pid


@pytest.fixture
def user_cache() -> Path:
    """The cache of the user who runs the tests: a server is built there at most once."""
    return cache_dir(composed().deployment)


async def test_our_server_takes_its_keys_and_lets_a_participant_in(
    server: tuple[LiveKit, int],
) -> None:
    config, _ = server
    assert await who_answers(config) is Answer.LIVEKIT
    await check_access(config, KEYS)
    room = rtc.Room()
    await room.connect(config.url, _token())
    assert room.isconnected()
    await room.disconnect()


async def test_the_server_ends_when_asked_although_a_caller_is_still_there(
    user_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, room = settings(), rtc.Room()
    async with Supervisor(silent, PATIENCE_S) as supervisor:
        await supervisor.start([livekit_server.service(config, KEYS, user_cache)])
        await room.connect(config.url, _token())
    await room.disconnect()
    assert not [line for line in caplog.messages if "is killed" in line]


def _token() -> str:
    grants = api.VideoGrants(room_join=True, room="a-room")
    token = api.AccessToken(KEYS.api_key, KEYS.api_secret).with_identity("me")
    return token.with_grants(grants).to_jwt()


async def test_a_wrong_secret_is_told_in_one_sentence_that_holds_no_secret(
    server: tuple[LiveKit, int],
) -> None:
    config, _ = server
    with pytest.raises(ServiceError) as refused:
        await check_access(config, Keys("a-key", "wrong" * 10))
    told = str(refused.value)
    assert config.url in told
    assert "LIVEKIT_API_KEY" in told
    assert "LIVEKIT_API_SECRET" in told
    assert "wrong" not in told
    assert KEYS.api_secret not in told
    assert "\n" not in told


async def test_the_secret_cannot_be_seen_by_other_users(server: tuple[LiveKit, int]) -> None:
    _, pid = server
    assert KEYS.api_secret not in " ".join(psutil.Process(pid).cmdline())


async def test_everything_that_the_server_opens_is_on_loopback(
    server: tuple[LiveKit, int],
) -> None:
    config, pid = server
    opened = [
        found.laddr
        for found in psutil.Process(pid).net_connections()
        if found.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
    ]
    assert {address.ip for address in opened} == {"127.0.0.1"}
    assert {address.port for address in opened} == {livekit_server.port(config), config.udp_port}


async def test_media_over_tcp_can_be_asked_for(user_cache: Path) -> None:
    config = replace(settings(), media_over_tcp=True)
    async with Supervisor(silent, PATIENCE_S) as supervisor:
        await supervisor.start([livekit_server.service(config, KEYS, user_cache)])
        assert port_taken("", config.tcp_port)


async def test_the_environment_of_the_user_does_not_lead_the_server_astray(
    user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_HOST", "127.0.0.1:1")
    monkeypatch.setenv("UDP_PORT", "1")
    monkeypatch.setenv("NODE_IP", "192.0.2.1")
    monkeypatch.setenv("LIVEKIT_KEYS", "other: keys")
    config = settings()
    async with Supervisor(silent, PATIENCE_S) as supervisor:
        await supervisor.start([livekit_server.service(config, KEYS, user_cache)])
        await check_access(config, KEYS)


async def test_nobody_at_the_address_is_told() -> None:
    config = settings()
    assert await who_answers(config) is Answer.NOBODY
    with pytest.raises(
        ServiceError, match=r"No LiveKit server answers at .*\(livekit.url\): connection refused"
    ):
        await check_access(config, KEYS)


@pytest.mark.parametrize("body", ['{"status": "ok"}', "<html>hello</html>", ""])
async def test_another_web_server_is_not_taken_for_livekit(body: str) -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(text=body)

    config = settings()
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", livekit_server.port(config)).start()
    assert await who_answers(config) is Answer.OTHER
    await runner.cleanup()


async def test_a_server_that_speaks_no_http_is_not_taken_for_livekit() -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-something\r\n")
        writer.close()

    config = settings()
    port = livekit_server.port(config)
    async with await asyncio.start_server(babble, "127.0.0.1", port):
        assert await who_answers(config) is Answer.OTHER


async def test_a_short_secret_is_refused_before_a_server_is_started_with_it(
    tmp_path: Path,
) -> None:
    service = livekit_server.service(settings(), Keys("devkey", "secret"), tmp_path)
    with pytest.raises(ServiceError, match="LIVEKIT_API_SECRET is shorter than 32"):
        await service.prepare(silent)


async def test_a_cache_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    monkeypatch.setenv("PATH", str(tmp_path))
    service = livekit_server.service(settings(), KEYS, tmp_path / "cache")
    async with Supervisor(silent, PATIENCE_S) as supervisor:
        with pytest.raises(ServiceError, match=str(tmp_path / "cache")):
            await supervisor.start([service])
