"""Deployment: the file gives PyTorch's answers, holds nothing it need not, and a
damaged one is refused, not run."""

import copy
import hashlib
import logging
import os
import re
import tempfile
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from utils import baselines, deploy, models, surgery
from utils.data import Split
from utils.deploy import (
    Parity,
    Session,
    parity,
    read_onnx,
    to_int8,
    to_onnx,
)
from utils.files import DamagedFileError
from utils.layers import prunable
from utils.masks import apply_masks, magnitude_masks
from utils.measure import latency
from utils.quantization import quantized, weight_grid
from utils.scores import score
from utils.training import evaluate

QUANTIZED = ("Conv", "Gemm")


def randomise(network: nn.Module) -> nn.Module:
    """BatchNorm as after a long training, not as freshly made."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    return network


def pruned_vgg() -> nn.Module:
    """Seven weights of ten are zero; and a whole unit is, as pruning may leave it."""
    network = randomise(models.vgg(((8, 6), (12,))))
    apply_masks(network, magnitude_masks(network, 0.7))
    network[3].weight.data[2] = 0
    return network


def shrunk_resnet() -> nn.Module:
    """Four units of ten are gone."""
    network = randomise(models.resnet((6, 8), blocks=1))
    return surgery.shrink(
        network, torch.zeros(1, 1, 28, 28), score("random", network, units=True), 0.4
    )


def equal_biases() -> nn.Module:
    """Layers of one width whose biases are equal: the exporter stores them once."""
    layers = []
    for inputs in (1, 4, 4):
        layers += [nn.Conv2d(inputs, 4, 3, stride=2), nn.ReLU()]
    network = nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 4),
        nn.ReLU(),
        nn.Linear(4, 4),
    )
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.bias.data = torch.tensor([0.1, -0.2, 0.3, 0.05])
    return network


def zero_biases() -> nn.Module:
    """The same with nothing in the biases."""
    network = equal_biases()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    return network


MAKE = {
    "vgg": pruned_vgg,
    "resnet": shrunk_resnet,
    "equal biases": equal_biases,
    "zero biases": zero_biases,
}


class Exported:
    """A network, its pictures, its file, and the int8 one."""

    def __init__(self, name: str, pictures: torch.Tensor, folder) -> None:
        torch.manual_seed(0)
        self.name, self.network = name, MAKE[name]().eval()
        self.pictures, self.batches = (
            pictures,
            [(pictures[:40], None), (pictures[40:60], None)],
        )
        self.path, self.int8 = folder / "net.onnx", folder / "int8.onnx"
        self.size = to_onnx(self.network, pictures[:1], self.path)
        self.int8_size = to_int8(self.path, self.batches, self.int8)


@pytest.fixture(scope="module")
def all_exported(course_data, tmp_path_factory):
    """Each network is exported once, when first asked for: an export takes seconds."""
    made = {}

    def get(name: str) -> Exported:
        if name not in made:
            made[name] = Exported(
                name,
                course_data.train.images[:200],
                tmp_path_factory.mktemp("exported"),
            )
        return made[name]

    return get


@pytest.fixture(params=MAKE)
def exported(request, all_exported) -> Exported:
    return all_exported(request.param)


@pytest.fixture
def vgg(all_exported) -> Exported:
    return all_exported("vgg")


# ------------------------------------------------------------------------------ to ONNX


def test_the_file_gives_the_answers_of_pytorch_for_any_batch(exported):
    session = Session(exported.path)
    for count in (1, 2, 7, 200):
        pictures = exported.pictures[:count]
        with torch.no_grad():
            expected = exported.network(pictures)
        found = session(pictures)
        assert found.dtype == torch.float32 and found.shape == expected.shape
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert parity(exported.network, session, exported.pictures).agreement >= 0.99


def test_the_file_holds_weights_and_little_else(exported):
    weights = 4 * sum(
        p.numel() for name, p in exported.network.named_parameters() if "bn" not in name
    )
    nodes = len(read_onnx(exported.path).graph.node)
    assert exported.size == exported.path.stat().st_size
    assert (
        0.9 * weights < exported.size < weights + 4000
        and exported.size < weights + 160 * nodes + 600
    )
    assert not [
        node.op_type
        for node in read_onnx(exported.path).graph.node
        if node.op_type == "BatchNormalization"
    ]


@pytest.mark.parametrize("which", ["path", "int8"])
def test_the_file_tells_nothing_of_this_machine(exported, which):
    content = getattr(exported, which).read_bytes()
    words = (
        b"Users",
        b"home",
        b"torch.nn",
        b"site-packages",
        b".py",
        b"Traceback",
        b"File ",
        b"forward",
        b"pkg.",
    )
    assert not [word for word in words if word in content]
    assert not re.findall(rb"/[A-Za-z_.-]{3,}", content) and not re.findall(
        rb"[A-Za-z]:\\\\", content
    )
    model = read_onnx(getattr(exported, which))
    assert (
        not model.doc_string
        and not model.metadata_props
        and not model.graph.metadata_props
    )
    used = [name for node in model.graph.node for name in (*node.input, *node.output)]
    names = {*used, *(tensor.name for tensor in model.graph.initializer)}
    assert all(
        re.fullmatch(r"t\d+", name)
        for name in names - {deploy.INPUT, deploy.OUTPUT, ""}
    )
    assert {deploy.INPUT, deploy.OUTPUT} <= names
    assert all(
        not node.name and not node.doc_string and not node.metadata_props
        for node in model.graph.node
    )


def test_exporting_leaves_the_model_and_says_nothing(
    unchanged, tmp_path, capfd, caplog
):
    caplog.set_level(logging.DEBUG)
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 6 * 6, 2)
    ).train()
    check = unchanged(network)
    picture, disabled = torch.randn(1, 1, 8, 8), logging.root.manager.disable
    to_onnx(network, picture, tmp_path / "deep" / "a.onnx")
    check()
    assert logging.root.manager.disable == disabled
    to_onnx(copy.deepcopy(network), picture, str(tmp_path / "b.onnx"))
    assert (tmp_path / "deep" / "a.onnx").read_bytes() == (
        tmp_path / "b.onnx"
    ).read_bytes()
    assert capfd.readouterr() == ("", "")
    assert [
        record for record in caplog.records if record.levelno >= logging.WARNING
    ] == []
    with torch.no_grad():
        assert (
            Session(tmp_path / "b.onnx")(picture) - network.eval()(picture)
        ).abs().max() < 1e-5


class Choice(nn.Module):
    """One layer for bright pictures, another for dark ones; and in one of them a choice
    again."""

    def __init__(self) -> None:
        super().__init__()
        self.bright, self.dark, self.darker = (nn.Linear(6, 3) for _ in range(3))

    def forward(self, x):
        def low(x):
            return (
                torch.cond(x.mean() > -1, self.dark, self.darker, (x.relu() - 1,)) * 2
            )

        return torch.cond(x.mean() > 0, self.bright, low, (x,))


def test_a_network_that_chooses_is_exported_with_both_branches(tmp_path):
    torch.manual_seed(0)
    network, inputs = Choice().eval(), torch.randn(5, 6)
    to_onnx(network, inputs[:1], tmp_path / "net.onnx")
    session = Session(tmp_path / "net.onnx")
    with torch.no_grad():
        for each in (inputs + 3, inputs - 3, inputs - inputs.mean() - 0.5):
            assert torch.allclose(session(each), network(each), atol=1e-5)
    content = (tmp_path / "net.onnx").read_bytes()
    assert not [
        word
        for word in (b".py", b"torch.nn", b"site-packages", b"weight")
        if word in content
    ]


def test_many_pictures_go_through_the_runtime_a_hundred_at_a_time(vgg, course_data):
    """It keeps the memory of its largest batch: for 1,000 of the VGG 0.9 GB."""
    session, sizes = Session(vgg.path), []
    pictures = course_data.validation.images[:230]
    whole = session.session.run(None, {session.input: pictures.numpy()})[0]
    run = session.session.run

    def seen(names, given):
        sizes.append(len(given[session.input]))
        return run(names, given)

    session.session = SimpleNamespace(run=seen)
    assert np.abs(session(pictures).numpy() - whole).max() < 1e-4
    assert sizes == [100, 100, 30]
    assert session(pictures[:0]).shape == (0, 10)


def test_an_example_that_the_network_does_not_take_is_refused_without_a_page(
    tmp_path, unchanged, capfd, caplog
):
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 2)).train()
    check = unchanged(network)
    with pytest.raises(
        ValueError,
        match=(
            r"example \(twice: \[2, 1, 5, 3\], torch\.float32\).*cannot be multiplied"
        ),
    ) as caught:
        to_onnx(network, torch.zeros(1, 1, 5, 3), tmp_path / "net.onnx")
    assert "\n" not in str(caught.value) and isinstance(
        caught.value.__cause__, RuntimeError
    )
    check()
    assert (
        capfd.readouterr() == ("", "")
        and not caplog.records
        and not list(tmp_path.iterdir())
    )


# ------------------------------------------------------------------------------ to int8


def stored(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
    }


def operands(model: onnx.ModelProto) -> list[list[onnx.NodeProto]]:
    """Of each convolution and linear layer, the nodes that make its input, weight and
    bias."""
    makes = {name: node for node in model.graph.node for name in node.output}
    return [
        [makes[name] for name in node.input if name]
        for node in model.graph.node
        if node.op_type in QUANTIZED
    ]


def test_every_operand_comes_as_integers_with_the_right_scale(exported):
    """The bias is added to sums of products: its scale must be the input's times the
    weight's, of its own layer."""
    model = read_onnx(exported.int8)
    numbers, layers = stored(model), operands(model)
    assert len(layers) == len(prunable(exported.network))
    biases = []
    for parts in layers:
        assert all(part.op_type == "DequantizeLinear" for part in parts)
        on_input, on_weight, *on_bias = (
            [numbers.get(name) for name in part.input] for part in parts
        )
        assert (
            on_weight[0].dtype == np.int8
            and on_input[2].dtype == np.uint8
            and not on_weight[2].any()
        )
        assert on_weight[1].shape == on_weight[0].shape[:1]  # one scale a unit
        for bias in on_bias:
            assert bias[0].dtype == np.int32
            np.testing.assert_allclose(bias[1], on_input[1] * on_weight[1], rtol=1e-5)
        biases += [part.input[0] for part in parts[2:]]
    assert (
        len(set(biases))
        == len(biases)
        == (0 if exported.name == "zero biases" else len(layers))
    )


