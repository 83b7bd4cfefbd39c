"""The encoder in 8 bits beside the same weights in fp32, multiplied by NumPy."""

from collections.abc import Mapping
from math import erf
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from numpy.typing import NDArray
from safetensors.numpy import load_file

from runner.eval import questions
from runner.folders import RESOURCES
from runner.models import minilm, weights
from runner.models.minilm import MiniLM, overflows

Matrix = NDArray[np.float32]

HEADS = 12
WIDTH = 32
CORPUS = RESOURCES / "eval" / "corpus"


class Published:
    """BERT as its paper has it, with these weights."""

    def __init__(self, known: Mapping[str, Matrix]) -> None:
        self._known = known

    def embed(self, ids: list[int]) -> Matrix:
        """The normalised mean of what the last layer gives."""
        known = self._known
        hidden = known["embeddings.word_embeddings.weight"][ids]
        hidden = hidden + known["embeddings.position_embeddings.weight"][: len(ids)]
        hidden = self._normed(
            "embeddings", hidden + known["embeddings.token_type_embeddings.weight"][0]
        )
        for number in range(6):
            hidden = self._layer(f"encoder.layer.{number}", hidden)
        mean = hidden.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def _layer(self, layer: str, hidden: Matrix) -> Matrix:
        query, key, value = (
            self._dense(f"{layer}.attention.self.{part}", hidden)
            .reshape(-1, HEADS, WIDTH)
            .swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(1, 2) / np.sqrt(WIDTH)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        attended = (shares @ value).swapaxes(0, 1).reshape(hidden.shape)
        attended = self._dense(f"{layer}.attention.output.dense", attended)
        hidden = self._normed(f"{layer}.attention.output", hidden + attended)
        inner = self._dense(f"{layer}.intermediate.dense", hidden)
        inner = inner * (1 + np.vectorize(erf)(inner / np.sqrt(2))) / 2
        return self._normed(f"{layer}.output", hidden + self._dense(f"{layer}.output.dense", inner))

    def _dense(self, name: str, given: Matrix) -> Matrix:
        return given @ self._known[f"{name}.weight"].T + self._known[f"{name}.bias"]

    def _normed(self, name: str, given: Matrix) -> Matrix:
        centred = given - given.mean(axis=-1, keepdims=True)
        normed = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return (
            normed * self._known[f"{name}.LayerNorm.weight"] + self._known[f"{name}.LayerNorm.bias"]
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights.ensure(weights.MINILM, tmp_path_factory.mktemp("minilm"), lambda _: None)


def texts() -> list[str]:
    """Short and long, in words and in signs; of a single word's cosine less is left."""
    asked = [one.question for one in questions(RESOURCES / "eval" / "questions.yaml")]
    files = [min(CORPUS.rglob(f"*.{kind}")) for kind in ("md", "csv", "json", "log", "py")]
    return [*asked[::5], *(file.read_text()[:1000] for file in files)]


def test_eight_bits_agree_with_the_published_weights(folder: Path) -> None:
    model, published = MiniLM(folder), Published(load_file(folder / "model.safetensors"))
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(512)
    tokenizer.no_padding()
    for text in texts():
        made = model.embed(text)
        ids = tokenizer.encode(text).ids
        assert made.tokens == len(ids)
        assert made.vector @ made.vector == pytest.approx(1, abs=1e-5)
        assert made.vector @ published.embed(ids) >= 0.999, text


def test_the_rest_of_a_text_is_not_seen(folder: Path) -> None:
    model = MiniLM(folder)
    long = "word " * 600
    assert model.embed(long).tokens == 512
    assert model.embed(long).vector == pytest.approx(model.embed(long + "and more").vector)


@pytest.mark.parametrize(
    ("cores", "may"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\n", False),
        ("flags : avx2 avx_vnni", False),
        ("flags : fpu avx2 avx512f", True),
        ("Features : asimd asimddp", True),
        ("", True),
    ],
)
def test_cores_overflow_unless_they_say_that_they_do_not(
    cores: str,
    may: bool,
) -> None:
    assert overflows(cores) is may


def test_cores_that_overflow_are_spared_it_and_find_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = []
    for flags in ("avx2", "avx2 avx512_vnni"):
        (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
        monkeypatch.setattr(minilm, "_CORES", tmp_path / "cpuinfo")
        vectors.append(MiniLM(folder).embed("When does the library open?").vector)
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-6)
