"""What plots are drawn from."""

from runner.calls import Call
from runner.timeline import STEP_S, Timeline

CALL = Call("call-1")


def told(e2e: float, failovers: int = 0) -> dict[str, object]:
    services = {"llm": {"failovers": [{}] * failovers}}
    return {"role": "assistant", "stages_s": {"e2e": e2e}, "services": services}


class Clock:
    now = 1_000_000.0 * STEP_S

    def __call__(self) -> float:
        return self.now


def test_percentiles_and_counts_of_each_step():
    clock = Clock()
    timeline = Timeline(clock)
    for number in range(1, 21):
        timeline.turn(CALL, told(number / 10))
    timeline.turn(CALL, {"role": "user"})
    clock.now += STEP_S
    timeline.turn(CALL, told(9.0, failovers=2))
    timeline.wait(3)
    timeline.wait(1)
    plots = timeline.plots(minutes=1)
    assert (plots.step_s, plots.since) == (STEP_S, clock.now - 3 * STEP_S)
    assert plots.series["turns_per_minute"] == [0.0, 0.0, 80.0, 4.0]
    assert plots.series["e2e_p50_s"] == [None, None, 1.0, 9.0]
    assert plots.series["e2e_p95_s"] == [None, None, 1.9, 9.0]
    assert plots.series["failovers"] == [0.0, 0.0, 0.0, 2.0]
    assert plots.series["waiting"] == [0.0, 0.0, 0.0, 3.0]


def test_long_times_have_wider_steps_and_the_same_turns():
    clock = Clock()
    timeline = Timeline(clock)
    for _ in range(10):
        timeline.turn(CALL, told(1.0))
        clock.now += STEP_S
    plots = timeline.plots(minutes=360)
    turns = [value * plots.step_s / 60 for value in plots.series["turns_per_minute"]]
    assert (len(turns), sum(turns)) == (120, 10.0)


def test_it_is_bounded():
    clock = Clock()
    timeline = Timeline(clock)
    for _ in range(2000):
        timeline.turn(CALL, told(1.0))
    assert sum(len(step.stages_s["e2e"]) for _, step in timeline._steps) == 500
    for _ in range(2000):
        timeline.wait(1)
        clock.now += STEP_S
    assert len(timeline._steps) == 6 * 3600 // STEP_S