def test_weights_use_seven_bits_and_zeros_stay(exported):
    model, source = read_onnx(exported.int8), read_onnx(exported.path)
    numbers, weights = stored(model), stored(source)
    left = [
        weights[node.input[1]]
        for node in source.graph.node
        if node.op_type in QUANTIZED
    ]
    for _, on_weight, *_ in operands(model):
        after, scale = numbers[on_weight.input[0]], numbers[on_weight.input[1]]
        scale = scale.reshape(-1, *[1] * (after.ndim - 1))
        assert after.min() >= -64 and after.max() <= 64 and np.abs(after).max() >= 63
        same_shape = [
            index for index, before in enumerate(left) if before.shape == after.shape
        ]
        fits = [
            index
            for index in same_shape
            if (np.abs(after * scale - left[index]) <= 0.5001 * scale).all()
        ]
        assert fits  # its nodes may come in another order
        before = left.pop(fits[0])
        assert not after[before == 0].any()
        ours = (
            weight_grid(torch.tensor(before), 7).integers(torch.tensor(before)).numpy()
        )
        assert (np.abs(after - ours) <= 1).all()  # 63 steps here, 64 there
    assert not left


def test_int8_agrees_with_the_simulation(exported):
    simulated = quantized(exported.network, exported.batches, bits=7)
    session = Session(exported.int8)
    with torch.no_grad():
        outputs = exported.network(exported.pictures)
    width = (outputs.max() - outputs.min()).item()
    found = parity(simulated, session, exported.pictures)
    assert 0 < found.difference < 0.03 * width and found.agreement > 0.9
    assert (
        0
        < parity(exported.network, session, exported.pictures).difference
        < 0.15 * width
    )


