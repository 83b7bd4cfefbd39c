"""MiniLM's encoder, made from the published fp32 weights as a graph that ONNX Runtime runs.

The weights of its layers are rounded to 8 bits, each block of 32 by a scale of its own; the runtime
does the same with what the layers are given. With one scale a tensor, as published int8 exports
have, the cosine with fp32 falls to .9985; with blocks it stays above .9995. Most operators are
the runtime's own fused ones: a question takes half the time of an export's.
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

Weights = Mapping[str, NDArray[np.float32]]

_LAYERS = 6
_HEADS = 12
_EPSILON = 1e-12  # of the layers' norms, as the model's config.json has it
_BLOCK = 32
_INT8_COMPUTE = 4  # MatMulNBits' accuracy level at which it multiplies in 8 bits
_OPSET = 17
_IR_VERSION = 8
_FUSED = "com.microsoft"
_NONE = ""  # an input that is left out


def encoder(weights: Path) -> bytes:
    """The graph, from ``model.safetensors``: ``input_ids`` and ``attention_mask`` of shape (texts,
    tokens) in, ``last_hidden_state`` of shape (texts, tokens, 384) out."""
    return _Graph(load_file(weights)).model().SerializeToString()


class _Graph:
    """The graph as far as it is made. A node and what it gives have one name."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        """All of it."""
        self._node("key_mask", "Cast", ["attention_mask"], to=TensorProto.INT32)
        hidden = self._embedded()
        for number in range(_LAYERS):
            hidden = self._layer(f"encoder.layer.{number}", hidden)
        self._node("last_hidden_state", "Identity", [hidden])
        shape = ["texts", "tokens"]
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, shape)
            for name in ("input_ids", "attention_mask")
        ]
        output = helper.make_tensor_value_info(
            "last_hidden_state", TensorProto.FLOAT, [*shape, EMBEDDING_DIMENSIONS]
        )
        graph = helper.make_graph(self._nodes, "minilm", inputs, [output], self._constants)
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

    def _layer(self, layer: str, hidden: str) -> str:
        attended = self._linear(f"{layer}.attention.output.dense", self._attention(layer, hidden))
        hidden = self._normed(f"{layer}.attention.output", hidden, attended)
        inner = self._linear(f"{layer}.intermediate.dense", hidden)
        active = self._node(f"{layer}.active", "Gelu", [inner], _FUSED)
        return self._normed(
            f"{layer}.output", hidden, self._linear(f"{layer}.output.dense", active)
        )

    def _attention(self, layer: str, hidden: str) -> str:
        """Query, key and value by one multiplication."""
        parts = [f"{layer}.attention.self.{part}" for part in ("query", "key", "value")]
        joined = [
            np.concatenate([self._weights[f"{part}.{what}"] for part in parts])
            for what in ("weight", "bias")
        ]
        together = self._multiplied(f"{layer}.attention.self", hidden, *joined)
        self._nodes.append(helper.make_node("Split", [together], parts, axis=-1, name=layer))
        inputs = [*parts, _NONE, "key_mask"]
        return self._node(f"{layer}.heads", "MultiHeadAttention", inputs, _FUSED, num_heads=_HEADS)

    def _normed(self, part: str, before: str, added: str) -> str:
        """What was there and what is added to it, normed: half the time of the fused operator."""
        norm = [self._own(f"{part}.LayerNorm.{name}") for name in ("weight", "bias")]
        summed = self._node(f"{part}.sum", "Add", [before, added])
        return self._node(
            f"{part}.normed", "LayerNormalization", [summed, *norm], axis=-1, epsilon=_EPSILON
        )

    def _linear(self, dense: str, given: str) -> str:
        weight, bias = (self._weights[f"{dense}.{what}"] for what in ("weight", "bias"))
        return self._multiplied(dense, given, weight, bias)

    def _multiplied(
        self, name: str, given: str, matrix: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> str:
        """``matrix``: shape (out, in)."""
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
    matrix: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A matrix of shape (out, in) as MatMulNBits wants it: numbers around 128 of shape (out,
    blocks, 32), and a scale a block."""
    blocks = matrix.reshape(len(matrix), -1, _BLOCK)
    scales = np.maximum(np.abs(blocks).max(axis=2, keepdims=True) / 127, np.finfo(np.float32).tiny)
    rounded = (np.round(blocks / scales) + 128).astype(np.uint8)
    return rounded, scales.reshape(-1).astype(np.float32)
