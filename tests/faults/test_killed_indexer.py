"""An indexer that is killed again and again loses no document and stores none twice."""

import asyncio
import json
import random
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from runner.config import Database
from runner.rag.settings import SETTINGS, Settings
from tests.composed import composed
from tests.integration.test_indexing import serving

FILES = 30
KILLS = 3
ROWS = """SELECT filename, chunk_index, md5(content), file_hash, metadata::text
          FROM rag_documents ORDER BY 1, 2"""


@pytest.fixture
async def embedding_url() -> AsyncIterator[str]:
    """An embedding server whose vectors depend on the text."""
    async with serving(
        lambda texts: [[1.0 + zlib.crc32(t.encode()) % 7] * 384 for t in texts]
    ) as url:
        yield url


@pytest.fixture
def settings(
    embedding_url: str, database: Database, postgres_socket: str, tmp_path: Path
) -> Settings:
    """For an indexer of small files with a few chunks each."""
    for number in range(FILES):
        lines = (f"Line {line} of file {number}.\n" for line in range(20 * number))
        (tmp_path / f"{number:02}.md").write_text(f"# File {number}\n\n{''.join(lines)}")
    overrides = [f"rag.docs_dir={tmp_path}", f"rag.embedding_url={embedding_url}"]
    whole = composed(*overrides)
    return Settings(whole.rag, tmp_path, database, postgres_socket, whole.log)


async def index(settings: Settings, kill_after: int | None = None) -> int:
    """Runs an indexer until all is done, or kills it after so many documents. How many it told."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "runner.rag", SETTINGS.dump_json(settings).decode()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    told = 0
    async for line in process.stdout:
        told += b" chunk" in line and line.startswith(b'{"line"')
        summary = json.loads(line).get("summary")
        if (summary and not summary["waiting"]) or told == kill_after:
            break  # files that were just written wait for the next round
    process.kill()
    await process.communicate()
    return told


async def test_an_indexer_that_was_killed_thrice_ends_with_the_same_rows(
    settings: Settings, superuser: psycopg.Connection
) -> None:
    assert await index(settings) == FILES
    expected = superuser.execute(ROWS).fetchall()
    superuser.execute("TRUNCATE rag_documents")
    chance = random.Random(1)
    for _ in range(KILLS):
        stop = chance.randint(1, FILES // KILLS - 1)
        assert await index(settings, stop) == stop
    left = await index(settings)
    assert 0 < left < FILES
    assert superuser.execute(ROWS).fetchall() == expected
