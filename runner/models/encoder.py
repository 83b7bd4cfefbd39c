"""MiniLM's encoder, made from the published fp32 weights as a graph that ONNX Runtime runs.

The weights of its layers are rounded to 8 bits, and the runtime rounds what the layers are given.
The quick way has one scale for all that a layer is given, and a few loud channels leave nothing to
the others; so its channels are balanced first, as SmoothQuant does it (Xiao et al. 2023), by what
was seen of them: ``encoder.npy``, which benchmarks/encoder.py makes. The exact way has a scale for
each block of 32, and takes half as long again; the layers have it that would lose most.

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
_BLOCK = 32
_ALPHA = 0.65  # the part of the loud channels' range that the weights take over; .55 to .75 do too
_FIRST_QUICK = 3  # of the wide parts: in the earlier layers one channel is loudest by far
_INT8_COMPUTE = 4  # MatMulNBits' accuracy level at which it multiplies in 8 bits
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

    ``magnitudes``: of shape (6, 2, 384), the largest one of each channel that comes into a layer,
    and into its wide part.
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
        attended = self._attention(layer, hidden, self._magnitudes[number, 0])
        projected = self._quick(f"{layer}.attention.output.dense", attended)
        hidden = self._normed(f"{layer}.attention.output", hidden, projected)
        wide = f"{layer}.intermediate.dense"
        if number < _FIRST_QUICK:
            inner = self._exact(wide, hidden)
        else:
            inner = self._quick(wide, hidden, self._magnitudes[number, 1])
        active = self._node(f"{layer}.active", "Gelu", [inner], _FUSED)
        narrowed = self._exact(f"{layer}.output.dense", active)
        return self._normed(f"{layer}.output", hidden, narrowed)

    def _attention(self, layer: str, hidden: str, magnitudes: Matrix) -> str:
        """Query, key and value by one multiplication."""
        together = self._quick(f"{layer}.{_JOINED}", hidden, magnitudes)
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

    def _quick(self, name: str, given: str, magnitudes: Matrix | None = None) -> str:
        """One scale for what is given, and one for each row; with the ``magnitudes`` of what is
        given, after its loud channels' range has gone over to the matrix."""
        matrix, bias = self._dense(name)
        if magnitudes is not None:
            factors = magnitudes**_ALPHA / np.abs(matrix).max(axis=0) ** (1 - _ALPHA)
            balance = self._constant(f"{name}.balance", 1 / factors)
            given = self._node(f"{name}.balanced", "Mul", [given, balance])
            matrix = matrix * factors
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

    def _exact(self, name: str, given: str) -> str:
        """A scale a block, of what is given and of each row."""
        matrix, bias = self._dense(name)
        rounded, scales = eight_bits(matrix)
        inputs = [
            given,
            self._constant(f"{name}.rounded", rounded),
            self._constant(f"{name}.scales", scales),
            _NONE,  # of the zero points …
            _NONE,  # … and of an order of the blocks
            self._constant(f"{name}.bias", bias),
        ]
        sizes = {"N": matrix.shape[0], "K": matrix.shape[1], "bits": 8, "block_size": _BLOCK}
        return self._node(
            f"{name}.product", "MatMulNBits", inputs, _FUSED, accuracy_level=_INT8_COMPUTE, **sizes
        )

    def _node(self, name: str, kind: str, inputs: list[str], domain: str = "", **more: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, domain=domain, **more))
        return name

    def _own(self, name: str) -> str:
        return self._constant(name, self._weights[name])

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        self._constants.append(numpy_helper.from_array(values, name))
        return name


def eight_bits(
    matrix: Matrix,
) -> tuple[NDArray[np.uint8], Matrix]:
    """A matrix of shape (out, in) as MatMulNBits wants it: numbers around 128 of shape (out,
    blocks, 32), and a scale a block."""
    blocks = matrix.reshape(len(matrix), -1, _BLOCK)
    scales = np.maximum(np.abs(blocks).max(axis=2, keepdims=True) / 127, np.finfo(np.float32).tiny)
    rounded = (np.round(blocks / scales) + 128).astype(np.uint8)
    return rounded, scales.reshape(-1).astype(np.float32)
