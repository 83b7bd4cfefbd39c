"""``task=search``: what the documents hold on a question, as an LLM would be given it."""

import json
from contextlib import AsyncExitStack
from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.config import Config, SearchTask
from runner.errors import RunnerError
from runner.rag.embedding import embedder
from runner.rag.search import Hit, Search
from runner.stack import database_pool, needs

_POOL_SIZE = 1
_SHOWN_CHARS = 300


async def main(config: Config) -> int:
    """Prints the hits; exit status 1 when there is none.

    Raises:
        RunnerError: documents are off, or a part that a search needs is not there.
    """
    task = config.task
    assert isinstance(task, SearchTask)
    if not config.rag.enabled:
        raise RunnerError("There is nothing to search: documents are off. Leave out rag=off.")
    hits, nothing = await _search(config, task)
    if task.format == "json":
        print(json.dumps([asdict(hit) for hit in hits], indent=2, ensure_ascii=False))
    elif hits:
        Console().print(table(hits))
    else:
        print(nothing)
    return 0 if hits else 1


async def _search(config: Config, task: SearchTask) -> tuple[list[Hit], str]:
    """The hits, and what to say when there is none."""
    async with AsyncExitStack() as exits:
        wanted = needs(config, calls=False)
        engine = await exits.enter_async_context(
            database_pool(config, wanted, task="search", pool_size=_POOL_SIZE)
        )
        client = embedder(config.rag)
        exits.push_async_callback(client.aclose)
        search = Search(engine, client, config.rag)
        exits.push_async_callback(search.aclose)
        if hits := await search(task.query, task.filename):
            return hits, ""
        if await search.candidates(task.query, task.filename):
            least = f"rag.min_similarity is {config.rag.min_similarity:g}"
            return [], f"No passage comes near enough ({least})."
    if task.filename:
        return [], f"No indexed document has {task.filename!r} in its name."
    return [], "Nothing is indexed yet. Do it with: python -m runner task=index"


def table(hits: list[Hit]) -> Table:
    """A row a hit. What documents hold is shown as it is: neither markup nor control signs act."""
    shown = Table(expand=True, box=box.SIMPLE, show_edge=False)
    for name, ratio in (("score", None), ("cosine", None), ("document", 2), ("passage", 5)):
        shown.add_column(name, ratio=ratio, overflow="fold")
    for hit in hits:
        shown.add_row(
            f"{hit.score:.3f}",
            f"{hit.similarity:.3f}",
            Text(f"{printable(hit.filename)}\n{printable(place(hit))}"),
            Text(printable(hit.content[:_SHOWN_CHARS])),
            end_section=True,
        )
    return shown


def place(hit: Hit) -> str:
    """Where in its document a hit lies: the page, the heading, or the number of the chunk."""
    page = f"page {hit.page}" if hit.page is not None else ""
    heading = (hit.heading or "").lstrip("# ")
    return ", ".join(part for part in (page, heading) if part) or f"chunk {hit.chunk_index}"


def printable(text: str) -> str:
    """On one line, and without what acts on a terminal or turns its writing round."""
    words = " ".join(text.split())
    return "".join(char if char.isprintable() else "\ufffd" for char in words)
