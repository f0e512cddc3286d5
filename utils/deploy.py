"""From PyTorch to a file that runs without it: ONNX, ONNX Runtime, int8. Built in
lessons/10_deployment.

ONNX is a file format for networks: a graph of standard operations and their weights.
ONNX Runtime runs it, and fuses what stands next to each other. For int8 its static
quantization writes QuantizeLinear and DequantizeLinear pairs into the graph (QDQ),
which the runtime then turns into integer arithmetic.
"""

import itertools
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import Message
from onnxruntime import quantization
from torch import Tensor, nn

from utils.arguments import whole
from utils.data import Batches
from utils.files import DamagedFileError, read_regular, write_atomically
from utils.layers import check_not_lazy, eval_mode
from utils.quantization import calibration_pictures
from utils.training import predict_logits

INPUT, OUTPUT = "pictures", "outputs"  # names in the file
LARGEST = 50_000_000  # bytes of a file that is opened


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
    with eval_mode(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own insides
        try:
            program = torch.onnx.export(
                model,
                (batch,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                input_names=[INPUT],
                output_names=[OUTPUT],
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # the exporter has many types of its own
            raise ValueError(
                f"model ({type(model).__name__}) does something that cannot be written"
                f" as ONNX: {_first_line(error.__cause__ or error)}."
            ) from error
    assert program is not None  # it is only for the old exporter
    return _write(program.model_proto, path)


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
        raise ValueError(f"{given}; it fails: {_first_line(error)}.") from error


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
            already, or takes no input.
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
                f" {_first_line(error)}."
            ) from error
        return _write(onnx.load(inner), path)


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
        whole("threads", threads, low=1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # errors are raised, and need not be printed too
        content = read_onnx(path).SerializeToString()
        try:
            self.session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        # ONNX Runtime has a type of its own for each kind of damage
        except Exception as error:  # noqa: BLE001
            raise DamagedFileError(
                f"{path} cannot be run: {_first_line(error)}. Repair: export it again."
            ) from None
        self.input = self.session.get_inputs()[0].name

    def forward(self, images: Tensor) -> Tensor:
        """`[n, 1, 28, 28]` -> `[n, classes]`, float32.

        Raises:
            ValueError: pictures of another shape or type than the file takes.
        """
        given = {self.input: images.detach().contiguous().numpy()}
        try:
            return torch.from_numpy(self.session.run(None, given)[0])
        except Exception as error:  # ONNX Runtime has types of its own
            raise ValueError(
                f"images {list(images.shape)}, {images.dtype}, are not what the file"
                f" takes: {_first_line(error)}."
            ) from error


def read_onnx(path: Path | str) -> onnx.ModelProto:
    """An ONNX file, checked: complete in itself, every tensor as large as it says.

    Raises:
        DamagedFileError: missing, over 50 MB, not ONNX, or with weights in other files.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            raise DamagedFileError(
                f"{path} has {path.stat().st_size:,} bytes; at most {LARGEST:,} are"
                " opened."
            )
        content = read_regular(path, "export it again.", LARGEST)
        model = onnx.load_model_from_string(content)
        for tensor in _tensors(model):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                raise DamagedFileError(
                    f"{path} keeps {tensor.name} in another file. Repair: export it"
                    " into one file."
                )
        onnx.checker.check_model(model)
        for tensor in _tensors(model):
            # fails where there are more or fewer numbers than its shape says
            onnx.numpy_helper.to_array(tensor)
    except DamagedFileError:
        raise
    except FileNotFoundError:
        raise DamagedFileError(
            f"{path} is missing. Repair: write it with to_onnx."
        ) from None
    # protobuf's and onnx's own types
    except Exception as error:  # noqa: BLE001
        raise DamagedFileError(
            f"{path} is no sound ONNX file: {_first_line(error)}. Repair: export it"
            " again."
        ) from None
    return model


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """All tensors of a model: its initializers, and those in the attributes of its
    nodes, functions and subgraphs."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _tensors(part)


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
    same = (first.argmax(1) == second.argmax(1)).float().mean().item()
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


def _write(model: onnx.ModelProto, path: Path | str) -> int:
    """Write the model without its notes and with short names; the size in bytes."""
    del model.metadata_props[:], model.functions[:]
    short = _short_names(model.graph)
    for graph in _graphs(model.graph):
        del graph.metadata_props[:], graph.value_info[:]
        for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
            del part.metadata_props[:]
            part.doc_string = ""
        for value in (*graph.initializer, *graph.input, *graph.output):
            value.name = short(value.name)
        for node in graph.node:
            node.name = ""
            node.input[:] = [short(name) for name in node.input]
            node.output[:] = [short(name) for name in node.output]
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    write_atomically(Path(path), content)
    return len(content)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, and those inside it: the branches of an `If`, the body of a `Loop`."""
    yield graph
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        for inner in (
            *([attribute.g] if attribute.HasField("g") else []),
            *attribute.graphs,
        ):
            yield from _graphs(inner)


def _short_names(graph: onnx.GraphProto) -> Callable[[str], str]:
    """From a name to its short one, the same each time it is asked for; those of inputs
    and outputs stay."""
    kept = {"", *(each.name for each in (*graph.input, *graph.output))}
    names = {name: name for name in kept}
    free = (
        name
        for number in itertools.count(len(kept))
        if (name := f"t{number}") not in kept
    )
    return lambda name: (
        names[name] if name in names else names.setdefault(name, next(free))
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
