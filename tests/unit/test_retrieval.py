"""The LLM without a model: what it says, what it declines, how it streams."""

import asyncio
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from livekit.agents import llm

from runner.errors import ProviderError
from runner.providers.failure import Failure
from runner.providers.request import Request
from runner.providers.retrieval import Retrieval, spoken_name
from runner.providers.sentences import sentences
from runner.providers.smalltalk import small_talk

MANUAL = """# Manual

## How do I switch the provider?

To switch the **provider**, type `llm=ollama`. Switching takes a restart.

```sh
python -m runner llm=ollama  # switch the provider with this line.
```

## Which port does the page use?

The page is on port 3000. See [the page](http://page.example) for more.

| key | meaning |
|---|---|
| web.port | The port of the page. |

## History

Bananas grew in the garden. Apples grew in the orchard.
"""
NOTHING = "Nothing in the documents answers that."


@dataclass(frozen=True)
class Found:
    """What a search returns, as far as the LLM looks at it."""

    filename: str
    content: str
    chunk_index: int = 0
    heading: str | None = None
    similarity: float = 0.5
    in_code: bool = False


class Desk:
    """A search that always finds the same passages, and embeddings by the words of a text."""

    def __init__(self, *passages: Found) -> None:
        self.passages = passages
        self.questions: list[str] = []
        self.texts: list[str] = []

    async def search(self, question: str) -> Sequence[Found]:
        self.questions.append(question)
        return self.passages

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.texts += texts
        return [self._vector(text) for text in texts]

    @staticmethod
    def _vector(text: str) -> list[float]:
        vector = [0.0] * 384
        for word in re.findall(r"\w+", text.casefold()):
            vector[zlib.crc32(word[:5].encode()) % 384] += 1 + (len(word) > 4)
        return vector


def model(desk: Desk, *, max_sentences: int = 2) -> Retrieval:
    return Retrieval(desk.search, desk.embed, max_sentences=max_sentences, min_similarity=0.42)


def said(*texts: str) -> llm.ChatContext:
    context = llm.ChatContext.empty()
    context.add_message(role="system", content="You are an agent.")
    for text in texts:
        context.add_message(role="user", content=text)
        context.add_message(role="assistant", content="Well.")
    return context


async def ask(desk: Desk, *texts: str, max_sentences: int = 2) -> str:
    chunks = model(desk, max_sentences=max_sentences).answer(Request(said(*texts)))
    return "".join([chunk.delta.content or "" async for chunk in chunks if chunk.delta])


async def test_it_speaks_the_sentences_under_the_question_and_names_the_document() -> None:
    desk = Desk(Found("guides/01-switching-providers.md", MANUAL))
    assert await ask(desk, "How do I switch the provider?") == (
        "To switch the provider, type llm=ollama. Switching takes a restart. "
        "That is according to the document switching providers."
    )


async def test_it_speaks_no_more_sentences_than_it_may() -> None:
    desk = Desk(Found("manual.md", MANUAL))
    answer = await ask(desk, "How do I switch the provider?", max_sentences=1)
    assert answer == (
        "To switch the provider, type llm=ollama. That is according to the document manual."
    )


async def test_a_neighbour_that_answers_nothing_is_not_spoken() -> None:
    desk = Desk(Found("manual.md", MANUAL))
    answer = await ask(desk, "Did apples grow in the orchard?", max_sentences=3)
    assert answer.startswith("Apples grew in the orchard. That is")


async def test_an_answer_comes_from_one_document() -> None:
    desk = Desk(
        Found("one.md", "Ollama listens on port 11434."),
        Found("two.md", "Ollama listens on port 11435."),
    )
    answer = await ask(desk, "On which port does Ollama listen?")
    assert answer.count("Ollama listens") == 1


async def test_chunks_that_follow_each_other_are_read_as_one_text() -> None:
    question = "How do I switch the provider?"
    desk = Desk(
        Found("a.md", "der is easy. To switch the provider, restart. Th", 1, heading=question),
        Found("a.md", f"## {question}\n\nTo switch the provider is easy. To switch the prov"),
    )
    assert (await ask(desk, question)).startswith(
        "To switch the provider is easy. To switch the provider, restart. That is"
    )


