"""What simulated servers say, and when they fail: without a socket."""

import pytest
from pydantic import TypeAdapter, ValidationError

from runner.config import Fault, SimulatedServer, TextAnswer, ToolAnswer
from runner.providers.request import instruction_to_continue
from runner.simulator import answers
from runner.simulator.answers import Message
from runner.simulator.script import Pace, Script

TEXT = "The library opens at nine; on Saturdays «später» — an hour later. Bücherwürmer freut's 📚!"


def server(**more: object) -> SimulatedServer:
    return SimulatedServer("openai", 18001, ["m"], **more)  # type: ignore[arg-type]


def user(*texts: str) -> list[Message]:
    return [Message("user", text) for text in texts]


def test_a_fault_strikes_at_its_requests_and_at_no_other() -> None:
    script = Script([Fault("cut", at=[2, 4]), Fault("empty", at=[3])])
    struck = [script.strike() for _ in range(5)]
    assert [fault and fault.kind for fault in struck] == [None, "cut", "empty", "cut", None]


def test_a_fault_without_requests_strikes_at_all_that_no_earlier_one_names() -> None:
    script = Script([Fault("cut", at=[2]), Fault("hang")])
    assert [fault.kind for _ in range(3) if (fault := script.strike())] == ["hang", "cut", "hang"]


def test_a_fault_of_one_endpoint_counts_and_strikes_its_requests_alone() -> None:
    script = Script([Fault("cut", at=[2], endpoint="speech")])
    asked = ["transcriptions", "speech", "transcriptions", "speech", "speech"]
    struck = [script.strike(endpoint) is not None for endpoint in asked]
    assert struck == [False, False, False, True, False]


def test_other_faults_count_the_requests_from_one_again() -> None:
    script = Script([])
    script.strike()
    script.set([Fault("cut", at=[1])])
    assert script.strike() == Fault("cut", at=[1])


def test_a_refused_request_counts_once_the_server_is_back() -> None:
    script = Script([Fault("refuse", at=[2]), Fault("cut", at=[3])])
    assert script.refusal() is None
    assert script.strike() is None
    refusal = script.refusal()
    assert refusal is not None
    script.end_refusal(refusal)
    assert script.refusal() is None
    assert script.strike() == Fault("cut", at=[3])


def test_a_server_that_refused_all_serves_all_once_it_is_back() -> None:
    script = Script([Fault("refuse", seconds=1)])
    refusal = script.refusal()
    assert refusal is not None
    script.end_refusal(refusal)
    assert script.refusal() is None
    assert script.strike() is None


def test_a_glance_meets_only_what_stands_for_every_request() -> None:
    assert Script([Fault("status", at=[1])]).standing() is None
    assert Script([Fault("truncate")]).standing() is None
    assert Script([Fault("status")]).standing() == Fault("status")


def test_the_same_seed_gives_the_same_waits_within_the_jitter() -> None:
    jittered = server(first_s=0.1, jitter=0.5, seed=7)
    waits = [Pace(jittered).first_s() for _ in range(2)]
    assert waits[0] == waits[1] != 0.1
    pace = Pace(jittered)
    assert all(0.05 <= pace.first_s() <= 0.15 for _ in range(100))


def test_tokens_join_to_the_text_again() -> None:
    assert "".join(answers.tokens(TEXT)) == TEXT


def test_a_token_is_a_word_with_its_space_and_a_long_word_is_two() -> None:
    assert answers.tokens("It opens, extraordinarily.") == [
        *("It", " opens", ",", " extraor", "dinarily", "."),
    ]


@pytest.mark.parametrize("at", range(1, 8))
def test_the_rest_goes_on_exactly_after_what_was_said(at: int) -> None:
    words = ["One", "two", "three,", "four.", "Five", "six", "seven", "eight"]
    spoken = " ".join(words[:at])
    assert spoken + answers.rest(" ".join(words), spoken) == " ".join(words)


def test_the_rest_is_found_where_another_model_used_other_words_before() -> None:
    assert answers.rest("We open at nine in the morning.", "Oh, they open at nine") == (
        " in the morning."
    )


@pytest.mark.parametrize(
    ("manners", "written"),
    [
        ("exact", "four five six."),
        ("repeats_words", "one two three four five six."),
        ("restarts", "Zero one two three four five six."),
    ],
)
def test_a_model_that_is_told_to_go_on_has_its_manners(manners: str, written: str) -> None:
    whole, spoken = "Zero one two three four five six.", "Zero one two three"
    told = [Message("system", instruction_to_continue(spoken))]
    assert answers.said(told) == spoken
    assert answers.told_to_go_on(whole, spoken, manners) == written


def test_an_answer_is_chosen_by_a_word_of_the_last_question() -> None:
    two = server(answers=[TextAnswer("Nine.", "open"), TextAnswer("Six.", "close"), "What?"])
    assert answers.choose(two, user("When do you open?", "When do you CLOSE?"), []) == "Six."
    assert answers.choose(two, user("Hm?"), []) == "What?"


def test_an_answer_may_recall_what_the_user_said_in_this_request() -> None:
    told = TextAnswer("It is {}.", recalls=r"word is (\w+)")
    recalling = server(answers=[told])
    said = ["My word is tiger.", "No, my word is lemon.", "What is it?"]
    assert answers.choose(recalling, user(*said), []) == "It is lemon."
    assert answers.choose(recalling, user(said[-1]), []) == "It is nothing."


@pytest.mark.parametrize("pattern", ["(", "no group", "(two) (groups)"])
def test_what_is_recalled_is_one_group_of_a_regular_expression(pattern: str) -> None:
    with pytest.raises(ValidationError, match="a regular expression"):
        TypeAdapter(TextAnswer).validate_python({"text": "{}", "recalls": pattern})


def test_answers_without_words_are_given_in_turn_by_the_questions_asked() -> None:
    three = server(answers=["First.", "Second.", "Third."])
    questions = [f"Question {number}" for number in range(4)]
    given = [answers.choose(three, user(*questions[: n + 1]), []) for n in range(4)]
    assert given == ["First.", "Second.", "Third.", "First."]


def test_being_told_to_go_on_is_no_further_question() -> None:
    three = server(answers=["First.", "Second."])
    told = user("Question 1", instruction_to_continue("Fir"))
    assert answers.choose(three, told, []) == "First."


def test_a_tool_is_called_where_it_is_offered_and_not_after_its_result() -> None:
    call = ToolAnswer("search", {"query": "hours"})
    both = server(answers=[call, "Nine."])
    question = user("When?")
    assert answers.choose(both, question, ["search"]) == call
    assert answers.choose(both, question, []) == "Nine."
    result = [*question, Message("assistant", ""), Message("tool", "nine")]
    assert answers.choose(both, result, ["search"]) == "Nine."


def test_the_oldest_turns_are_forgotten_and_never_the_instructions() -> None:
    told = Message("system", "Be kind." * 20)
    turns = user(*(f"Question {number} " + "x" * 100 for number in range(10)))
    kept = answers.without_oldest([told, *turns], 120)
    assert kept[0] == told
    assert kept[1:] == turns[-len(kept) + 1 :]
    assert answers.size(kept) <= 120
