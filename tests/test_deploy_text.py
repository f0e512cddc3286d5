"""One step of a text network as a file: it writes what PyTorch writes, whatever surgery
left of the network; with weights of a few bits it answers as the rounded weights do."""

import copy
from pathlib import Path

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from utils import deploy, models
from utils.data import Split
from utils.deploy import OnnxWriter, step_to_bits, step_to_onnx
from utils.files import DamagedFileError
from utils.generation import noise, write_plainly
from utils.models.gpt import GPT, MLP, Attention, GatedMLP
from utils.quantization import group_size, quantize_weights
from utils.training import losses

PIECES = 40


class Zeros(nn.Module):
    """What is left where a part has left: it adds nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


def network(seed: int = 0, **changes) -> GPT:
    """Small, and with weights so large that its answers differ from place to place."""
    torch.manual_seed(seed)
    shape = {"width": 20, "blocks": 3, "heads": 3, "head_width": 6, "neurons": 25}
    made = models.gpt(pieces=PIECES, deviation=0.5, **(shape | changes))
    for module in made.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 2)
    return made.eval()


def without_heads(attention: Attention, gone: list[int]) -> None:
    """Cut rows and columns by hand."""
    width = attention.head_width
    keep = [row for row in range(attention.heads * width) if row // width not in gone]
    for part in (attention.query, attention.key, attention.value):
        part.weight = nn.Parameter(part.weight.data[keep])
        part.out_features = len(keep)
    attention.out.weight = nn.Parameter(attention.out.weight.data[:, keep])
    attention.out.in_features = len(keep)


def without_neurons(mlp: MLP | GatedMLP, count: int) -> None:
    """Without the last of them."""
    rows = [mlp.up] + ([mlp.gate] if isinstance(mlp, GatedMLP) else [])
    for part in rows:
        part.weight = nn.Parameter(part.weight.data[:-count])
        part.out_features -= count
    mlp.down.weight = nn.Parameter(mlp.down.weight.data[:, :-count])
    mlp.down.in_features -= count


def cut(seed: int = 1, **changes) -> GPT:
    """Blocks of different numbers of heads and neurons, one whole; two more that have
    lost a part each, and one that left."""
    made = network(seed, blocks=6, **changes)
    without_heads(made.blocks[0].attention, [1])
    without_neurons(made.blocks[0].mlp, 7)
    without_heads(made.blocks[1].attention, [0, 2])
    made.blocks[2] = nn.Identity()
    made.blocks[3].attention = Zeros()
    made.blocks[4].mlp = Zeros()
    return made


NETWORKS = {
    "small": network,
    "cut": cut,
    "gated": lambda: cut(2, gated=True),
    "one block of one head": lambda: network(3, blocks=1, heads=1),
}


def without_attention(made: GPT) -> GPT:
    for block in made.blocks:
        block.attention = Zeros()
    return made


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """Networks and their files by name, each exported once: that takes seconds. They
    keep their mode and their weights."""
    folder, made = tmp_path_factory.mktemp("steps"), {}

    def step(name: str) -> tuple[GPT, Path]:
        if name not in made:
            model, path = NETWORKS[name]().train(), folder / f"{name}.onnx"
            before = copy.deepcopy(model.state_dict())
            assert step_to_onnx(model, path) == path.stat().st_size
            assert all(module.training for module in model.modules())
            assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
            made[name] = model.eval(), path
        return made[name]

    return step


@pytest.fixture(params=NETWORKS)
def exported(request, steps):
    """A network and its file."""
    return steps(request.param)


@pytest.fixture(scope="module")
def small(steps):
    return steps("small")


def windows(count: int, places: int, seed: int = 0) -> Split:
    torch.manual_seed(seed)
    text = torch.randint(PIECES, (count, places + 1))
    return Split(text[:, :-1].contiguous(), text[:, 1:].contiguous())


@torch.no_grad()
def answers(made: nn.Module, given: Split) -> torch.Tensor:
    return made(given.images)


def assert_near(one: torch.Tensor, other: torch.Tensor) -> None:
    """Equal but for rounding in another order."""
    torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-4)


# ------------------------------------------------------------------------ the same text


def test_it_writes_what_pytorch_writes(exported):
    made, path = exported
    writer = OnnxWriter(path)
    for seed, (length, temperature) in enumerate([(1, 0.0), (7, 0.7), (30, 1.5)]):
        torch.manual_seed(seed)
        prompt = torch.randint(PIECES, (length,))
        added = noise(25, PIECES, temperature, seed)
        written = writer.write(prompt, added)
        assert written.dtype == torch.int64
        assert torch.equal(written, write_plainly(made, prompt, added))


def test_it_answers_at_each_place_as_pytorch_does(exported):
    made, path = exported
    given = windows(2, 9)
    assert_near(OnnxWriter(path)(given.images), answers(made, given))
    assert_near(losses(OnnxWriter(path), given), losses(made, given))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_it_does_not_matter_how_a_text_is_parted(small, first, second, seed):
    made, path = small
    torch.manual_seed(seed)
    text = torch.randint(PIECES, (first + second,))
    writer = OnnxWriter(path)
    _, kept = writer._step(text[:first].tolist(), writer._nothing())
    logits, _ = writer._step(text[first:].tolist(), kept)
    assert_near(logits, answers(made, Split(text[None], text[None]))[0, -1])


@pytest.mark.parametrize("length", [250, 256, 257, 300])
def test_beyond_the_context_it_reads_the_last_256_again(small, length):
    made, path = small
    prompt, added = windows(1, length).images[0], noise(10, PIECES, 0.5, 1)
    written = OnnxWriter(path).write(prompt, added)
    assert torch.equal(written, write_plainly(made, prompt, added))


def test_nothing_is_kept_from_one_text_to_the_next(small):
    writer, added = OnnxWriter(small[1]), noise(8, PIECES, 0.5, 2)
    first, second = windows(2, 10).images
    alone = writer.write(second, added)
    writer.write(first, added)
    assert torch.equal(writer.write(second, added), alone)


# ------------------------------------------------------------------------ what is in it


def test_the_file_says_what_it_takes_and_gives(steps):
    graph = onnx.load(steps("cut")[1]).graph
    shapes = {
        value.name: [each.dim_value for each in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes["pieces"] == [1, 0]  # 0: free
    assert shapes["logits"] == [1, PIECES]
    heads = {0: 2, 1: 1, 4: 3, 5: 3}  # of 3; blocks 2 and 3 have no attention
    assert len(shapes) == 2 + 4 * len(heads)
    for block, count in heads.items():
        for name in (f"key{block}", f"new_key{block}", f"value{block}"):
            assert shapes[name] == [1, count, 0, 6]


def test_tied_weights_are_stored_once_and_nothing_else_is(exported):
    made, path = exported
    numbers = sum(each.numel() for each in made.parameters())
    graph = onnx.load(path).graph
    stored = [tuple(each.dims) for each in graph.initializer]
    assert stored.count((PIECES, 20)) == 1
    assert 4 * numbers - 600 < path.stat().st_size < 4 * numbers + 15_000
    assert b"utils" not in path.read_bytes()  # where the code lies


# ---------------------------------------------------------------------- a few bits each


@pytest.mark.parametrize(
    ("bits", "table_bits", "group"), [(8, None, 64), (4, None, 16), (4, 8, 256)]
)
def test_the_answers_are_those_of_the_rounded_weights(
    exported, tmp_path, bits, table_bits, group
):
    made, source = exported
    path, given = tmp_path / "bits.onnx", windows(2, 9)
    how = {"group": group, "table_bits": table_bits, "activation_bits": 32}
    size = step_to_bits(source, path, bits, **how)
    assert size == path.stat().st_size < source.stat().st_size
    rounded = quantize_weights(made, bits, group=group)
    if table_bits:
        tables = quantize_weights(made, table_bits, group=group)
        for name in ("embedding", "position"):
            getattr(rounded, name).weight.data = getattr(tables, name).weight.data
        rounded.head.weight = rounded.embedding.weight
    assert_near(OnnxWriter(path)(given.images), answers(rounded, given))
    assert_near(losses(OnnxWriter(path), given), losses(rounded, given))


@pytest.mark.parametrize("bits", [8, 4])
def test_rounded_activations_change_the_answers_little(small, tmp_path, bits):
    made, source = small
    given, found = windows(4, 30), []
    for activation_bits in (8, 32):
        path = tmp_path / f"{activation_bits}.onnx"
        step_to_bits(source, path, bits, activation_bits=activation_bits)
        found.append(OnnxWriter(path)(given.images))
    rounded, exact = found
    assert not torch.equal(rounded, exact)
    assert (rounded - exact).std() < 0.1 * answers(made, given).std()


def test_bytes_are_those_of_integers_and_scales(small, tmp_path):
    made, source = small
    sizes = {}
    for bits in (8, 4):
        sizes[bits] = step_to_bits(source, tmp_path / "bits.onnx", bits, group=32)
        graph = onnx.load(tmp_path / "bits.onnx").graph
        stored = {each.data_type: 0 for each in graph.initializer}
        for each in graph.initializer:
            stored[each.data_type] += len(each.raw_data)
        packed = scales = 0
        for weight in {id(w): w for w in made.parameters() if w.dim() == 2}.values():
            size = group_size(weight.shape[1], bits, 32)
            groups = weight.shape[0] * -(-weight.shape[1] // size)
            packed += groups * size * bits // 8
            scales += 2 * groups
        assert stored[onnx.TensorProto.UINT8] == packed
        assert stored[onnx.TensorProto.FLOAT16] == scales
    assert sizes[4] < sizes[8]


def test_it_still_writes(small, tmp_path):
    made, source = small
    step_to_bits(source, tmp_path / "bits.onnx", 8, activation_bits=32)
    prompt, added = windows(1, 10).images[0], noise(20, PIECES, 0.7, 3)
    rounded = quantize_weights(made, 8, group=64)
    written = OnnxWriter(tmp_path / "bits.onnx").write(prompt, added)
    assert torch.equal(written, write_plainly(rounded, prompt, added))


# ---------------------------------------------------------------------- what is refused


class Looking(nn.Module):
    """An attention of another kind."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x.cumsum(1)