@pytest.mark.parametrize("question", ["Do you sell shoes?", "What is the capital of France?"])
async def test_what_no_sentence_answers_is_declined_without_naming_a_document(
    question: str,
) -> None:
    answer = await ask(Desk(Found("manual.md", MANUAL)), question)
    assert answer.startswith(NOTHING)
    assert "manual" not in answer


async def test_it_declines_when_the_search_finds_nothing() -> None:
    assert (await ask(Desk(), "Which port is it?")).startswith(NOTHING)


async def test_it_declines_when_the_passages_hold_no_sentence() -> None:
    desk = Desk(Found("manual.md", "# Port\n\n```\nport\n```\n"))
    assert (await ask(desk, "Which port is it?")).startswith(NOTHING)


@pytest.mark.parametrize(
    ("utterance", "reply"),
    [
        ("Hello?", "Hello!"),
        ("Hi there, good morning!", "Hello!"),
        ("Thank you very much.", "You are welcome."),
        ("Okay, thanks.", "You are welcome."),
        ("Thanks for your help. Bye-bye.", "Goodbye"),
        ("No, that's all.", "Goodbye"),
        ("Who are you?", "I am a voice agent"),
        ("Hello, are you a robot?", "I am a voice agent"),
        ("What's your name?", "I am a voice agent"),
        ("Hello? Can you hear me?", "Yes, I can hear you."),
        ("Um.", "I am listening."),
    ],
)
async def test_small_talk_is_answered_without_a_search(utterance: str, reply: str) -> None:
    desk = Desk(Found("manual.md", MANUAL))
    assert (await ask(desk, utterance)).startswith(reply)
    assert desk.questions == []


@pytest.mark.parametrize(
    "utterance",
    [
        "Hello, which port does the page use?",
        "Thank you, and how do I switch the provider?",
        "Are you there when vLLM is down?",
        "Highlight the port.",
    ],
)
def test_a_question_behind_a_greeting_is_no_small_talk(utterance: str) -> None:
    assert small_talk(utterance) is None


async def test_a_caller_who_said_nothing_yet_is_greeted() -> None:
    assert (await ask(Desk())).startswith("Hello!")


async def test_a_question_that_leans_on_the_one_before_is_asked_with_it() -> None:
    desk = Desk(Found("manual.md", MANUAL))
    answer = await ask(desk, "How do I switch the provider?", "And does it take a restart?")
    assert desk.questions == ["How do I switch the provider? And does it take a restart?"]
    assert "Switching takes a restart." in answer


async def test_a_question_that_stands_alone_is_asked_alone() -> None:
    desk = Desk(Found("manual.md", MANUAL))
    await ask(desk, "How do I switch the provider?", "Which port does the page use?")
    assert desk.questions == ["Which port does the page use?"]


async def test_a_foreign_question_that_leans_is_declined() -> None:
    desk = Desk(Found("manual.md", MANUAL))
    answer = await ask(desk, "How do I switch the provider?", "Is it raining in Paris?")
    assert answer.startswith(NOTHING)


async def test_the_texts_of_a_question_are_few_however_much_is_found() -> None:
    passages = [
        Found(f"{at}.md", "".join(f"## Port {at} {line}\n\nPage {line} of {at} has a port.\n\n"
                                  for line in range(20)))
        for at in range(12)
    ]  # fmt: skip
    desk = Desk(*passages)
    await ask(desk, "Which port does the page use?")
    assert 20 < len(desk.texts) <= 1 + 2 * 14


async def test_it_streams_words_and_counts_no_tokens() -> None:
    desk = Desk(Found("manual.md", MANUAL))
    chunks = [
        chunk async for chunk in model(desk).answer(Request(said("Which port is the page on?")))
    ]
    texts = [chunk.delta.content for chunk in chunks if chunk.delta]
    assert len(texts) == len(chunks) > 2
    assert "".join(text or "" for text in texts).startswith("The page is on port 3000.")
    assert len({chunk.id for chunk in chunks}) == 1


