"""``task=index``: bring the database up to date with the documents folder, and exit."""

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Column

from runner.config import Config
from runner.folders import documents_dir
from runner.rag.chunks import amount
from runner.rag.document_embedding import document_embedder
from runner.rag.index import Progress as Far
from runner.rag.index import Summary, index
from runner.stack import Need, database_pool, needs

_POOL_SIZE = 8  # the lock, six documents at once, the index on the embeddings

_Listeners = tuple[Callable[[str], None], Callable[[Far], None]]


async def main(config: Config) -> int:
    """Exit status 1 when a file could not be indexed; the others are in.

    Raises:
        RunnerError: the folder is missing, or what indexing needs does not serve.
    """
    async with AsyncExitStack() as exits:
        wanted = needs(config) - {Need.LIVEKIT}
        engine = await exits.enter_async_context(
            database_pool(config, wanted, task="index", pool_size=_POOL_SIZE)
        )
        embedder = document_embedder(config.rag)
        exits.push_async_callback(embedder.aclose)
        folder = documents_dir(config.rag.docs_dir)
        with _shown(Console(stderr=True, highlight=False, emoji=False)) as (line, far):
            summary = await index(engine, embedder, config.rag, folder, line, far)
    print(f"{folder}: {_sentence(summary)}")
    for name, reason in summary.failed:
        print(f"  {name}: {reason}")
    return 1 if summary.failed else 0


def _sentence(summary: Summary) -> str:
    counts = {
        "indexed": summary.indexed,
        "unchanged": summary.unchanged,
        "removed": summary.removed,
        "left out": len(summary.failed),
        "still being written": summary.waiting,
    }
    always = ("indexed", "unchanged", "removed")
    told = [f"{number} {what}" for what, number in counts.items() if number or what in always]
    return f"{', '.join(told)}; {amount(summary.chunks)} in {summary.seconds:.1f} s"


@contextmanager
def _shown(console: Console) -> Iterator[_Listeners]:
    """A bar on a terminal, a line a document elsewhere."""
    if not console.is_terminal:
        yield lambda line: console.print(line, markup=False, soft_wrap=True), lambda _: None
        return
    with _bar(console) as bar:
        task = bar.add_task("", total=None, chunks=amount(0))

        def far(progress: Far) -> None:
            bar.update(
                task, completed=progress.done, total=progress.total, chunks=amount(progress.chunks)
            )

        yield lambda line: bar.update(task, description=line), far


def _bar(console: Console) -> Bar:
    return Bar(
        TextColumn("documents", style="bold"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[chunks]}"),
        TimeElapsedColumn(),
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis"),
        ),
        console=console,
    )
