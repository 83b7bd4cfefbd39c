"""Lanes: turns in order, bounds, what hanging up ends."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from runner.models.lanes import Lane, LaneFullError


class Work:
    """Steps that are recorded; the first waits until it may go on."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def long(self) -> Iterator[str]:
        self.begun.set()
        self.go_on.wait()
        for number in range(3):
            self.done.append(f"long {number}")
            yield f"long {number}"

    def short(self) -> Iterator[str]:
        self.done.append("short")
        yield "short"


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane("test", 1, 1)
    yield lane
    lane.close()


async def all_of(lane: Lane, steps: Iterator[str]) -> list[str]:
    return [step async for step in lane.turns(steps)]


async def begun(work: Work) -> None:
    await asyncio.to_thread(work.begun.wait)


async def test_a_short_request_goes_between_the_pieces_of_a_long_one(lane):
    work = Work()
    long = asyncio.create_task(all_of(lane, work.long()))
    await begun(work)
    short = asyncio.create_task(all_of(lane, work.short()))
    await asyncio.sleep(0)  # the short one is in the queue
    work.go_on.set()
    assert await long == ["long 0", "long 1", "long 2"]
    assert await short == ["short"]
    assert work.done == ["long 0", "short", "long 1", "long 2"]


async def test_nothing_more_is_done_for_a_caller_who_hung_up(lane):
    work = Work()
    long = asyncio.create_task(all_of(lane, work.long()))
    await begun(work)
    long.cancel()
    work.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await long
    assert await all_of(lane, work.short()) == ["short"]
    assert work.done == ["long 0", "short"]


async def test_a_lane_turns_away_the_one_more_than_may_wait(lane):
    with lane.place():
        assert lane.waiting == 0
        with lane.place():
            assert lane.waiting == 1
            with pytest.raises(LaneFullError), lane.place():
                pass
        with lane.place():
            assert lane.waiting == 1
    assert lane.waiting == 0


async def test_what_fails_in_a_step_fails_where_it_is_awaited(lane):
    def steps() -> Iterator[str]:
        yield "first"
        raise ValueError("second")

    turns = lane.turns(steps())
    assert await anext(turns) == "first"
    with pytest.raises(ValueError, match="second"):
        await anext(turns)
