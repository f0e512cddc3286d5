"""A network that classifies pictures, as an ONNX file, and as one in int8. Built in
lessons/10_deployment.

ONNX is a file format for networks: a graph of standard operations and their weights.
ONNX Runtime runs it, and fuses what stands next to each other. For int8 its static
quantization writes QuantizeLinear and DequantizeLinear pairs into the graph (QDQ),
which the runtime then turns into integer arithmetic.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime import quantization
from torch import Tensor, nn

from utils.data import Batches
from utils.deploy.files import exported, first_line, loaded, read_onnx, write
from utils.layers import check_not_lazy, eval_mode
from utils.quantization import calibration_pictures
from utils.training import predict_logits

INPUT, OUTPUT = "pictures", "outputs"  # names in the file
# pictures: the runtime keeps the memory that its largest batch took, for each session
AT_ONCE = 100


def to_onnx(model: nn.Module, example: Tensor, path: Path | str) -> int:
    """Write the network as ONNX, for batches of any size; return the file's size in
    bytes.

    BatchNorm is folded into the convolutions. Names and notes that nothing needs are
    left out: they would take bytes, and would tell where on your disk the code lies.

    Args:
        example: one input of the shape the network takes, `[1, ...]`.
    Raises:
        ValueError: the network itself fails on the example, or is not made yet (lazy
            layers); it does something that PyTorch cannot write as ONNX, which then
            logs a page of what it has tried. No file is written.
    """
    check_not_lazy(model)
    if not isinstance(example, Tensor) or example.dim() < 1:
        raise ValueError(f"example={example!r} must be a tensor, [1, ...].")
    model = getattr(model, "_orig_mod", model)  # of a compiled one, what was written
    batch = torch.cat([example, example])  # two: an exporter may take 1 for a constant
    _check_runs(model, batch)
    batch_dim = {0: torch.export.Dim.DYNAMIC}
    return write(exported(model, (batch,), (batch_dim,), ([INPUT], [OUTPUT])), path)


def _check_runs(model: nn.Module, batch: Tensor) -> None:
    """Before the exporter tries: its message for a wrong shape is a page long."""
    try:
        with eval_mode(model), torch.no_grad():
            model(batch)
    except Exception as error:  # whatever the network raises
        given = (
            f"example (twice: {list(batch.shape)}, {batch.dtype}) must be an input of"
            " the shape the network takes"
        )
        raise ValueError(f"{given}; it fails: {first_line(error)}.") from error


def to_int8(
    source: Path | str, batches: Batches, path: Path | str, *, weight_bits: int = 7
) -> int:
    """Quantize an ONNX file to int8; return the size of the new file in bytes.

    Weights: integers with a sign, one scale a unit. Activations: 8 bits without a sign,
    one scale and zero point each, from the range they had on these batches
    (calibration).

    Args:
        weight_bits: 7, so that the file gives the same answers everywhere. With 8 it
            may not: processors without VNNI add two products of an activation and a
            weight in 16 bits, and the sum saturates where both are large (255 * 127 * 2
            is more than 32,767). Here that cost a VGG 3 points of accuracy.
    Raises:
        ValueError: no batches; an empty one, one that is not finite, or of another type
            or shape than the source takes; other weight_bits; a source that is int8
            already, or takes no input or several.
        DamagedFileError: the source is missing, or is no ONNX file.
    """
    if not batches:
        raise ValueError("batches is empty; calibration needs at least one.")
    if weight_bits not in (7, 8):
        raise ValueError(f"weight_bits={weight_bits!r} must be 7 or 8.")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        inner = Path(folder) / "int8.onnx"
        model = read_onnx(source)
        if not model.graph.input or any(
            "quantizelinear" in node.op_type.lower() for node in model.graph.node
        ):
            wrong = "is quantized already" if model.graph.input else "takes no input"
            raise ValueError(
                f"source={str(source)!r} {wrong}; give the file that to_onnx wrote."
            )
        if len(model.graph.input) > 1:
            raise ValueError(
                f"source={str(source)!r} takes {len(model.graph.input)} inputs, not"
                " pictures alone; for a step of a text network there is step_to_bits."
            )
        for number, node in enumerate(model.graph.node):
            # so that layers with equal biases, stored once, get one each: scales differ
            node.name = f"n{number}"
        try:
            quantization.quantize_static(
                model,
                inner,
                _Calibration(batches, model.graph.input[0]),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                reduce_range=weight_bits == 7,
            )
        except ValueError:
            raise
        except Exception as error:  # ONNX Runtime has types of its own
            raise ValueError(
                f"source={str(source)!r} cannot be quantized with these batches:"
                f" {first_line(error)}."
            ) from error
        return write(onnx.load(inner), path)


class Session(nn.Module):
    """An ONNX file, loaded and ready: a module without parameters, so that `evaluate`
    and `latency` take it.

    It has threads of its own, which do not spin while they wait: spinning ones would
        slow whatever is timed beside it.

    Args:
        threads: how many processor threads compute one batch, 1 or more.
    Raises:
        ValueError: other threads.  DamagedFileError: the file is missing, or cannot be
            run.
    """

    def __init__(self, path: Path | str, *, threads: int = 1) -> None:
        super().__init__()
        self.session = loaded(path, threads)
        self.input = self.session.get_inputs()[0].name

    def forward(self, images: Tensor) -> Tensor:
        """`[n, 1, 28, 28]` -> `[n, classes]`, float32.

        Raises:
            ValueError: pictures of another shape or type than the file takes.
        """
        parts = images.detach().contiguous().split(AT_ONCE)
        try:
            return torch.cat(
                [
                    torch.from_numpy(self.session.run(None, {self.input: p.numpy()})[0])
                    for p in parts
                ]
            )
        except Exception as error:  # ONNX Runtime has types of its own
            raise ValueError(
                f"images {list(images.shape)}, {images.dtype}, are not what the file"
                f" takes: {first_line(error)}."
            ) from error


@dataclass(frozen=True)
class Parity:
    """How far two networks agree: the largest difference of an output, and the fraction
    of pictures with one class."""

    difference: float
    agreement: float


def parity(one: nn.Module, other: nn.Module, images: Tensor) -> Parity:
    """Compare the outputs of two networks, `[n, classes]`, for `[n, 1, 28, 28]`
    pictures. Built in lessons/10_deployment (`compare`).

    Raises:
        ValueError: no pictures, or outputs of two shapes or that are not finite.

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> parity(network, network, torch.randn(5, 1, 28, 28))
    Parity(difference=0.0, agreement=1.0)
    """
    if not len(images):
        raise ValueError(
            f"images has the shape {list(images.shape)}; it must hold at least one"
            " picture."
        )
    first, second = predict_logits(one, images), predict_logits(other, images)
    if first.shape != second.shape:
        shapes = f"one gives {list(first.shape)}, other gives {list(second.shape)}"
        raise ValueError(
            f"the outputs have two shapes and cannot be compared: {shapes}."
        )
    for name, outputs in (("one", first), ("other", second)):
        if not outputs.isfinite().all():
            raise ValueError(
                f"the outputs of {name} are not all finite numbers; only such can be"
                " compared."
            )
    same = (first.argmax(-1) == second.argmax(-1)).float().mean().item()
    return Parity((first - second).abs().max().item(), same)


class _Calibration(quantization.CalibrationDataReader):
    """Hands out the pictures, for what the graph calls its input."""

    def __init__(self, batches: Batches, taken: onnx.ValueInfoProto) -> None:
        self.pictures, self.name = calibration_pictures(batches), taken.name
        self.dtype = onnx.helper.tensor_dtype_to_np_dtype(
            taken.type.tensor_type.elem_type
        )

    # None ends the pictures, as ONNX Runtime asks; its annotation leaves that out
    def get_next(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
    ) -> dict[str, np.ndarray] | None:
        images = next(self.pictures, None)
        if images is None:
            return None
        if str(images.dtype) != f"torch.{self.dtype}":
            raise ValueError(
                f"batches has pictures of {images.dtype}; the source takes"
                f" torch.{self.dtype}."
            )
        return {self.name: images.numpy()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantizer's advice to run steps that the exporter has run already."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