def test_int8_is_small_and_for_any_batch(vgg):
    weights = sum(weight.numel() for weight in prunable(vgg.network).values())
    assert vgg.int8_size == vgg.int8.stat().st_size < weights + 5000 < vgg.size
    session = Session(vgg.int8)
    together = session(vgg.pictures[:7])
    for count in (1, 2):
        assert torch.allclose(
            session(vgg.pictures[:count]), together[:count], atol=1e-6
        )


def test_the_same_input_gives_the_same_bytes(vgg, start_python, tmp_path):
    to_int8(vgg.path, vgg.batches, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == vgg.int8.read_bytes()
    torch.save(vgg.pictures[:60], tmp_path / "pictures")
    code = f"""if True:
        import hashlib, torch
        from utils.deploy import to_int8
        x = torch.load({str(tmp_path / "pictures")!r})
        batches = [(x[:40], None), (x[40:], None)]
        to_int8({str(vgg.path)!r}, batches, {str(tmp_path / "other.onnx")!r})
    """
    process = start_python(code, PYTHONHASHSEED="1")
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    other = (tmp_path / "other.onnx").read_bytes()
    assert (
        hashlib.sha256(other).hexdigest()
        == hashlib.sha256(vgg.int8.read_bytes()).hexdigest()
    )
    assert out == error == ""


def test_eight_bits_are_finer_than_seven(vgg, tmp_path):
    to_int8(vgg.path, vgg.batches, tmp_path / "eight.onnx", weight_bits=8)
    largest = max(
        np.abs(each).max()
        for each in stored(read_onnx(tmp_path / "eight.onnx")).values()
        if each.dtype == np.int8
    )
    assert 126 <= largest <= 127


def test_quantizing_is_quiet_and_clean(vgg, tmp_path, capfd, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    folder, before = tmp_path / "temporary", vgg.path.read_bytes()
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    turned = vgg.pictures[:40].transpose(2, 3).contiguous().transpose(2, 3)
    assert not turned.is_contiguous()
    to_int8(vgg.path, [(turned, None), vgg.batches[1]], tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == vgg.int8.read_bytes()
    assert vgg.path.read_bytes() == before
    assert list(folder.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert [
        record for record in caplog.records if record.levelno >= logging.WARNING
    ] == []


@pytest.mark.parametrize("level", [logging.NOTSET, logging.INFO, logging.CRITICAL])
def test_the_logging_level_comes_back_also_after_an_error(vgg, tmp_path, level):
    logging.disable(level)
    try:
        to_int8(vgg.path, vgg.batches[1:], tmp_path / "out.onnx")
        assert logging.root.manager.disable == level
        with pytest.raises(DamagedFileError):
            to_int8(tmp_path / "missing.onnx", vgg.batches, tmp_path / "out.onnx")
        assert logging.root.manager.disable == level
        with pytest.raises(Exception, match=r"INVALID_ARGUMENT|dimension"):
            to_int8(vgg.path, [(torch.zeros(2, 5, 3, 3), None)], tmp_path / "out.onnx")
        assert logging.root.manager.disable == level
    finally:
        logging.disable(logging.NOTSET)


def test_wrong_arguments_of_to_int8_are_refused(vgg, tmp_path):
    with pytest.raises(ValueError, match="batches is empty"):
        to_int8(vgg.path, [], tmp_path / "out.onnx")
    for bits in (6, 9, "7", None):
        with pytest.raises(ValueError, match=r"weight_bits=.*7 or 8"):
            to_int8(vgg.path, vgg.batches, tmp_path / "out.onnx", weight_bits=bits)
    assert not (tmp_path / "out.onnx").exists()


def with_nan(pictures: torch.Tensor) -> torch.Tensor:
    return torch.where(pictures > 1, float("nan"), pictures)


BAD_BATCHES = {
    "empty": (lambda x: x[:0], r"batches\[1\] has the shape \[0, 1, 28, 28\]"),
    "NaN": (with_nan, r"batches\[1\] is not finite"),
    "infinite": (lambda x: x / 0, r"batches\[1\] is not finite"),
    "float64": (
        lambda x: x.double(),
        r"pictures of torch\.float64; the source takes torch\.float32",
    ),
    "bfloat16": (
        lambda x: x.bfloat16(),
        r"pictures of torch\.bfloat16; the source takes torch\.float32",
    ),
    "bytes": (
        lambda x: x.byte(),
        r"pictures of torch\.uint8; the source takes torch\.float32",
    ),
}


@pytest.mark.parametrize("case", BAD_BATCHES)
def test_batches_that_cannot_calibrate_are_named(vgg, tmp_path, case):
    change, words = BAD_BATCHES[case]
    with pytest.raises(ValueError, match=words):
        to_int8(
            vgg.path,
            [vgg.batches[0], (change(vgg.pictures[:4]), None)],
            tmp_path / "out.onnx",
        )
    assert not list(tmp_path.iterdir())


def test_pictures_with_a_gradient_calibrate_as_those_without(vgg, tmp_path):
    batches = [(images.clone().requires_grad_(), None) for images, _ in vgg.batches]
    to_int8(vgg.path, iter(batches), tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == vgg.int8.read_bytes()


def test_a_quantized_source_is_refused(vgg, tmp_path):
    with pytest.raises(ValueError, match=r"source='.*int8\.onnx' is quantized already"):
        to_int8(vgg.int8, vgg.batches, tmp_path / "out.onnx")
    assert not list(tmp_path.iterdir())


def test_a_source_without_input_is_refused(tmp_path):
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Constant", [], ["y"], value_floats=[1.0])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "constant", [], [output])
    )
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"source='.*net\.onnx' takes no input"):
        to_int8(
            tmp_path / "net.onnx",
            [(torch.zeros(1, 1, 28, 28), None)],
            tmp_path / "out.onnx",
        )


def renamed(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Other names everywhere in the graph."""
    for each in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        each.name = names.get(each.name, each.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


@pytest.mark.parametrize(
    "names", [("t3", "t4"), ("t5", "t3"), ("x", "t1000"), ("t2", "y")]
)
def test_a_source_may_call_its_input_and_output_as_it_likes(vgg, tmp_path, names):
    """Also as `_write` would call what lies between."""

    def rename(model: onnx.ModelProto) -> None:
        inner = {
            name: f"inner_{name}"
            for node in model.graph.node
            for name in (*node.input, *node.output)
            if name
        }
        renamed(
            model, inner | dict(zip((deploy.INPUT, deploy.OUTPUT), names, strict=True))
        )

    changed(vgg.path, tmp_path / "net.onnx", rename)
    to_int8(tmp_path / "net.onnx", vgg.batches, tmp_path / "int8.onnx")
    model = read_onnx(tmp_path / "int8.onnx")
    assert (model.graph.input[0].name, model.graph.output[0].name) == names
    for path, same in (("net.onnx", vgg.path), ("int8.onnx", vgg.int8)):
        assert torch.equal(
            Session(tmp_path / path)(vgg.pictures[:9]), Session(same)(vgg.pictures[:9])
        )


# ---------------------------------------------------------------------------- a session


def test_a_session_is_evaluated_and_timed_like_a_network(vgg, tiny):
    session = Session(vgg.path)
    split = Split(vgg.pictures, vgg.network(vgg.pictures).argmax(1))
    assert (
        list(session.parameters()) == []
        and evaluate(session, split) == evaluate(vgg.network, split) == 1.0
    )
    assert evaluate(session, split, batch_size=33) == 1.0
    assert 0 <= evaluate(Session(vgg.int8), tiny) <= 1
    got = latency(
        {"pytorch": vgg.network, "onnx": session, "int8": Session(vgg.int8)},
        vgg.pictures[:1],
        rounds=3,
    )
    assert all(timing.median > 0 for timing in got.values()) and got["onnx"].batch == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_a_session_has_threads_of_its_own(vgg, threads):
    expected = Session(vgg.path)(vgg.pictures)
    session, before = Session(vgg.path, threads=threads), torch.get_num_threads()
    options = session.session.get_session_options()
    assert options.intra_op_num_threads == options.inter_op_num_threads == threads
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert torch.get_num_threads() == before
    try:
        torch.set_num_threads(2)
        assert torch.allclose(session(vgg.pictures), expected, atol=1e-6)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [0, -1, 1.5, 2.0, True, "1", None])
def test_threads_must_be_a_whole_number(vgg, threads):
    with pytest.raises(ValueError, match=r"threads=.*whole number, 1 or more"):
        Session(vgg.path, threads=threads)


def test_a_session_takes_what_is_not_contiguous(vgg):
    for path in (vgg.path, vgg.int8):
        session = Session(path)
        turned = vgg.pictures[:9].transpose(2, 3).contiguous().transpose(2, 3)
        assert torch.equal(session(turned), session(vgg.pictures[:9]))
        assert torch.equal(
            session(vgg.pictures[:18:2]), session(vgg.pictures[:18:2].clone())
        )
        last = vgg.pictures[:9].contiguous(memory_format=torch.channels_last)
        assert torch.equal(session(last), session(vgg.pictures[:9]))


# ------------------------------------------------------------------------ damaged files


def refused(path, match: str) -> None:
    for use in (
        read_onnx,
        Session,
        lambda each: to_int8(each, [(torch.zeros(1, 1, 28, 28), None)], path),
    ):
        with pytest.raises(DamagedFileError, match=match) as caught:
            use(path)
        message = str(caught.value)
        assert message.startswith(str(path)) and "\n" not in message
        assert caught.value.__cause__ is None


def test_what_is_no_onnx_file_is_refused(vgg, tmp_path, capfd):
    refused(tmp_path / "missing.onnx", "is missing. Repair: write it with to_onnx")
    refused(tmp_path, "it is no plain file")
    for name, content in {
        "text": b"This is no network.\n" * 20,
        "empty": b"",
        "zeros": bytes(1000),
        "weights": baselines.to_bytes(vgg.network),
    }.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "no sound ONNX file")
    assert capfd.readouterr() == ("", "")


def test_truncated_files_are_refused(vgg, tmp_path):
    path, content = tmp_path / "net.onnx", vgg.int8.read_bytes()
    for length in sorted(
        {*range(0, len(content), len(content) // 60), len(content) - 1}
    ):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedFileError):
            Session(path)


@pytest.mark.parametrize("seed", range(2))
def test_a_flipped_byte_is_refused_or_leaves_a_network_that_runs(
    vgg, tmp_path, capfd, seed
):
    path, content = tmp_path / "net.onnx", vgg.int8.read_bytes()
    graph = len(content) // 4  # weights, whose bytes may be anything, fill most of it
    generator = np.random.default_rng(seed)
    refusals = 0
    for trial in range(100):
        damaged = bytearray(content)
        low, high = [
            (0, len(content)),
            (0, graph),
            (len(content) - graph, len(content)),
            (0, 300),
        ][trial % 4]
        damaged[generator.integers(low, high)] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            outputs = Session(path)
        except DamagedFileError as error:
            assert str(path) in str(error) and "Repair" in str(error)
            refusals += 1
        else:
            assert isinstance(outputs, nn.Module)
    assert 10 < refusals < 100
    assert capfd.readouterr() == ("", "")


def changed(source, path, change) -> None:
    model = onnx.load(source)
    change(model)
    path.write_bytes(model.SerializeToString())


def external(tensor: onnx.TensorProto) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="other.bin")


def constant(model: onnx.ModelProto) -> onnx.TensorProto:
    """A new node's tensor: not an initializer, and read by the runtime all the same."""
    node = model.graph.node.add(op_type="Constant", output=["more"])
    attribute = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    attribute.t.CopyFrom(onnx.numpy_helper.from_array(np.ones(4, np.float32), "more"))
    return attribute.t


@pytest.mark.parametrize("where", ["initializer", "constant"])
def test_weights_in_other_files_are_refused(vgg, tmp_path, where, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.bin").write_bytes(bytes(100_000))  # it is there, and is not read
    path = tmp_path / "net.onnx"
    changed(
        vgg.path,
        path,
        lambda m: external(
            m.graph.initializer[0] if where == "initializer" else constant(m)
        ),
    )
    refused(path, "keeps .* in another file")


def test_a_constant_inside_is_fine(vgg, tmp_path):
    changed(vgg.path, tmp_path / "net.onnx", constant)
    assert torch.equal(
        Session(tmp_path / "net.onnx")(vgg.pictures[:3]),
        Session(vgg.path)(vgg.pictures[:3]),
    )


@pytest.mark.parametrize("more", [-4, -1, 1, 4, 400])
@pytest.mark.parametrize("which", [0, 1, -1])
def test_tensors_must_be_as_large_as_they_say(vgg, tmp_path, more, which):
    def resize(model: onnx.ModelProto) -> None:
        tensor = [
            tensor for tensor in model.graph.initializer if len(tensor.raw_data) > 4
        ][which]
        tensor.raw_data = (tensor.raw_data + bytes(400))[: len(tensor.raw_data) + more]

    changed(vgg.path, tmp_path / "net.onnx", resize)
    refused(tmp_path / "net.onnx", "no sound ONNX file")


@pytest.mark.parametrize("units", [2**40, -1, 0])
def test_shapes_must_be_those_of_the_numbers(vgg, tmp_path, units):
    def reshape(model: onnx.ModelProto) -> None:
        next(
            tensor for tensor in model.graph.initializer if len(tensor.dims) == 4
        ).dims[0] = units

    changed(vgg.path, tmp_path / "net.onnx", reshape)
    refused(tmp_path / "net.onnx", "no sound ONNX file")


def test_numbers_in_a_list_are_counted_too(vgg, tmp_path):
    def shorten(model: onnx.ModelProto) -> None:
        tensor = next(
            t
            for t in model.graph.initializer
            if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) == 1
        )
        tensor.ClearField("raw_data")
        tensor.float_data.extend([1.0] * (tensor.dims[0] - 1))

    changed(vgg.path, tmp_path / "net.onnx", shorten)
    refused(tmp_path / "net.onnx", "no sound ONNX file")


def test_a_sound_file_that_cannot_be_run_is_refused(vgg, tmp_path, capfd):
    def cut(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type = "NoSuchOperation"
        model.graph.node[0].domain = "nowhere"
        model.opset_import.add(domain="nowhere", version=1)

    changed(vgg.path, tmp_path / "net.onnx", cut)
    with pytest.raises(
        DamagedFileError, match=r"cannot be run.*Repair: export it again"
    ):
        Session(tmp_path / "net.onnx")
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_too_large_is_not_even_read(tmp_path, monkeypatch):
    path = tmp_path / "large.onnx"
    with open(path, "wb") as file:
        file.truncate(deploy.LARGEST + 1)  # takes no room on the disk
    monkeypatch.setattr(
        deploy.files, "read_regular", lambda *_: pytest.fail("it was read")
    )
    refused(path, r"has 50,000,001 bytes; at most 50,000,000 are opened")


def test_a_pipe_is_refused_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", r"it is no plain file.*Repair: export it again")


# -------------------------------------------------------------------- parity and budget


class Fixed(nn.Module):
    """Gives these outputs, whatever the pictures."""

    def __init__(self, outputs: list[list[float]]) -> None:
        super().__init__()
        self.outputs = torch.tensor(outputs)

    def forward(self, x):
        return self.outputs[: len(x)]


def test_parity_by_hand():
    one = Fixed([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0], [5.0, 4.0]])
    other = Fixed([[1.5, 2.0], [3.0, 0.0], [1.0, 0.75], [5.0, 4.5]])
    pictures = torch.zeros(4, 1, 28, 28)
    assert (
        parity(one, other, pictures)
        == parity(other, one, pictures)
        == Parity(1.0, 0.75)
    )
    assert parity(one, one, pictures) == Parity(0.0, 1.0)


def test_parity_of_what_cannot_be_compared_is_refused():
    two, three = Fixed([[1.0, 2.0]] * 4), Fixed([[1.0, 2.0, 3.0]] * 4)
    pictures = torch.zeros(4, 1, 28, 28)
    with pytest.raises(ValueError, match=r"images has the shape \[0, 1, 28, 28\]"):
        parity(two, two, pictures[:0])
    for one, other, shapes in (
        (two, three, r"\[4, 2\].*\[4, 3\]"),
        (Fixed([[1.0]] * 4), two, r"\[4, 1\].*\[4, 2\]"),
    ):
        with pytest.raises(ValueError, match=rf"one gives {shapes}"):
            parity(one, other, pictures)
    for bad in (float("nan"), float("inf")):
        wrong = Fixed([[1.0, 2.0]] * 3 + [[1.0, bad]])
        for one, other, name in ((wrong, two, "one"), (two, wrong, "other")):
            with pytest.raises(
                ValueError, match=f"outputs of {name} are not all finite"
            ):
                parity(one, other, pictures)