async def test_the_reply_carries_the_passage_that_it_is_read_from() -> None:
    desk = Desk(Found("manual.md", MANUAL))
    for question, expected in (("Which port is the page on?", ["manual.md"]), ("Thank you.", [])):
        first = await anext(model(desk).answer(Request(said(question))))
        assert first.delta
        assert first.delta.extra
        assert [passage.filename for passage in first.delta.extra["passages"]] == expected


async def test_an_interruption_ends_the_search() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def search(_: str) -> Sequence[Found]:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return []

    desk = Desk()
    talker = Retrieval(search, desk.embed, max_sentences=2, min_similarity=0.42)
    asking = asyncio.create_task(anext(talker.answer(Request(said("Which port is it?")))))
    await began.wait()
    asking.cancel()
    await asyncio.wait({asking})
    assert ended.is_set()


async def test_a_search_that_fails_is_a_provider_that_fails() -> None:
    async def search(_: str) -> Sequence[Found]:
        raise ProviderError("The embedding server does not serve.")

    talker = Retrieval(search, Desk().embed, max_sentences=2, min_similarity=0.42)
    with pytest.raises(Failure, match="does not serve") as caught:
        await anext(talker.answer(Request(said("Which port is it?"))))
    assert not caught.value.retryable


def texts(markdown: str, *, in_code: bool = False, cut: bool = False) -> list[str]:
    found = sentences(markdown, heading="Above", in_code=in_code, cut=cut)
    return [sentence.text for sentence in found]


def test_headings_tables_and_code_are_not_spoken() -> None:
    assert texts(MANUAL) == [
        "To switch the provider, type llm=ollama.",
        "Switching takes a restart.",
        "The page is on port 3000.",
        "See the page for more.",
        "Bananas grew in the garden.",
        "Apples grew in the orchard.",
    ]


def test_halves_of_sentences_at_the_edges_are_not_spoken() -> None:
    assert texts("the first half. The whole one. The second ha", cut=True) == ["The whole one."]


def test_tables_and_the_rest_of_code_at_an_edge_are_not_spoken() -> None:
    assert texts("--flag\n# comment\n```\nAfter the code.", in_code=True) == ["After the code."]
    assert texts("x | y\n---|---\nA row | of a table.\n\nAfter the table.") == ["After the table."]
    assert texts("| x | Half a row. |\n| y | A row. |\n\nAfter the table.") == ["After the table."]


def test_points_of_a_list_become_sentences_and_their_introduction_is_left_out() -> None:
    assert texts(
        "There are three steps:\n\n- open the page;\n- press the *button*\n\nEnd of it."
    ) == [
        "open the page.",
        "press the button.",
        "End of it.",
    ]


def test_html_and_images_are_not_spoken() -> None:
    assert texts("<script>alert(1)</script>\n\nA <b>bold</b> word ![icon](x.png) here.") == [
        "A bold word here."
    ]


@pytest.mark.parametrize("question", ["## How so?", "**How so?**", "How so?", "Q: How so?"])
def test_a_question_is_the_topic_of_what_follows(question: str) -> None:
    found = sentences(
        f"First of all. Why not?\n\n{question}\n\nA: Just like that.",
        heading="Above",
        in_code=False,
        cut=False,
    )
    assert [sentence.topic.removeprefix("Q: ") for sentence in found] == ["Above", "How so?"]
    assert found[-1].text == "Just like that."


@pytest.mark.parametrize(
    ("filename", "spoken"),
    [
        ("switching-providers.md", "switching providers"),
        ("guides/02_first_steps.v2.txt", "first steps v2"),
        ("faq.md", "FAQ"),
        ("2024.md", "2024"),
        ("---.md", "---"),
    ],
)
def test_a_document_has_a_name_fit_to_be_heard(filename: str, spoken: str) -> None:
    assert spoken_name(filename) == spoken
