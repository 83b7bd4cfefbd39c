"""A conversation cut to what its LLM can read."""

from itertools import pairwise

import pytest
from livekit.agents import llm

from runner.providers.history import fitting, tokens

INSTRUCTIONS = "Be brief."
PASSAGES = "Passages from the documents."


def message(role: llm.ChatRole, text: str) -> llm.ChatMessage:
    return llm.ChatMessage(role=role, content=[text])


def call(call_id: str) -> llm.FunctionCall:
    return llm.FunctionCall(call_id=call_id, name="look", arguments="{}")


def output(call_id: str) -> llm.FunctionCallOutput:
    return llm.FunctionCallOutput(call_id=call_id, name="look", output="found", is_error=False)


def conversation(turns: int) -> llm.ChatContext:
    items: list[llm.ChatItem] = [message("system", INSTRUCTIONS), message("assistant", "Hello!")]
    for turn in range(turns):
        items += [message("user", f"question {turn}"), call(f"{turn}"), output(f"{turn}")]
        items.append(message("assistant", f"answer {turn}"))
    items += [message("system", PASSAGES), message("user", "latest")]
    return llm.ChatContext(items)


def texts(chat_ctx: llm.ChatContext) -> list[str]:
    return [item.text_content or "" for item in chat_ctx.items if item.type == "message"]


def test_what_fits_is_left_as_it_is() -> None:
    whole = conversation(2)
    assert fitting(whole, 1000) is whole


def test_the_oldest_turns_go_first_and_whole() -> None:
    whole = conversation(5)
    kept = [len(fitting(whole, budget).items) for budget in range(200, 0, -1)]
    assert set(kept) == {3, 7, 11, 15, 19, 23, 24}
    assert all(fewer <= more for more, fewer in pairwise(kept))
    cut = fitting(whole, 70)
    assert texts(cut)[0] == INSTRUCTIONS
    assert texts(cut)[-4:] == ["question 4", "answer 4", PASSAGES, "latest"]
    assert "question 0" not in texts(cut)


@pytest.mark.parametrize("budget", [-5, 0, 1])
def test_instructions_passages_and_the_latest_message_stay_even_if_they_do_not_fit(
    budget: int,
) -> None:
    assert texts(fitting(conversation(3), budget)) == [INSTRUCTIONS, PASSAGES, "latest"]


def test_a_call_goes_with_its_output_even_if_the_output_came_a_turn_later() -> None:
    items = [message("user", "one"), call("a"), message("user", "two"), output("a")]
    cut = fitting(llm.ChatContext([*items, message("user", "latest")]), 17)
    assert [item.type for item in cut.items] == ["message", "message"]


def test_what_followed_the_latest_message_stays() -> None:
    items = [message("user", "one"), message("user", "latest"), call("a"), output("a")]
    cut = fitting(llm.ChatContext(items), 1)
    assert [item.type for item in cut.items] == ["message", "function_call", "function_call_output"]


def test_the_conversation_itself_is_not_changed() -> None:
    whole = conversation(5)
    fitting(whole, 10)
    assert len(whole.items) == 24


def test_other_scripts_have_more_tokens_a_character() -> None:
    assert tokens("") == 0
    assert tokens("abc") == 1
    assert tokens("日本語") == 3
    assert tokens("\ud800") == 1
