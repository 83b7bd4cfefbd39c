"""MiniLM's encoder, made from the published fp32 weights as a graph that ONNX Runtime runs.

The weights of its layers are rounded to 8 bits, and the runtime rounds what the layers are given,
with one scale for all of it: a few loud channels would leave nothing to the others. So they are
balanced first, as SmoothQuant does it (Xiao et al. 2023), by what was seen of them:
``encoder.npy``, which benchmarks/encoder.py makes. In the wide parts the loudest stay in fp32 and
are multiplied apart, as LLM.int8() does it (Dettmers et al. 2022).

The cosine with fp32 stays above .999 (of single words .996), where published int8 exports fall to
.9985. Most operators are the runtime's own fused ones.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from runner.config import EMBEDDING_DIMENSIONS

Matrix = NDArray[np.float32]
Weights = Mapping[str, Matrix]

_LAYERS = 6
_HEADS = 12
_EPSILON = 1e-12  # of the layers' norms, as the model's config.json has it
_WIDTH = 384
_ALPHA = 0.65  # the part of loud channels' range that the weights take over, of all channels …
_ALPHA_QUIET = 0.5  # … and without the loudest
_LOUD = 16  # channels that come into a wide part
_LOUD_WIDE = 64  # of its 1536
_OPSET = 17
_IR_VERSION = 8
_FUSED = "com.microsoft"
_JOINED = "attention.self"
_PARTS = ("query", "key", "value")
_NONE = ""  # an input that is left out


def encoder(weights: Path) -> bytes:
    """The graph, from ``model.safetensors``: ``input_ids`` of one text, of shape (1, tokens), in,
    its normalised ``embedding`` of shape (1, 384) out. Texts that share a run would share the
    scales, and no time is saved by it."""
    magnitudes = np.load(Path(__file__).with_suffix(".npy"))
    return Graph(load_file(weights), magnitudes).model().SerializeToString()


class Graph:
    """The graph as far as it is made. A node and what it gives have one name.

    ``magnitudes``: of shape (6, 2304), the largest one of each channel that comes into a layer
    (384), into its wide part (384), and into what makes that narrow again (1536).
    """

    def __init__(self, weights: Weights, magnitudes: NDArray[np.float16]) -> None:
        self._weights = weights
        self._magnitudes = magnitudes.astype(np.float32)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        """All of it."""
        hidden = self._embedded()
        for number in range(_LAYERS):
            hidden = self._layer(number, hidden)
        mean = self._node("mean", "ReduceMean", [hidden], axes=[1], keepdims=0)
        self._node("embedding", "LpNormalization", [mean], axis=1, p=2)
        given = helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"])
        output = helper.make_tensor_value_info(
            "embedding", TensorProto.FLOAT, [1, EMBEDDING_DIMENSIONS]
        )
        graph = helper.make_graph(self._nodes, "minilm", [given], [output], self._constants)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)

    def _embedded(self) -> str:
        """Words and places. Every token is of type 0: its row is added to the places."""
        words = self._constant("words", self._weights["embeddings.word_embeddings.weight"])
        types = self._weights["embeddings.token_type_embeddings.weight"]
        places = self._weights["embeddings.position_embeddings.weight"] + types[0]
        first = self._constant("first", np.zeros(1, np.int64))
        length = self._node("length", "Shape", ["input_ids"], start=1, end=2)
        placed = self._node("placed", "Slice", [self._constant("places", places), first, length])
        tokens = self._node("tokens", "Gather", [words, "input_ids"])
        return self._normed("embeddings", tokens, placed)

    def _layer(self, number: int, hidden: str) -> str:
        layer = f"encoder.layer.{number}"
        into, widened, narrowed = np.split(self._magnitudes[number], [_WIDTH, 2 * _WIDTH])
        attended = self._attention(layer, hidden, into)
        projected = self._product(f"{layer}.attention.output.dense", attended)
        hidden = self._normed(f"{layer}.attention.output", hidden, projected)
        wide = self._product(f"{layer}.intermediate.dense", hidden, widened, _LOUD)
        active = self._node(f"{layer}.active", "Gelu", [wide], _FUSED)
        narrow = self._product(f"{layer}.output.dense", active, narrowed, _LOUD_WIDE)
        return self._normed(f"{layer}.output", hidden, narrow)

    def _attention(self, layer: str, hidden: str, magnitudes: Matrix) -> str:
        """Query, key and value by one multiplication."""
        together = self._product(f"{layer}.{_JOINED}", hidden, magnitudes)
        parts = [f"{layer}.{_JOINED}.{part}" for part in _PARTS]
        self._nodes.append(helper.make_node("Split", [together], parts, axis=-1, name=layer))
        return self._node(f"{layer}.heads", "MultiHeadAttention", parts, _FUSED, num_heads=_HEADS)

    def _normed(self, part: str, before: str, added: str) -> str:
        """What was there and what is added to it, normed: half the time of the fused operator."""
        norm = [self._own(f"{part}.LayerNorm.{name}") for name in ("weight", "bias")]
        summed = self._node(f"{part}.sum", "Add", [before, added])
        return self._node(
            f"{part}.normed", "LayerNormalization", [summed, *norm], axis=-1, epsilon=_EPSILON
        )

    def _dense(self, name: str) -> tuple[Matrix, Matrix]:
        """Its matrix of shape (out, in), and its bias."""
        names = [f"{name}.{part}" for part in _PARTS] if name.endswith(_JOINED) else [name]
        matrix, bias = (
            np.concatenate([self._weights[f"{one}.{what}"] for one in names])
            for what in ("weight", "bias")
        )
        return matrix, bias

    def _product(
        self, name: str, given: str, magnitudes: Matrix | None = None, loud: int = 0
    ) -> str:
        """By the ``magnitudes`` of what is given its channels are balanced with the matrix, but for
        the ``loud`` loudest, which are multiplied apart."""
        matrix, bias = self._dense(name)
        if magnitudes is None:
            return self._rounded(name, given, matrix, bias)
        reach = np.abs(matrix).max(axis=0)
        loudest = np.argsort(magnitudes * reach)[len(reach) - loud :]
        alpha = _ALPHA_QUIET if loud else _ALPHA
        factors = magnitudes**alpha / reach ** (1 - alpha)
        balance = 1 / factors
        factors[loudest] = balance[loudest] = 0
        even = self._node(
            f"{name}.even", "Mul", [given, self._constant(f"{name}.balance", balance)]
        )
        product = self._rounded(name, even, matrix * factors, bias)
        return self._with(name, product, given, loudest, matrix) if loud else product

    def _rounded(self, name: str, given: str, matrix: Matrix, bias: Matrix) -> str:
        """In 8 bits: one scale for what is given, and one for each row."""
        scales = np.abs(matrix).max(axis=1) / 127
        rounded = np.round(matrix / scales[:, None]).astype(np.int8)
        inputs = [
            given,
            self._constant(f"{name}.rounded", np.ascontiguousarray(rounded.T)),
            self._constant(f"{name}.scales", scales),
            _NONE,  # of the zero points
            self._constant(f"{name}.bias", bias),
        ]
        return self._node(f"{name}.product", "DynamicQuantizeMatMul", inputs, _FUSED)

    def _with(
        self, name: str, product: str, given: str, loudest: NDArray[np.int64], matrix: Matrix
    ) -> str:
        """The ``product`` of the others, and that of the ``loudest`` channels."""
        places = self._constant(f"{name}.places", loudest)
        columns = self._constant(f"{name}.columns", np.ascontiguousarray(matrix[:, loudest].T))
        few = self._node(f"{name}.loudest", "Gather", [given, places], axis=2)
        share = self._node(f"{name}.share", "MatMul", [few, columns])
        return self._node(f"{name}.whole", "Add", [product, share])

    def _node(self, name: str, kind: str, inputs: list[str], domain: str = "", **more: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, domain=domain, **more))
        return name

    def _own(self, name: str) -> str:
        return self._constant(name, self._weights[name])

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        self._constants.append(numpy_helper.from_array(values, name))
        return name
