"""Weights of four bits in an ONNX file, two to a byte."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from utils.deploy import read_onnx
from utils.deploy.files import write
from utils.quantization import weight_grid

OPSET = 21  # of ONNX: the first that has 4-bit integers


def to_four_bits(source: Path | str, path: Path | str) -> int:
    """Store the weights of a file of `to_onnx` in 4 bits, with a scale for each unit;
    return the size of the new file in bytes.

    The weights become those of `quantization.quantize_weights(model, 4)`. The runtime
    makes them floats when it loads the file, so that it computes with floats.

    Raises:
        DamagedFileError: the source is missing, or is no ONNX file.
    """
    model = read_onnx(source)
    graph = model.graph
    tensors, unpacking = [], []
    for tensor in graph.initializer:
        if len(tensor.dims) < 2:  # biases, shapes
            tensors.append(tensor)
            continue
        stored, nodes = _packed(tensor)
        tensors += stored
        unpacking += nodes
    nodes = [*unpacking, *graph.node]
    del graph.initializer[:], graph.node[:], model.opset_import[:]
    graph.initializer.extend(tensors)
    graph.node.extend(nodes)
    model.opset_import.append(helper.make_opsetid("", OPSET))
    return write(model, path)


def _packed(
    tensor: onnx.TensorProto,
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """A weight `[units, ...]` as 4-bit integers and scales `[units, 1, ...]`, and the
    nodes that multiply them."""
    weight = torch.from_numpy(numpy_helper.to_array(tensor).copy())
    grid = weight_grid(weight, 4)
    integers = grid.integers(weight).numpy().astype(np.int8).view(np.uint8) & 15
    pairs = np.pad(integers.ravel(), (0, integers.size % 2)).reshape(-1, 2)
    stored = (pairs[:, 0] | pairs[:, 1] << 4).astype(np.uint8).tobytes()
    ones = [1] * (weight.dim() - 1)
    scales = grid.scale.reshape(-1, *ones).numpy()
    name = tensor.name
    whole, scale, floats = (f"{name}.{part}" for part in ("i", "s", "f"))
    return [
        helper.make_tensor(whole, TensorProto.INT4, tensor.dims, stored, raw=True),
        numpy_helper.from_array(scales, scale),
    ], [
        helper.make_node("Cast", [whole], [floats], to=TensorProto.FLOAT),
        helper.make_node("Mul", [floats, scale], [name]),
    ]
