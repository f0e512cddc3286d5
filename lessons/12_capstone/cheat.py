"""A file that a scorer must not fall for."""

from collections.abc import Iterable
from pathlib import Path

from onnx import TensorProto, ValueInfoProto, helper, numpy_helper
from torch import Tensor, as_tensor

from utils.files import write_atomically


def by_place(labels: Tensor, path: Path) -> Path:
    """Write an ONNX file that gives these answers, `[n]`, to the first, second, third
    picture of a batch, whatever is in the pictures; return its path."""
    stored = {"answers": labels, "zero": [0], "ten": [10], "values": [0.0, 1.0]}
    nodes = [
        helper.make_node("Shape", ["pictures"], ["n"], start=0, end=1),
        helper.make_node("Slice", ["answers", "zero", "n"], ["first"]),
        helper.make_node("OneHot", ["first", "ten", "values"], ["outputs"]),
    ]
    graph = helper.make_graph(
        nodes,
        "cheat",
        [_end("pictures", (1, 28, 28))],
        [_end("outputs", (10,))],
        [
            numpy_helper.from_array(as_tensor(value).numpy(), name)
            for name, value in stored.items()
        ],
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, ir_version=10, opset_imports=opset)
    write_atomically(path, model.SerializeToString())
    return path


def _end(name: str, shape: Iterable[int]) -> ValueInfoProto:
    """An input or output with any number of pictures."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape])
