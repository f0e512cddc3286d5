"""A step of a text network with weights of 8 or 4 bits: the file is a quarter or an
eighth as large, and the runtime reads so much less for each piece.

Each matrix is stored as integers without a sign, 4-bit ones two to a byte, and a
float16 scale for each group of inputs; ONNX Runtime's own operation multiplies with
them as they are. The embedding, which is the head too, is stored once for both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from utils.deploy.files import read_onnx, write
from utils.deploy.text import is_step
from utils.quantization import grouped

RUNTIME = "com.microsoft"  # whose operations these are
WHOLE_BLOCKS, FLOATS = 4, 1  # how MatMulNBits multiplies: whole numbers, or float32


def step_to_bits(  # noqa: PLR0913 - how, by keywords
    source: Path | str,
    path: Path | str,
    bits: int = 8,
    *,
    group: int = 64,
    table_bits: int | None = None,
    activation_bits: int = 8,
) -> int:
    """Store the weights of a file of `step_to_onnx` in a few bits; return the size of
    the new file in bytes.

    The weights become those of `quantization.quantize_weights(model, bits,
    group=group)`.

    Args:
        bits: of a weight, 8 or 4.
        group: 16, 32, 64, 128 or 256: so many inputs of a unit share a scale, or fewer
            (`quantization.group_size`).
        table_bits: of the embedding (and head) and of the positions, 8 or 4; by default
            as `bits`.
        activation_bits: 8 or 32. With 8, what comes into a matrix is rounded to 8 bits,
            a scale a group, when it runs, and integers are multiplied; nothing has to
            be calibrated. With 32 it stays as it is: the answers are those of the
            rounded weights, and slower.
    Raises:
        ValueError: other bits or group; a source that holds no step of a text network,
            or is quantized already.
        DamagedFileError: the source is missing, or is no ONNX file.
    """
    for name, value, known in (
        ("bits", bits, (8, 4)),
        ("table_bits", table_bits, (None, 8, 4)),
        ("activation_bits", activation_bits, (8, 32)),
    ):
        if isinstance(value, bool) or value not in known:
            raise ValueError(f"{name}={value!r} must be one of {known}.")
    model = read_onnx(source)
    if not is_step(model.graph.input, model.graph.output) or any(
        node.domain == RUNTIME for node in model.graph.node
    ):
        raise ValueError(
            f"source={str(source)!r} holds no step of a text network, or is quantized"
            " already; give the file that step_to_onnx wrote."
        )
    how = _How(bits, table_bits or bits, group, activation_bits)
    _Rounded(model.graph, how).replace()
    model.opset_import.append(helper.make_opsetid(RUNTIME, 1))
    return write(model, path)


@dataclass(frozen=True)
class _How:
    """The arguments of `step_to_bits`."""

    bits: int
    table_bits: int
    group: int
    activation_bits: int


class _Rounded:
    """A graph on its way from floats to integers."""

    def __init__(self, graph: onnx.GraphProto, how: _How) -> None:
        self.graph, self.how = graph, how
        self.floats = {each.name: each for each in graph.initializer}
        self.tables = {
            node.input[0]
            for node in graph.node
            if node.op_type == "Gather" and self._is_matrix(node.input[0])
        }
        self.stored: dict[str, _Stored] = {}  # by the name that it had as floats

    def _is_matrix(self, name: str) -> bool:
        return name in self.floats and len(self.floats[name].dims) == 2

    def replace(self) -> None:
        """Put the runtime's operations in place of those that read a matrix."""
        nodes = [new for node in self.graph.node for new in self._instead(node)]
        ready = [node for each in self.stored.values() for node in each.nodes]
        used = {name for node in (*ready, *nodes) for name in node.input}
        tensors = [tensor for each in self.stored.values() for tensor in each.tensors]
        floats = [each for each in self.graph.initializer if each.name in used]
        del self.graph.initializer[:], self.graph.node[:]
        self.graph.initializer.extend([*floats, *tensors])
        self.graph.node.extend([*ready, *nodes])

    def _instead(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        if node.op_type == "Gather" and node.input[0] in self.tables:
            yield from self._looked_up(node)
        elif node.op_type == "MatMul" and self._is_matrix(node.input[1]):
            yield self._product(node, self._matrix(node.input[1], turned=True))
        elif _is_linear(node) and self._is_matrix(node.input[1]):
            yield self._product(node, self._matrix(node.input[1]))
        else:
            yield node

    def _product(self, node: onnx.NodeProto, weight: "_Stored") -> onnx.NodeProto:
        exact = self.how.activation_bits == 32
        return helper.make_node(
            "MatMulNBits",
            [node.input[0], weight.integers, weight.scales],
            node.output,
            domain=RUNTIME,
            accuracy_level=FLOATS if exact else WHOLE_BLOCKS,
            **weight.attributes,  # pyright: ignore[reportArgumentType] - numbers
        )

    def _looked_up(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Rows of a table: those groups, unpacked, without the zeros at their end."""
        table, row = self._matrix(node.input[0]), node.output[0]
        whole = row if table.full else f"{row}.whole"
        yield helper.make_node(
            "GatherBlockQuantized",
            [table.flat, node.input[1], table.scales],
            [whole],
            domain=RUNTIME,
            gather_axis=0,
            quantize_axis=1,
            bits=table.attributes["bits"],
            block_size=table.attributes["block_size"],
        )
        if not table.full:
            cut = [f"{table.integers}.{part}" for part in ("start", "end", "axis")]
            yield helper.make_node("Slice", [whole, *cut], [row])

    def _matrix(self, name: str, *, turned: bool = False) -> "_Stored":
        """The weight of that name, rounded when it is first met. turned: it lies there
        as `[inputs, units]`."""
        if name not in self.stored:
            tensor = torch.from_numpy(numpy_helper.to_array(self.floats[name]).copy())
            table = name in self.tables
            bits = self.how.table_bits if table else self.how.bits
            weight = tensor.T if turned else tensor
            self.stored[name] = _Stored(name, weight, bits, self.how.group, table)
        return self.stored[name]


def _is_linear(node: onnx.NodeProto) -> bool:
    """Whether it multiplies with the weight of a linear layer, `[units, inputs]`, and
    does nothing else, as the head does with the last place."""
    numbers = {each.name: each.i or each.f for each in node.attribute}
    plain = {"alpha": 1, "beta": 1, "transA": 0} | numbers == {
        "alpha": 1,
        "beta": 1,
        "transA": 0,
        "transB": 1,
    }
    return node.op_type == "Gemm" and len(node.input) == 2 and plain


class _Stored:
    """A weight `[units, inputs]` in the file: its tensors, the nodes that make them
    ready (the runtime does that once, when it loads the file), and their names.

    table: rows of it are looked up.
    """

    def __init__(
        self, name: str, weight: Tensor, bits: int, group: int, table: bool
    ) -> None:
        values, grid = grouped(weight, bits, group)  # [units, groups, size]
        units, inputs = weight.shape
        self.attributes = {
            "K": inputs,
            "N": units,
            "bits": bits,
            "block_size": values.shape[2],
        }
        self.full = values.shape[1] * values.shape[2] == inputs
        self.integers, self.scales = f"{name}.integers", f"{name}.scales"
        packed = _packed(grid.integers(values).numpy(), bits)
        scales = grid.scale.flatten(1).half().numpy()
        self.tensors = [
            numpy_helper.from_array(packed, self.integers),
            numpy_helper.from_array(scales, f"{name}.half"),
        ]
        to = onnx.TensorProto.FLOAT
        self.nodes = [helper.make_node("Cast", [f"{name}.half"], [self.scales], to=to)]
        if table:
            self._lay_flat(inputs)

    def _lay_flat(self, inputs: int) -> None:
        """Groups side by side, as they are looked up."""
        self.flat, name = f"{self.integers}.flat", self.integers
        numbers = {"shape": [0, -1]}  # as many rows as there are, and all of the rest
        if not self.full:
            numbers |= {"start": [0], "end": [inputs], "axis": [-1]}
        self.tensors += [
            numpy_helper.from_array(np.array(value, np.int64), f"{name}.{part}")
            for part, value in numbers.items()
        ]
        self.nodes.append(
            helper.make_node("Reshape", [name, f"{name}.shape"], [self.flat])
        )


def _packed(integers: np.ndarray, bits: int) -> np.ndarray:
    """Integers `[..., size]` as bytes: half of what they reach stands for zero; of 4
    bits each, the first of two is the lower half of a byte."""
    unsigned = (integers + 2 ** (bits - 1)).astype(np.uint8)
    if bits == 8:
        return unsigned
    return unsigned[..., 0::2] | (unsigned[..., 1::2] << 4)
