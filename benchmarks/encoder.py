"""What MiniLM loses and gains by being rounded to 8 bits; and what is known of its channels, anew.

    .venv/bin/python benchmarks/encoder.py            # cosine with fp32 by kind of text, and times
    .venv/bin/python benchmarks/encoder.py --write    # runner/models/encoder.npy

The channels are seen on the beginnings of the project's own documents, programs and settings; the
cosines are those of the evaluation's questions and corpus.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import tokenizers
from numpy.typing import NDArray
from onnx import TensorProto, helper
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).parents[1]))

from runner.eval import questions
from runner.folders import RESOURCES
from runner.models import encoder, weights

MAGNITUDES = Path(encoder.__file__).with_suffix(".npy")
SEEN = ("docs/*.md", "runner/*.py", "conf/**/*.yaml", "sql/*.sql")
COMPARED = ("md", "csv", "json", "log", "py")
TEXT_CHARS = 1000  # as the chunks of documents
TEXTS = 25  # of a kind
LAYERS = 6
CHANNELS = 384 + 384 + 1536  # of a layer, as `encoder.Graph` has them
REST_S = 0.05  # before a question, which comes to a cold cache then

Matrix = NDArray[np.float32]
Ids = NDArray[np.int64]
Run = Callable[[Ids], Matrix]


class Unrounded(encoder.Graph):
    """In fp32, as published. ``given``: what comes into the matrices that are balanced."""

    def __init__(self, known: encoder.Weights) -> None:
        super().__init__(known, np.ones((LAYERS, CHANNELS), np.float16))
        self.given: list[str] = []

    def _product(
        self, name: str, given: str, magnitudes: Matrix | None = None, loud: int = 0
    ) -> str:
        if magnitudes is not None:
            self.given.append(given)
        matrix, bias = self._dense(name)
        turned = self._constant(f"{name}.matrix", np.ascontiguousarray(matrix.T))
        product = self._node(f"{name}.unbiased", "MatMul", [given, turned])
        return self._node(f"{name}.product", "Add", [product, self._constant(f"{name}.b", bias)])


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """On one thread, as the model server has it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def runs(model: onnx.ModelProto) -> Run:
    """The embedding of a text's tokens."""
    made = session(model)
    return lambda ids: made.run(["embedding"], {"input_ids": ids})[0][0]


def seen_magnitudes(known: encoder.Weights, texts: list[Ids]) -> NDArray[np.float16]:
    """The largest magnitude of each channel, as `encoder.Graph` wants them."""
    graph = Unrounded(known)
    model = graph.model()
    for name in graph.given:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    made = session(model)
    largest = np.zeros((LAYERS, CHANNELS), np.float32)
    for ids in texts:
        given = made.run(graph.given, {"input_ids": ids})
        channels = [np.abs(one[0]).max(axis=0) for one in given]
        largest = np.maximum(largest, np.concatenate(channels).reshape(LAYERS, CHANNELS))
    return largest.astype(np.float16)


def slices(kind: str) -> Iterator[str]:
    """Chunks of the corpus's files of this kind."""
    paths = sorted((RESOURCES / "eval" / "corpus").rglob(f"*.{kind}"))
    text = "\n".join(path.read_text() for path in paths)
    step = max(1, (len(text) - TEXT_CHARS) // TEXTS)
    for at in range(min(TEXTS, len(text) // step)):
        yield text[at * step : at * step + TEXT_CHARS]


def compared(graphs: dict[str, Run], texts: dict[str, list[Ids]]) -> None:
    """Prints the cosines with the first of ``graphs``."""
    first, *others = graphs
    for kind, rows in texts.items():
        reference = np.array([graphs[first](ids) for ids in rows])
        for name in others:
            cosines = (reference * np.array([graphs[name](ids) for ids in rows])).sum(axis=1)
            print(
                f"{kind:10} {name:8} cosine: mean {cosines.mean():.5f}, least {cosines.min():.5f}"
            )


def timed(graphs: dict[str, Run], rows: list[Ids], rest_s: float) -> None:
    """Prints the median of each, by turns."""
    took: dict[str, list[float]] = {name: [] for name in graphs}
    for ids in rows:
        for name, run in graphs.items():
            if not rest_s:
                run(ids)  # twice, so that another's weights are not in the way
            time.sleep(rest_s)
            began = time.perf_counter()
            run(ids)
            took[name].append((time.perf_counter() - began) * 1000)
    medians = ", ".join(f"{name} {statistics.median(took[name]):.2f} ms" for name in graphs)
    print(f"a question {f'after {rest_s:g} s of rest' if rest_s else 'at once'}: {medians}")


def main() -> None:
    """Writes what was seen, where it is wanted; prints cosines and times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="see the channels anew")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as cache:
        folder = weights.ensure(weights.MINILM, Path(cache), print)
        known = load_file(folder / "model.safetensors")
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(512)
    tokenizer.no_padding()

    def tokens(texts: Iterator[str]) -> list[Ids]:
        return [np.array([tokenizer.encode(text).ids]) for text in texts]

    if write:
        paths = [path for pattern in SEEN for path in sorted(RESOURCES.glob(pattern))]
        seen = tokens(path.read_text()[:TEXT_CHARS] for path in paths)
        np.save(MAGNITUDES, seen_magnitudes(known, seen))
        print(f"{MAGNITUDES}: from {len(seen)} texts")
    graphs = {
        "fp32": runs(Unrounded(known).model()),
        "ours": runs(encoder.Graph(known, np.load(MAGNITUDES)).model()),
    }
    asked = [one.question for one in questions(RESOURCES / "eval" / "questions.yaml")]
    texts = {"questions": tokens(iter(asked))} | {kind: tokens(slices(kind)) for kind in COMPARED}
    compared(graphs, texts)
    for rest_s in (0, REST_S):
        timed(graphs, texts["questions"], rest_s)


if __name__ == "__main__":
    main()
