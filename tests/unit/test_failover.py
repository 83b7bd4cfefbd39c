"""A chain: who is asked when, for how long, and what the record says of it."""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from runner.breaker import State
from runner.config import Config, Failover
from runner.failover import Chain, Member
from runner.outcome import Key, Outcome
from runner.providers.failure import Failure, Reason
from runner.record import Exhausted, Record, together

FOREVER_S = 60.0
Step = str | float | Exception | None


class Scripted:
    """Gives its words; an exception among them is raised, a number is waited for in seconds, None
    for ever. A list of scripts: one for each time it is asked."""

    def __init__(self, *scripts: list[Step]) -> None:
        self.scripts = list(scripts)
        self.asked = 0
        self.open = 0

    async def answer(self) -> AsyncGenerator[str, None]:
        script = self.scripts[min(self.asked, len(self.scripts) - 1)]
        self.asked += 1
        self.open += 1
        try:
            for step in script:
                if step is None:
                    await asyncio.sleep(FOREVER_S)
                elif isinstance(step, Exception):
                    raise step
                elif isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    yield step
        finally:
            self.open -= 1


@dataclass
class Desk:
    """Lets everything through, unless ``states`` says otherwise, and remembers what it is told."""

    states: dict[Key, State] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)

    @asynccontextmanager
    async def permit(self):
        yield 0.0

    def state(self, key: Key) -> State:
        return self.states.get(key, State.CLOSED)

    def report(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


class Talk:
    """A chain over scripted providers a, b, c…, and what it delivered."""

    def __init__(self, policy: Failover, *providers: Scripted, first_s: float = FOREVER_S) -> None:
        self.providers = providers
        self.desk = Desk()
        names = "abc"[: len(providers)]
        members = [
            Member(name, provider, f"model-{name}", first_s, first_s)
            for name, provider in zip(names, providers, strict=True)
        ]
        self.chain = Chain("LLM", members, self.desk, policy)
        self.record = Record()
        self.words: list[str] = []

    async def hear(self, *, resumes: bool = False) -> str:
        def deliver(word: str) -> bool:
            if word.startswith(":"):
                return False
            self.words.append(word)
            return True

        await self.chain.serve(
            lambda one: one.answer(), deliver, record=self.record, resumes=resumes
        )
        return " ".join(self.words)

    @property
    def asked(self) -> list[int]:
        return [provider.asked for provider in self.providers]


@pytest.fixture
def policy(settings: Config) -> Failover:
    return replace(settings.failover, backoff_s=0.001, patience_s=0.001)


REFUSED = Failure(Reason.UNREACHABLE, "connection refused")
WRONG_KEY = Failure(Reason.REFUSED, "wrong key")
DIED = Failure(Reason.CUT, "the answer has no end")


async def test_the_first_serves_and_nobody_else_is_asked(policy: Failover) -> None:
    talk = Talk(policy, Scripted(["hello", "you"]), Scripted(["never"]))
    assert await talk.hear() == "hello you"
    assert talk.asked == [1, 0]
    assert talk.record.metadata()["provider"] == "a"
    assert talk.desk.outcomes == [Outcome(("LLM", "a"))]


async def test_the_next_serves_when_one_fails_and_both_are_on_record(policy: Failover) -> None:
    talk = Talk(policy, Scripted([REFUSED]), Scripted(["second"]))
    assert await talk.hear() == "second"
    assert talk.record.metadata() == {
        "provider": "b",
        "model": "model-b",
        "attempts": 2,
        "failovers": [{"provider": "a", "reason": "unreachable"}],
        "permit_wait_s": 0.0,
    }
    assert talk.desk.outcomes == [
        Outcome(("LLM", "a"), Reason.UNREACHABLE),
        Outcome(("LLM", "b"), instead_of=(("a", Reason.UNREACHABLE),)),
    ]


async def test_a_keep_alive_is_no_output(policy: Failover) -> None:
    keepalive: list[Step] = [":", 0.01] * 1000
    talk = Talk(policy, Scripted(keepalive), Scripted(["second"]), first_s=0.05)
    assert await talk.hear() == "second"
    assert talk.record.failed[0].reason is Reason.SILENT


async def test_a_gap_within_the_stall_is_waited_for(policy: Failover) -> None:
    talk = Talk(policy, Scripted(["one", 0.01, "two"]), Scripted(["never"]), first_s=FOREVER_S)
    assert await talk.hear() == "one two"


async def test_nobody_is_late_for_what_a_busy_loop_had_not_read(policy: Failover) -> None:
    """The provider's word lies in a socket while the loop does something else."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)

    class Remote(Scripted):
        async def answer(self) -> AsyncGenerator[str, None]:
            yield "one"
            yield (await reader.readline()).decode().strip()

    def be_busy() -> None:
        theirs.sendall(b"two\n")
        time.sleep(0.3)

    asyncio.get_running_loop().call_later(0.05, be_busy)
    talk = Talk(policy, Remote([]), Scripted(["else"]), first_s=0.1)
    try:
        assert await talk.hear() == "one two"
    finally:
        writer.close()
        theirs.close()


async def test_a_provider_with_nobody_behind_it_is_given_longer(policy: Failover) -> None:
    talk = Talk(replace(policy, patience_s=FOREVER_S), Scripted([0.03, "late"]), first_s=0.001)
    assert await talk.hear() == "late"


async def test_a_round_in_which_nobody_answered_is_tried_again_and_no_more_than_three_times(
    policy: Failover,
) -> None:
    talk = Talk(policy, Scripted([REFUSED], [REFUSED], ["third"]))
    assert await talk.hear() == "third"
    never = Talk(policy, Scripted([REFUSED]))
    with pytest.raises(Exhausted, match="no LLM answered \\(a: connection refused\\)"):
        await never.hear()
    assert never.asked == [3]


async def test_a_wrong_key_is_never_tried_again(policy: Failover) -> None:
    talk = Talk(policy, Scripted([WRONG_KEY]), Scripted([REFUSED], ["served"]))
    assert await talk.hear() == "served"
    assert talk.asked == [1, 2]


HEARD_NOTHING = Failure(Reason.EMPTY, "it heard nothing")


async def test_what_everyone_finds_empty_is_asked_once_of_each_and_shames_nobody(
    policy: Failover,
) -> None:
    talk = Talk(
        replace(policy, backoff_s=FOREVER_S),
        Scripted([HEARD_NOTHING], ["heard"]),
        Scripted([HEARD_NOTHING]),
    )
    with pytest.raises(Exhausted):
        await talk.hear()
    talk.record = Record()
    assert await talk.hear() == "heard"
    assert talk.asked == [2, 1]


async def test_what_was_begun_is_gone_on_with_by_the_next(policy: Failover) -> None:
    talk = Talk(policy, Scripted(["half", DIED]), Scripted(["rest"]))
    assert await talk.hear(resumes=True) == "half rest"
    assert talk.record.speaker == "b"


async def test_what_was_begun_is_left_where_it_cannot_be_gone_on_with(policy: Failover) -> None:
    talk = Talk(policy, Scripted(["half", DIED]), Scripted(["never"]))
    with pytest.raises(Exhausted):
        await talk.hear()
    assert (talk.words, talk.asked) == (["half"], [1, 0])


async def test_one_that_died_while_it_spoke_is_asked_once_more_when_nobody_else_can(
    policy: Failover,
) -> None:
    talk = Talk(policy, Scripted(["one", DIED], ["two"]))
    assert await talk.hear(resumes=True) == "one two"
    again = Talk(policy, Scripted(["one", DIED]), Scripted([REFUSED]))
    with pytest.raises(Exhausted):
        await again.hear(resumes=True)
    assert again.asked == [2, 1]


async def test_nothing_is_asked_after_an_answer_that_is_complete(policy: Failover) -> None:
    talk = Talk(policy, Scripted(["tool call", DIED]), Scripted(["never"]))
    talk.record.complete = True
    assert await talk.hear(resumes=True) == "tool call"
    assert talk.asked == [1, 0]


async def test_one_that_is_left_alone_is_asked_only_when_nobody_else_is_there(
    policy: Failover,
) -> None:
    talk = Talk(policy, Scripted(["first"]), Scripted(["second"]))
    talk.desk.states = {("LLM", "a"): State.OPEN}
    assert await talk.hear() == "second"
    talk = Talk(policy, Scripted(["first"]), Scripted(["second"]))
    talk.desk.states = {("LLM", "a"): State.OPEN, ("LLM", "b"): State.OPEN}
    assert await talk.hear() == "first"


async def test_a_pause_that_was_asked_for_is_kept_even_when_nobody_else_is_there(
    policy: Failover,
) -> None:
    talk = Talk(policy, Scripted(["never"]))
    talk.desk.states = {("LLM", "a"): State.RESTING}
    with pytest.raises(Exhausted, match="asked for a pause"):
        await talk.hear()
    assert talk.asked == [0]


async def test_one_that_is_switched_off_is_not_asked_whoever_else_is_there(
    policy: Failover,
) -> None:
    talk = Talk(policy, Scripted(["never"]), Scripted(["second"]))
    talk.desk.states = {("LLM", "a"): State.OFF, ("LLM", "b"): State.OPEN}
    assert await talk.hear() == "second"
    talk = Talk(policy, Scripted(["never"]))
    talk.desk.states = {("LLM", "a"): State.OFF}
    with pytest.raises(Exhausted, match="switched off"):
        await talk.hear()
    assert talk.asked == [0]


async def test_one_that_failed_a_moment_ago_is_asked_after_the_others(policy: Failover) -> None:
    talk = Talk(policy, Scripted([REFUSED], ["never"]), Scripted(["second"]))
    await talk.hear()
    talk.record = Record()
    await talk.hear()
    assert talk.asked == [1, 2]


async def test_the_quicker_of_two_is_heard_and_the_other_is_dismissed(policy: Failover) -> None:
    hedged = replace(policy, hedge_after_s=0.001)
    slow = Scripted([None])
    talk = Talk(hedged, slow, Scripted(["quick"]), Scripted(["never"]))
    assert await talk.hear() == "quick"
    assert slow.open == 0
    assert Outcome(("LLM", "a"), lost=True) in talk.desk.outcomes
    assert talk.asked == [1, 1, 0]


async def test_one_that_has_begun_is_not_hedged(policy: Failover) -> None:
    hedged = replace(policy, hedge_after_s=0.005)
    talk = Talk(hedged, Scripted(["begun", 0.03, "ended"]), Scripted(["never"]))
    assert await talk.hear() == "begun ended"
    assert talk.asked == [1, 0]


async def test_the_first_may_win_against_its_hedge(policy: Failover) -> None:
    hedged = replace(policy, hedge_after_s=0.001)
    talk = Talk(hedged, Scripted([0.02, "first"]), Scripted([None]))
    assert await talk.hear() == "first"
    assert Outcome(("LLM", "b"), lost=True) in talk.desk.outcomes


async def test_nothing_is_tried_after_the_total(policy: Failover) -> None:
    talk = Talk(replace(policy, total_s=0.02, patience_s=FOREVER_S), Scripted(["one", None]))
    with pytest.raises(Exhausted):
        await talk.hear()
    assert talk.providers[0].open == 0


async def test_an_interruption_ends_the_request_at_once(policy: Failover) -> None:
    talk = Talk(policy, Scripted([None]))
    hearing = asyncio.create_task(talk.hear())
    await until(lambda: talk.providers[0].open == 1)
    hearing.cancel()
    await asyncio.wait({hearing})
    assert hearing.cancelled()
    assert talk.providers[0].open == 0
    assert talk.desk.outcomes == []


async def test_one_that_died_has_not_served_though_the_caller_interrupts_then(
    policy: Failover,
) -> None:
    talk = Talk(policy, Scripted(["begun", DIED]), Scripted([None]))
    hearing = asyncio.create_task(talk.hear(resumes=True))
    await until(lambda: talk.providers[1].open == 1)
    hearing.cancel()
    await asyncio.wait({hearing})
    assert talk.desk.outcomes == [Outcome(("LLM", "a"), Reason.CUT)]


async def test_one_that_was_interrupted_has_served(policy: Failover) -> None:
    talk = Talk(policy, Scripted(["begun", None]))
    hearing = asyncio.create_task(talk.hear())
    await until(lambda: talk.words == ["begun"])
    hearing.cancel()
    await asyncio.wait({hearing})
    assert talk.desk.outcomes == [Outcome(("LLM", "a"))]


async def test_a_provider_with_a_bug_is_a_provider_that_fails(policy: Failover) -> None:
    talk = Talk(policy, Scripted([ZeroDivisionError()]), Scripted(["second"]))
    assert await talk.hear() == "second"
    assert talk.record.failed[0].reason is Reason.BROKEN


async def test_an_answer_without_an_output_is_empty(policy: Failover) -> None:
    talk = Talk(policy, Scripted([]), Scripted(["second"]))
    assert await talk.hear() == "second"
    assert talk.record.failed[0].reason is Reason.EMPTY


async def test_the_sentences_of_an_answer_make_one_record(policy: Failover) -> None:
    first = Talk(policy, Scripted([REFUSED]), Scripted(["one"]))
    await first.hear()
    second = Talk(policy, Scripted(["two"]))
    await second.hear()
    whole = together([first.record, second.record]).metadata()
    assert (whole["provider"], whole["attempts"]) == ("a", 3)
    assert whole["failovers"] == [{"provider": "a", "reason": "unreachable"}]


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110  what is waited for has no event
        await asyncio.sleep(0)
