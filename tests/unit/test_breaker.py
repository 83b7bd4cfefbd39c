"""When a provider is left alone, and when it is asked again."""

import pytest

from runner.breaker import Breaker, State
from runner.config import Breaker as Settings
from runner.providers.failure import Reason

SETTINGS = Settings(failures=3, window_s=30, probe_after_s=2, probe_longest_s=5)


@pytest.fixture
def breaker() -> Breaker:
    return Breaker(SETTINGS)


def opened(breaker: Breaker, now: float = 100.0) -> Breaker:
    for _ in range(3):
        breaker.failed(Reason.BROKEN, now)
    return breaker


def test_it_opens_after_so_many_failures_within_the_window(breaker: Breaker) -> None:
    assert not breaker.failed(Reason.SILENT, 0)
    assert not breaker.failed(Reason.BROKEN, 10)
    assert not breaker.failed(Reason.CUT, 35)  # the first is too long ago
    assert breaker.failed(Reason.CUT, 36)
    assert (breaker.state, breaker.probe_at) == (State.OPEN, 38)


def test_a_success_between_takes_no_failure_back(breaker: Breaker) -> None:
    breaker.failed(Reason.BROKEN, 0)
    breaker.failed(Reason.BROKEN, 1)
    breaker.served()
    assert breaker.failed(Reason.BROKEN, 2)


@pytest.mark.parametrize("reason", [Reason.REJECTED, Reason.EMPTY])
def test_what_a_request_is_to_blame_for_does_not_count(breaker: Breaker, reason: Reason) -> None:
    for now in range(10):
        assert not breaker.failed(reason, now)
    assert breaker.state is State.CLOSED


def test_a_refused_key_opens_it_at_once(breaker: Breaker) -> None:
    assert breaker.failed(Reason.REFUSED, 0)
    assert breaker.state is State.OPEN


def test_a_probe_that_serves_closes_it(breaker: Breaker) -> None:
    opened(breaker)
    breaker.probing()
    assert breaker.state is State.HALF_OPEN
    breaker.probed(None, 102)
    assert breaker.state is State.CLOSED
    assert not breaker.failed(Reason.BROKEN, 103)  # it counts from the beginning


def test_each_probe_that_fails_doubles_the_wait_up_to_the_longest(breaker: Breaker) -> None:
    opened(breaker)
    for now, expected in ((102, 106), (106, 111), (111, 116)):
        breaker.probing()
        breaker.probed(Reason.SILENT, now)
        assert (breaker.state, breaker.probe_at) == (State.OPEN, expected)


def test_one_that_served_though_it_was_left_alone_is_closed(breaker: Breaker) -> None:
    assert opened(breaker).served()
    assert breaker.state is State.CLOSED


def test_a_pause_that_it_asked_for_is_kept_and_then_over(breaker: Breaker) -> None:
    assert breaker.failed(Reason.BUSY, 100, retry_after_s=7)
    assert breaker.state is State.RESTING
    assert not breaker.rested(106.9)
    assert breaker.rested(107)
    assert breaker.state is State.CLOSED


def test_a_longer_pause_wins_over_a_shorter(breaker: Breaker) -> None:
    breaker.failed(Reason.BUSY, 100, retry_after_s=7)
    assert not breaker.failed(Reason.BUSY, 101, retry_after_s=1)
    assert breaker.probe_at == 107
