"""ONNX files: how a network gets into one, and how one is read: only when it is sound,
and complete in itself."""

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import onnx
import onnxruntime
import torch
from google.protobuf.message import Message
from torch import nn

from utils.arguments import whole
from utils.files import DamagedFileError, read_regular, write_atomically
from utils.layers import eval_mode

LARGEST = 50_000_000  # bytes of a file that is opened


def exported(
    model: nn.Module,
    inputs: tuple,
    free: tuple,
    names: tuple[Sequence[str], Sequence[str]],
) -> onnx.ModelProto:
    """The network as a graph of standard operations, without its notes.

    Args:
        free: of each input, the axes whose length stays open.
        names: of the inputs and of the outputs.
    Raises:
        ValueError: it does something that PyTorch cannot write as ONNX, which then logs
            a page of what it has tried.
    """
    with eval_mode(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own insides
        try:
            program = torch.onnx.export(
                model,
                inputs,
                dynamo=True,
                dynamic_shapes=free,
                input_names=names[0],
                output_names=names[1],
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # the exporter has many types of its own
            raise ValueError(
                f"model ({type(model).__name__}) does something that cannot be written"
                f" as ONNX: {first_line(error.__cause__ or error)}."
            ) from error
    assert program is not None  # it is only for the old exporter
    return program.model_proto


def loaded(path: Path | str, threads: int) -> onnxruntime.InferenceSession:
    """The file, ready to run on so many processor threads of its own, which do not spin
    while they wait: spinning ones would slow whatever is timed beside it.

    Raises:
        ValueError: threads below 1.  DamagedFileError: missing, or cannot be run.
    """
    whole("threads", threads, low=1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # errors are raised, and need not be printed too
    content = read_onnx(path).SerializeToString()
    try:
        return onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
    # ONNX Runtime has a type of its own for each kind of damage
    except Exception as error:  # noqa: BLE001
        raise DamagedFileError(
            f"{path} cannot be run: {first_line(error)}. Repair: export it again."
        ) from None


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
            f"{path} is no sound ONNX file: {first_line(error)}. Repair: export it"
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


def write(model: onnx.ModelProto, path: Path | str) -> int:
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


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
