"""Texts of several documents on their way to the embedder."""

import asyncio
from collections.abc import Sequence

import pytest

from runner.errors import ProviderError
from runner.rag.batches import Batches


class Slow:
    """Answers a text's length, one request after another, when it is let."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.requests.append(list(texts))
        await self.open.wait()
        if self.error:
            raise self.error
        return [[float(len(text))] for text in texts]

    async def aclose(self) -> None: ...


async def begun(*works: asyncio.Task[object]) -> None:
    """Let the tasks run for as far as they come by themselves."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_comes_while_a_request_is_under_way_goes_out_together() -> None:
    slow = Slow()
    batches = Batches(slow)
    works = [asyncio.create_task(batches.embed(["x" * at])) for at in range(1, 20)]
    await begun()
    slow.open.set()
    assert [vectors for work in works for vectors in await work] == [[at] for at in range(1, 20)]
    assert [len(request) for request in slow.requests] == [16, 3]


async def test_a_long_document_is_sent_in_parts_and_comes_back_in_order() -> None:
    slow = Slow()
    slow.open.set()
    vectors = await Batches(slow).embed(["x" * at for at in range(40)])
    assert vectors == [[at] for at in range(40)]
    assert [len(request) for request in slow.requests] == [16, 16, 8]


async def test_whoever_waits_for_a_text_is_told_of_its_failure_and_the_next_ones_go_on() -> None:
    slow = Slow()
    slow.open.set()
    slow.error = ProviderError("away")
    batches = Batches(slow)
    with pytest.raises(ProviderError, match="away"):
        await batches.embed(["text"])
    slow.error = None
    assert await batches.embed(["text"]) == [[4]]


async def test_a_document_that_was_given_up_is_not_embedded() -> None:
    slow = Slow()
    batches = Batches(slow)
    first = asyncio.create_task(batches.embed(["one"]))
    await begun()
    given_up = asyncio.create_task(batches.embed(["two"]))
    last = asyncio.create_task(batches.embed(["three"]))
    await begun()
    given_up.cancel()
    await asyncio.wait([given_up])
    slow.open.set()
    assert (await first, await last) == ([[3]], [[5]])
    assert slow.requests == [["one"], ["three"]]
