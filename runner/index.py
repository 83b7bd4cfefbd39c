"""``task=index``: bring the database up to date with the documents' folder, and exit."""

from contextlib import AsyncExitStack

from runner import database
from runner.config import Config
from runner.folders import documents_dir
from runner.progress import Progress
from runner.rag.embedding import Embedder
from runner.rag.index import index
from runner.stack import Need, needs, stack

_POOL_SIZE = 2


async def main(config: Config) -> int:
    """Exit status 1 when a file could not be indexed; the others are in."""
    async with AsyncExitStack() as exits:
        progress = exits.enter_context(Progress())
        wanted = needs(config) - {Need.LIVEKIT}
        running = await exits.enter_async_context(stack(config, wanted, progress))
        socket = running.endpoints.postgres_socket
        await database.prepare(config.database, socket, config.agent)
        engine = database.engine(
            config.database, socket, pool_size=_POOL_SIZE, application_name="runner-index"
        )
        exits.push_async_callback(engine.dispose)
        embedder = Embedder(config.rag.embedding_url, config.rag.embedding_model)
        exits.push_async_callback(embedder.aclose)
        folder = documents_dir(config.rag.docs_dir)
        summary = await index(
            engine, embedder, config.rag, folder, lambda line: progress("documents", line)
        )
    print(
        f"{folder}: {summary.indexed} indexed, {summary.unchanged} unchanged, "
        f"{summary.removed} removed; {summary.chunks} chunks in {summary.seconds:.1f} s"
    )
    for name, reason in summary.failed:
        print(f"  {name}: {reason}")
    return 1 if summary.failed else 0
