"""Permits in the order of asking, breakers that are probed."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from runner.breaker import State
from runner.config import Breaker as Settings
from runner.metrics import Metrics
from runner.outcome import Key, Outcome
from runner.providers.failure import Failure, Reason
from runner.switchboard import Switchboard

SETTINGS = Settings(failures=2, window_s=30, probe_after_s=0.001, probe_longest_s=0.002)
VLLM: Key = ("LLM", "vllm")


class Probe:
    """Fails so many times, and then serves."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.asked: list[Key] = []

    async def __call__(self, key: Key) -> None:
        self.asked.append(key)
        if len(self.asked) <= self.failures:
            raise Failure(Reason.UNREACHABLE, "connection refused")


def board(permits: int = 2, probe: Probe | None = None) -> Switchboard:
    return Switchboard(permits, SETTINGS, probe or Probe(), Metrics())


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110  what is waited for has no event
        await asyncio.sleep(0)


async def test_permits_are_given_in_the_order_of_asking() -> None:
    switchboard, order = board(permits=2), []

    async def ask(number: int) -> None:
        async with switchboard.permit():
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(ask(number) for number in range(20)))
    assert order == list(range(20))


async def test_those_in_flight_and_those_who_wait_are_seen() -> None:
    switchboard, go = board(permits=2), asyncio.Event()

    async def ask() -> None:
        async with switchboard.permit():
            await go.wait()

    asking = [asyncio.create_task(ask()) for _ in range(5)]
    await until(lambda: switchboard.waiting == 3)
    assert switchboard.in_flight == 2
    go.set()
    await asyncio.gather(*asking)
    assert (switchboard.in_flight, switchboard.waiting) == (0, 0)


async def test_one_who_gives_up_waiting_leaves_the_line() -> None:
    switchboard = board(permits=1)
    async with AsyncExitStack() as held:
        await held.enter_async_context(switchboard.permit())
        waiting = asyncio.create_task(switchboard.permit().__aenter__())
        await until(lambda: switchboard.waiting == 1)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert switchboard.waiting == 0
    async with switchboard.permit():
        assert switchboard.in_flight == 1


async def test_one_that_fails_is_left_alone_until_a_probe_serves() -> None:
    probe, heard = Probe(failures=2), []
    async with board(probe=probe) as switchboard:
        switchboard.listen(lambda: heard.append(switchboard.state(VLLM)))
        for _ in range(2):
            switchboard.report(Outcome(VLLM, Reason.SILENT))
        assert switchboard.state(VLLM) is State.OPEN
        await until(lambda: switchboard.state(VLLM) is State.CLOSED)
    assert probe.asked == [VLLM] * 3
    assert heard == [State.OPEN, State.CLOSED]


async def test_one_that_opens_again_is_probed_again() -> None:
    probe = Probe()
    async with board(probe=probe) as switchboard:
        for asked in (1, 2):
            for _ in range(2):
                switchboard.report(Outcome(VLLM, Reason.SILENT))
            await until(lambda: switchboard.state(VLLM) is State.CLOSED)
            assert len(probe.asked) == asked


async def test_a_pause_is_over_without_a_probe() -> None:
    probe = Probe()
    async with board(probe=probe) as switchboard:
        switchboard.report(Outcome(VLLM, Reason.BUSY, retry_after_s=0.002))
        assert switchboard.state(VLLM) is State.RESTING
        await until(lambda: switchboard.state(VLLM) is State.CLOSED)
    assert probe.asked == []


async def test_a_probe_with_a_bug_is_a_probe_that_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(_: Key) -> None:
        raise ZeroDivisionError

    switchboard = Switchboard(1, SETTINGS, broken, Metrics())
    async with switchboard:
        switchboard.report(Outcome(VLLM, Reason.REFUSED))
        await until(lambda: "went wrong" in caplog.text)
        assert switchboard.state(VLLM) is not State.CLOSED


async def test_no_probe_is_left_behind() -> None:
    async with board(probe=Probe(failures=1_000_000)) as switchboard:
        switchboard.report(Outcome(VLLM, Reason.REFUSED))
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_metrics_count_what_was_reported() -> None:
    metrics = Metrics()
    async with Switchboard(3, SETTINGS, Probe(failures=9), metrics) as switchboard:
        for _ in range(2):
            switchboard.report(Outcome(VLLM, Reason.SILENT))
        after = (("vllm", Reason.SILENT),)
        switchboard.report(Outcome(("LLM", "ollama"), instead_of=after))
        switchboard.report(Outcome(("LLM", "openrouter"), lost=True))
        async with switchboard.permit():
            page = metrics.page().decode()
    for line in (
        'runner_requests_total{capability="LLM",outcome="silent",provider="vllm"} 2.0',
        'runner_requests_total{capability="LLM",outcome="served",provider="ollama"} 1.0',
        'runner_requests_total{capability="LLM",outcome="lost",provider="openrouter"} 1.0',
        (
            'runner_failovers_total{capability="LLM",provider="vllm",reason="silent",'
            'served_by="ollama"} 1.0'
        ),
        'runner_breaker_open{capability="LLM",provider="vllm"} 1.0',
        'runner_llm_permits{state="allowed"} 3.0',
        'runner_llm_permits{state="in_flight"} 1.0',
        'runner_llm_permits{state="waiting"} 0.0',
        "runner_llm_permit_wait_seconds_count 1.0",
    ):
        assert line in page.splitlines()