def with_another(name: str) -> GPT:
    made = network()
    if name == "block":
        made.blocks[1] = Looking()
    else:
        made.blocks[1].attention = Looking()
    return made


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(3, 2), r"model \(Linear\) must be a GPT"),
        (lambda: with_another("block"), r"blocks\.1 is a Looking"),
        (lambda: with_another("attention"), r"blocks\.1\.attention is a Looking"),
        (lambda: without_attention(network()), r"has no attention left"),
        (lambda: network().double(), r"embedding.weight is torch.float64"),
    ],
)
def test_a_network_that_no_step_can_be_made_of(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        step_to_onnx(make(), tmp_path / "step.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("prompt", "added", "message"),
    [
        (
            torch.tensor([], dtype=torch.int64),
            (2, PIECES),
            r"prompt .*a piece at least",
        ),
        (torch.tensor([[1]]), (2, PIECES), r"prompt has the shape \[1, 1\]"),
        (torch.tensor([1.0]), (2, PIECES), r"torch.float32; it must be \[m\], int64"),
        (torch.tensor([3, PIECES]), (2, PIECES), r"from 3 to 40.*0\.\.39"),
        (torch.tensor([-1, 3]), (2, PIECES), r"prompt goes from -1 to 3"),
        (torch.tensor([3]), (2, PIECES + 1), r"added.*\[2, 41\].*\[count, 40\]"),
        (torch.tensor([3]), (PIECES,), r"added has the shape \[40\]"),
    ],
)
def test_a_prompt_or_noise_that_does_not_fit(small, prompt, added, message):
    with pytest.raises(ValueError, match=message):
        OnnxWriter(small[1]).write(prompt, torch.zeros(added))


def test_a_window_that_is_too_long(small):
    with pytest.raises(ValueError, match=r"\[1, 257\]; a window has at most 256"):
        OnnxWriter(small[1])(torch.zeros(1, 257, dtype=torch.int64))


def test_a_file_of_something_else(tmp_path, small):
    path, given = tmp_path / "net.onnx", torch.zeros(1, 4)
    deploy.to_onnx(nn.Linear(4, 2), given, path)
    with pytest.raises(DamagedFileError, match=r"net.onnx holds no step of a text"):
        OnnxWriter(path)
    with pytest.raises(ValueError, match=r"net.onnx' holds no step of a text"):
        step_to_bits(path, tmp_path / "bits.onnx")
    with pytest.raises(ValueError, match=r"takes 7 inputs.*step_to_bits"):
        deploy.to_int8(small[1], [(given, torch.zeros(1))], tmp_path / "bits.onnx")
    assert [each.name for each in tmp_path.iterdir()] == ["net.onnx"]


def test_a_file_is_not_quantized_twice(small, tmp_path):
    step_to_bits(small[1], tmp_path / "bits.onnx")
    with pytest.raises(ValueError, match=r"is quantized already"):
        step_to_bits(tmp_path / "bits.onnx", tmp_path / "again.onnx")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"bits": 3}, r"bits=3 must be one of \(8, 4\)"),
        ({"bits": True}, r"bits=True"),
        ({"table_bits": 16}, r"table_bits=16 must be one of \(None, 8, 4\)"),
        ({"activation_bits": 4}, r"activation_bits=4 must be one of \(8, 32\)"),
        ({"group": 48}, r"group=48 must be one of 16, 32, 64, 128, 256"),
    ],
)
def test_bits_that_no_file_has(small, tmp_path, how, message):
    with pytest.raises(ValueError, match=message):
        step_to_bits(small[1], tmp_path / "bits.onnx", **how)
    assert not list(tmp_path.iterdir())


def test_damage_is_refused(small, tmp_path):
    content = bytearray(small[1].read_bytes())
    for number, changed in enumerate((content[:-9], content[: len(content) // 2], b"")):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(changed)
        with pytest.raises(DamagedFileError, match=r"Repair"):
            OnnxWriter(path)
    with pytest.raises(DamagedFileError, match=r"is missing"):
        OnnxWriter(tmp_path / "none.onnx")
