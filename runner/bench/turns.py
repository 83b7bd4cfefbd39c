"""What is measured: turns, rounds of them, and when a round does not count."""

from dataclasses import dataclass, field

OURS = "runner"
"""The arm that is this project's agent."""

MOST_CPU = 0.14
"""Of a core: a simulator or a driver that takes more measures itself."""

MOST_DRIFT_S = 0.005
"""How far the simulator may be from its own times."""


@dataclass(frozen=True)
class Turn:
    """One turn of one caller.

    ``e2e_s``: from the caller's last sound to the agent's first; null: not heard, or ``cut``: the
    agent took a pause for the end. ``made_s``: seconds after the caller's last sound at which
    the providers had the transcript, the first token and the first sound ready, as the simulator
    saw it; ``told_s``: stages as the agent itself tells them. ``failovers``: providers that
    failed. ``wrong``: the answer is not the one that was to be given.
    """

    run: str
    arm: str
    callers: int
    round: int
    caller: int
    turn: int
    utterance: int
    hesitates: bool
    e2e_s: float | None
    cut: bool = False
    wrong: bool = False
    made_s: dict[str, float] = field(default_factory=dict)
    told_s: dict[str, float] = field(default_factory=dict)
    failovers: int = 0

    @property
    def lost(self) -> bool:
        """Nobody answered."""
        return self.e2e_s is None and not self.cut


@dataclass(frozen=True)
class Round:
    """A number of turns of an arm at once. Shares of CPU are of one core, memory is in MB.

    ``run``: the fingerprint of all that was the same. ``cpu``, ``at_rest`` and ``idle``: the arm's
    CPU while callers talked, while all were silent, and before the first call. ``memory``: what the
    arm took with its calls, ``memory_idle`` before them. ``void``: why it does not count; empty: it
    does.
    """

    run: str
    arm: str
    callers: int
    round: int
    seconds: float
    cpu: float
    at_rest: float
    idle: float
    simulator_cpu: float
    driver_cpu: float
    driver_late_s: float
    drift_s: float
    memory: float
    memory_idle: float
    void: tuple[str, ...] = ()


def void_reasons(facts: Round, turns: list[Turn], *, in_rooms: bool) -> tuple[str, ...]:
    """Why a round does not count, by the protocol's rules; in rooms the callers are allowed
    to take CPU: a caller there costs as much as the agent.
    """
    reasons = []
    if facts.simulator_cpu > MOST_CPU:
        reasons.append(f"the simulator took {facts.simulator_cpu:.0%} of a core")
    if facts.driver_cpu > MOST_CPU and not in_rooms:
        reasons.append(f"the callers took {facts.driver_cpu:.0%} of a core")
    if abs(facts.drift_s) > MOST_DRIFT_S:
        reasons.append(f"the simulator was {facts.drift_s * 1000:+.0f} ms off")
    if wrong := sum(turn.wrong for turn in turns):
        reasons.append(f"{wrong} wrong answers")
    if cut := sum(turn.cut and not turn.hesitates for turn in turns):
        reasons.append(f"{cut} turns cut early")
    return tuple(reasons)
