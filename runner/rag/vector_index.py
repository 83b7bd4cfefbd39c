"""The index on the embeddings: none while the exact scan is quick, else one that fits the rows."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runner import sql
from runner.config import RAG
from runner.errors import DatabaseError

NAME = "rag_documents_embedding_idx"
"""Its name, which is also that of the specification's index."""

Method = Literal["hnsw", "ivfflat"]

_SQL = sql.queries("vector_index.sql")
_MANY_CHUNKS = 10_000  # the exact scan of so many takes 8 ms; 100,000 take 49
_STILL_MANY = 5_000  # documents that come and go do not build an index each time
_FEWEST_LISTS = 10  # of fewer rows than 100 the exact scan looks at as many
_CHUNK_KB = 2.5  # of an HNSW graph in memory: 384 numbers of 4 bytes, and its neighbours
_LEAST_MEMORY_KB = 64 * 1024  # PostgreSQL's own
_MOST_MEMORY_KB = 1024 * 1024  # a larger graph is built more slowly


@dataclass(frozen=True)
class VectorIndex:
    """An approximate index; ``lists``: of IVFFlat, else None."""

    method: Method
    lists: int | None = None


async def ensure_vector_index(
    engine: AsyncEngine, rag: RAG, report: Callable[[str], None] = lambda _: None
) -> VectorIndex | None:
    """Make the index what ``rag.index`` asks for, for the chunks that are there now.

    Called when documents were loaded, by the one who holds the indexing's lock. Searches go on
    meanwhile, with the index that was there; writers wait. Every other approximate index on the
    embeddings is dropped: PostgreSQL would choose between two by their cost, not their recall.

    Returns:
        What there is now; None: searches are exact.

    Raises:
        DatabaseError: the database did not carry it out; the index is what it was.
    """
    try:
        async with engine.begin() as connection:
            found = (await connection.exec_driver_sql(_SQL["embedding_indexes"])).all()
            ours = next((row for row in found if row.name == NAME and row.valid), None)
            present = VectorIndex(ours.method, ours.lists) if ours else None
            count = await connection.exec_driver_sql(_SQL["embedded_chunks"])
            chunks = count.scalar_one()
            wanted = _wanted(rag.index, chunks, present)
            names = [row.name for row in found]
            if _fits(present, wanted) and names == ([NAME] if wanted else []):
                return present
            await _replace(connection, names, wanted, chunks, report)
            return wanted
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0]
        raise DatabaseError(f"The embeddings could not be indexed: {reason}") from error


def _wanted(
    choice: Literal["auto", "exact", "hnsw", "ivfflat"], chunks: int, present: VectorIndex | None
) -> VectorIndex | None:
    """What ``rag.index`` means for so many chunks."""
    if choice == "exact":
        return None
    if choice == "ivfflat":
        lists = round(math.sqrt(chunks))
        return VectorIndex("ivfflat", lists) if lists >= _FEWEST_LISTS else None
    enough = _STILL_MANY if present and present.method == "hnsw" else _MANY_CHUNKS
    return VectorIndex("hnsw") if choice == "hnsw" or chunks >= enough else None


def _fits(present: VectorIndex | None, wanted: VectorIndex | None) -> bool:
    """Whether the index may stay: IVFFlat's lists are rebuilt when the rows have quadrupled."""
    if present is None or wanted is None or present.method != wanted.method:
        return present == wanted
    if present.lists is None or wanted.lists is None:
        return True
    return wanted.lists / 2 < present.lists < wanted.lists * 2


async def _replace(
    connection: AsyncConnection,
    names: list[str],
    wanted: VectorIndex | None,
    chunks: int,
    report: Callable[[str], None],
) -> None:
    """In one transaction: whoever dies in it leaves the index that was there."""
    if wanted:
        report(f"indexing {chunks} embeddings ({wanted.method})")
        memory_kb = min(max(round(chunks * _CHUNK_KB), _LEAST_MEMORY_KB), _MOST_MEMORY_KB)
        await connection.exec_driver_sql(_SQL["allow_build"], {"memory_kb": memory_kb})
        await connection.exec_driver_sql(_build(wanted))
    for name in names:
        quoted = connection.dialect.identifier_preparer.quote(name)
        await connection.exec_driver_sql(f"DROP INDEX {quoted}")
    if wanted:
        await connection.exec_driver_sql(_SQL["take_over"])


def _build(wanted: VectorIndex) -> str:
    """The number of lists is part of the statement; it knows no parameters."""
    if wanted.method == "hnsw":
        return _SQL["build_hnsw"]
    return _SQL["build_ivfflat"].replace(":lists", str(wanted.lists))
