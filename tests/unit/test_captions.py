"""What is said in a call, while it is said."""

from livekit.agents import ConversationItemAddedEvent, UserInputTranscribedEvent, llm

from runner.captions import Captions


def heard(text: str, *, final: bool = False) -> UserInputTranscribedEvent:
    return UserInputTranscribedEvent(transcript=text, is_final=final)


async def test_the_agents_words_are_told_as_far_as_they_were_spoken_answer_by_answer() -> None:
    told: list[tuple[str, str]] = []
    captions = Captions(lambda role, text: told.append((role, text)))
    for word in ("It ", "opens ", "at nine."):
        await captions.capture_text(word)
    captions.flush()
    await captions.capture_text("And")
    assert told == [
        ("assistant", "It "),
        ("assistant", "It opens "),
        ("assistant", "It opens at nine."),
        ("assistant", "And"),
    ]


def test_the_callers_words_are_told_with_those_before_them_until_their_turn_is_over() -> None:
    told: list[tuple[str, str]] = []
    captions = Captions(lambda role, text: told.append((role, text)))
    captions.on_transcript(heard("What does"))
    captions.on_transcript(heard("What does it", final=True))
    captions.on_transcript(heard(""))
    captions.on_transcript(heard("cost?", final=True))
    message = llm.ChatMessage(role="user", content=["What does it cost?"])
    captions.on_item(ConversationItemAddedEvent(item=message))
    captions.on_transcript(heard(""))
    captions.on_transcript(heard("And"))
    assert [text for _, text in told] == [
        "What does",
        "What does it",
        "What does it",
        "What does it cost?",
        "And",
    ]
    assert {role for role, _ in told} == {"user"}
