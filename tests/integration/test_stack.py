"""Who is found at the configured addresses, and what is said when it is someone else."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from runner import stack as module
from runner.config import Config
from runner.errors import ServiceError
from runner.livekit_server import check_access
from runner.services import Command, Report, Service
from runner.stack import Need, stack
from tests.composed import composed
from tests.ports import free_ports

PATIENCE_S = 60.0
LIVEKIT, MODELS = frozenset({Need.LIVEKIT}), frozenset({Need.MODELS})


class Diary:
    """A `Report` that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __call__(self, name: str, message: str) -> None:
        self.lines.append((name, message))


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    livekit, tcp, udp, models = free_ports(4)
    return composed(
        f"livekit.url=ws://localhost:{livekit}",
        f"livekit.tcp_port={tcp}",
        f"livekit.udp_port={udp}",
        f"models.port={models}",
        f"deployment.data_dir={tmp_path}",
    )


def changed(config: Config, *overrides: str) -> Config:
    """``config`` with its addresses, and ``overrides``."""
    return composed(
        f"livekit.url={config.livekit.url}",
        f"livekit.tcp_port={config.livekit.tcp_port}",
        f"livekit.udp_port={config.livekit.udp_port}",
        f"models.port={config.models.port}",
        f"deployment.data_dir={config.deployment.data_dir}",
        *overrides,
    )


def port_of(config: Config) -> int:
    return int(config.livekit.url.rpartition(":")[2])


async def refused(config: Config, wanted: frozenset[Need]) -> str:
    """The one sentence with which a stack does not start."""
    with pytest.raises(ServiceError) as told:
        async with stack(config, wanted, Diary()):
            pass
    assert "\n" not in str(told.value)
    return str(told.value)


async def test_a_second_runner_uses_the_first_ones_livekit(config: Config) -> None:
    first, second = Diary(), Diary()
    async with stack(config, LIVEKIT, first) as owner, stack(config, LIVEKIT, second) as guest:
        assert guest.keys == owner.keys
        await check_access(config.livekit, guest.keys)
    assert ("livekit", "starting") in first.lines
    assert second.lines == [("livekit", "ready, it runs already")]


async def test_the_livekit_of_others_is_left_alone_and_the_variables_for_its_keys_are_named(
    config: Config, tmp_path: Path
) -> None:
    async with stack(config, LIVEKIT, Diary()) as owner:
        stranger = changed(config, f"deployment.data_dir={tmp_path / 'stranger'}")
        told = await refused(stranger, LIVEKIT)
        await check_access(config.livekit, owner.keys)
    assert "refuses the API key and secret" in told
    assert "LIVEKIT_API_KEY and LIVEKIT_API_SECRET" in told
    assert owner.keys.api_secret not in told


async def test_a_port_of_livekit_that_another_server_has_is_named_with_its_key(
    config: Config,
) -> None:
    with socket.create_server(("127.0.0.1", port_of(config))):  # accepts, says nothing
        told = await refused(config, LIVEKIT)
    assert f"Port {port_of(config)} is taken by something that is not a LiveKit server" in told
    assert "livekit.url" in told


async def test_a_media_port_that_is_taken_is_named_with_its_key(config: Config) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", config.livekit.udp_port))
        told = await refused(config, LIVEKIT)
    assert f"Port {config.livekit.udp_port} is taken" in told
    assert "livekit.udp_port" in told


async def test_no_livekit_is_started_against_the_configuration(config: Config) -> None:
    told = await refused(changed(config, "deployment.start_livekit=false"), LIVEKIT)
    assert "deployment.start_livekit is false" in told
    assert "livekit.url" in told


async def test_a_livekit_elsewhere_that_does_not_answer_is_not_replaced(config: Config) -> None:
    told = await refused(changed(config, "livekit.url=ws://livekit.invalid:7880"), LIVEKIT)
    assert "No LiveKit server answers at ws://livekit.invalid:7880 (livekit.url)" in told


@pytest.fixture
async def neighbour(config: Config) -> AsyncIterator[dict[str, object]]:
    """A web server at the model server's port, and what it says of its health."""
    health: dict[str, object] = {}

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.json_response(health)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", config.models.port).start()
    yield health
    await runner.cleanup()


async def test_a_model_server_that_runs_is_used(
    config: Config, neighbour: dict[str, object]
) -> None:
    neighbour.update(status="ok", versions={}, waiting={})
    diary = Diary()
    async with stack(config, MODELS, diary):
        assert diary.lines == [("models", "ready, it runs already")]


async def test_a_port_of_the_models_that_another_server_has_is_named_with_its_key(
    config: Config, neighbour: dict[str, object]
) -> None:
    neighbour.update(status="ok")  # as many servers say
    told = await refused(config, MODELS)
    assert f"Port {config.models.port} is taken by something that is not the model server" in told
    assert "models.port" in told


async def test_no_model_server_is_started_against_the_configuration(config: Config) -> None:
    told = await refused(changed(config, "deployment.start_models=false"), MODELS)
    assert "deployment.start_models is false" in told


async def test_a_service_that_dies_for_good_reaches_the_owner(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = tmp_path / "die"

    def mortal(*_: object) -> Service:
        async def prepare(_: Report) -> Command:
            code = f"import os, time\nwhile not os.path.exists({str(go_on)!r}): time.sleep(.01)"
            return Command((sys.executable, "-c", code))

        async def ready() -> bool:
            return True

        return Service("models", prepare, ready)

    monkeypatch.setattr(module.model_server, "service", mortal)
    monkeypatch.setattr("runner.services._FIRST_PAUSE_S", 0.001)
    async with stack(config, MODELS, Diary()) as running:
        go_on.touch()
        with pytest.raises(ServiceError, match="models was given up"):
            await asyncio.wait_for(running.failed(), PATIENCE_S)


async def test_nothing_is_open_any_more_after_the_block(config: Config) -> None:
    async with stack(config, LIVEKIT, Diary()):
        pass
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(config.livekit.url.replace("ws", "http", 1))
