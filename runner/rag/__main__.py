"""The indexer as a process: ``python -m runner.rag '{…}'``, with a `Settings` as JSON.

It keeps the documents known until its input ends, and writes an `Event` a line. Calls notice
nothing of it: reading, cutting and hashing happen on another core than their event loop's.
"""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from dataclasses import asdict

from pydantic_core import to_json

from runner import database, logs
from runner.errors import RunnerError
from runner.rag.document_embedding import document_embedder
from runner.rag.index import Indexer, Listener, Summary
from runner.rag.settings import SETTINGS, Settings
from runner.rag.watch import SETTLE_S, watch

_POOL_SIZE = 8  # the lock, six documents at once, the index on the embeddings
_NICE = 10  # calls come first


async def main(settings: Settings) -> None:
    """Watches the folder until standard input ends."""
    listener = Listener(
        line=lambda line: _say("line", line),
        progress=lambda progress: _say("progress", asdict(progress)),
    )
    async with AsyncExitStack() as exits:
        engine = database.engine(
            settings.database,
            settings.postgres_socket,
            pool_size=_POOL_SIZE,
            application_name="runner-index",
        )
        exits.push_async_callback(engine.dispose)
        embedder = document_embedder(settings.rag)
        exits.push_async_callback(embedder.aclose)
        indexer = Indexer(engine, embedder, settings.rag, settings.folder, listener, SETTLE_S)
        exits.push_async_callback(indexer.aclose)
        watching = asyncio.create_task(watch(indexer, settings.folder, _tell))
        ended = asyncio.create_task(_end_of_input())
        await asyncio.wait({watching, ended}, return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
        await asyncio.wait({watching})
        if not watching.cancelled():
            watching.result()


def _tell(outcome: Summary | RunnerError) -> None:
    if isinstance(outcome, Summary):
        _say("summary", asdict(outcome))
    else:
        _say("error", str(outcome))


def _say(kind: str, value: object) -> None:
    sys.stdout.buffer.write(to_json({kind: value}, inf_nan_mode="null") + b"\n")
    sys.stdout.buffer.flush()


async def _end_of_input() -> None:
    """The runner holds the other end: it closes it, or dies."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    await reader.read()


if __name__ == "__main__":
    os.nice(_NICE)
    _settings = SETTINGS.validate_json(sys.argv[1])
    logs.set_up(_settings.log)
    asyncio.run(main(_settings))
