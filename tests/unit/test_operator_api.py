"""The operator's port: what it shows, and to whom."""

import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from runner.config import Breaker, Operator
from runner.errors import ServiceError
from runner.metrics import Metrics
from runner.operator_api import start_operator_api
from runner.providers.failure import Reason
from runner.switchboard import Key, Outcome, Switchboard


async def never(_: Key) -> None:
    raise AssertionError


@pytest.fixture
async def url() -> AsyncIterator[str]:
    metrics = Metrics()
    async with Switchboard(20, Breaker(1, 30, 60, 60), never, metrics) as switchboard:
        switchboard.report(Outcome(("LLM", "vllm"), Reason.SILENT))
        config = Operator("127.0.0.1", 0)
        runner = await start_operator_api(config, switchboard, metrics, lambda: {"documents": 3})
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        await runner.cleanup()


async def get(url: str, **headers: str) -> tuple[int, str]:
    async with aiohttp.request("GET", url, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_the_metrics_are_prometheus(url: str) -> None:
    status, page = await get(f"{url}/metrics")
    assert status == 200
    assert 'runner_breaker_open{capability="LLM",provider="vllm"} 1.0' in page


async def test_the_state_of_the_providers_and_of_the_documents_is_shown(url: str) -> None:
    _, providers = await get(f"{url}/api/providers")
    assert '"name": "vllm", "state": "open", "reason": "silent"' in providers
    assert '"waiting": 0' in providers
    assert await get(f"{url}/api/documents") == (200, '{"documents": 3}')


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}], ids=str
)
async def test_pages_of_other_sites_see_nothing(url: str, headers: dict[str, str]) -> None:
    status, text = await get(f"{url}/api/providers", **headers)
    assert status == 403
    assert "vllm" not in text


async def test_a_port_that_is_taken_is_named_with_its_key() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        config = Operator("127.0.0.1", holder.getsockname()[1])
        board = Switchboard(1, Breaker(1, 30, 60, 60), never, Metrics())
        with pytest.raises(ServiceError, match=r"Set operator\.port"):
            await start_operator_api(config, board, Metrics(), dict)
