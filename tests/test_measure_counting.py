"""What is counted: parameters, MACs and bytes, against brute force, published figures
and real files."""

import zlib

import pytest
import safetensors.torch
import torch
from torch import nn

from utils import baselines, measure, models
from utils.masks import apply_masks, magnitude_masks
from utils.measure import csr_state, energy_estimate, layer_macs, macs
from utils.torchvision_repair import import_torchvision

PICTURE = torch.zeros(1, 1, 28, 28)


def test_parameters_and_sparsity():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0, 0, 0]] * 3))
    assert measure.parameters(model) == 12 + 3 + 6
    assert measure.sparsity(model) == 0.75


@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_macs_equal_torchvisions_published_figures(name):
    torchvision = import_torchvision()
    get_model = torchvision.models.get_model
    get_model_weights = torchvision.models.get_model_weights

    published = get_model_weights(name).DEFAULT.meta
    with torch.device("meta"):
        model, picture = get_model(name), torch.zeros(1, 3, 224, 224)
    assert macs(model, picture) == pytest.approx(published["_ops"] * 1e9, rel=1e-3)
    assert measure.parameters(model) == published["num_params"]


def count_by_touching(
    model: nn.Module, layer: nn.Module, example: torch.Tensor, only_nonzero: bool
) -> int:
    """Multiplications one by one: with ones for weights and inputs and no padding, an
    output counts its products."""
    caught = []
    handle = layer.register_forward_hook(
        lambda module, inputs, output: caught.append(inputs[0])
    )
    with torch.no_grad():
        model.eval()(example)
    handle.remove()
    alone = type(layer)(**arguments(layer))
    weight = (
        (layer.weight != 0).float() if only_nonzero else torch.ones_like(layer.weight)
    )
    with torch.no_grad():
        alone.weight.copy_(weight)
        return int(alone(torch.ones_like(caught[0][:1])).sum())


def arguments(layer):
    if isinstance(layer, nn.Linear):
        return dict(
            in_features=layer.in_features, out_features=layer.out_features, bias=False
        )
    return dict(
        in_channels=layer.in_channels,
        out_channels=layer.out_channels,
        kernel_size=layer.kernel_size,
        stride=layer.stride,
        groups=layer.groups,
        bias=False,
    )


@pytest.mark.parametrize("only_nonzero", [False, True])
def test_macs_against_brute_force(cnn, only_nonzero):
    apply_masks(cnn, magnitude_masks(cnn, 0.6))
    layers = {
        name: module for name, module in cnn.named_modules() if name in ("0", "3", "7")
    }
    wanted = sum(
        count_by_touching(cnn, layer, PICTURE, only_nonzero)
        for layer in layers.values()
    )
    assert macs(cnn, PICTURE, nonzero=only_nonzero) == wanted


def test_macs_by_hand():
    assert macs(models.lenet300(), PICTURE) == 784 * 300 + 300 * 100 + 100 * 10
    padded = nn.Conv2d(3, 8, 3, padding=1, stride=2)  # [1, 3, 8, 8] -> [1, 8, 4, 4]
    assert layer_macs(padded, torch.zeros(1, 3, 8, 8)) == {"": 4 * 4 * 8 * 3 * 9}
    assert macs(padded, torch.zeros(1, 3, 8, 8), nonzero=True) == 4 * 4 * 8 * 3 * 9
    assert layer_macs(nn.Linear(5, 7), torch.zeros(1, 11, 5)) == {"": 11 * 5 * 7}


def test_macs_are_for_one_input_whatever_the_batch(cnn):
    assert layer_macs(cnn, PICTURE.expand(5, -1, -1, -1)) == layer_macs(cnn, PICTURE)


def test_a_layer_used_twice_counts_twice():
    layer = nn.Linear(4, 4)
    assert macs(nn.Sequential(layer, nn.ReLU(), layer), torch.zeros(1, 4)) == 32


def test_counting_leaves_the_model_as_it_was(cnn, unchanged):
    cnn.train()
    cnn[1].eval()
    check = unchanged(cnn)
    macs(cnn, PICTURE, nonzero=True)
    energy_estimate(cnn, PICTURE)
    csr_state(cnn)
    measure.file_bytes(cnn)
    check()
    with pytest.raises(ValueError, match=r"cannot take example.*channels"):
        macs(cnn, torch.zeros(1, 3, 28, 28))
    check()


@pytest.mark.parametrize("count", [macs, layer_macs, energy_estimate])
def test_a_model_with_no_layer_to_count_is_refused(count):
    with pytest.raises(ValueError, match=r"ReLU.*nothing to prune"):
        count(nn.ReLU(), PICTURE)


# -------------------------------------------------------------------------------- bytes


def test_file_bytes_equal_a_real_file(cnn, tmp_path):
    cnn.to(memory_format=torch.channels_last)
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(
        {name: tensor.contiguous() for name, tensor in cnn.state_dict().items()}, path
    )
    assert (
        measure.file_bytes(cnn)
        == path.stat().st_size
        == measure.file_bytes(cnn.state_dict())
    )
    assert measure.zipped_bytes(cnn) == len(zlib.compress(path.read_bytes()))
    assert measure.zipped_bytes(cnn, 9) == len(zlib.compress(path.read_bytes(), 9))


def test_zeros_do_not_shrink_the_file_but_the_zipped_and_the_csr_one():
    dense, pruned = baselines.build("lenet300"), baselines.build("lenet300")
    apply_masks(pruned, magnitude_masks(pruned, 0.95))
    assert measure.file_bytes(pruned) == measure.file_bytes(dense)
    assert measure.zipped_bytes(pruned) < 0.2 * measure.zipped_bytes(dense)
    assert measure.file_bytes(csr_state(pruned)) < 0.2 * measure.file_bytes(dense)
    assert measure.file_bytes(csr_state(dense)) > 1.9 * measure.file_bytes(dense)


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


def test_a_tied_weight_is_counted_and_written_once(tmp_path):
    model, loaded = tied(), tied()
    assert measure.parameters(model) == 16 + 4 + 4
    with torch.no_grad():
        model[0].weight[:2] = 0
    assert measure.sparsity(model) == 0.5
    path = tmp_path / "tied.safetensors"
    path.write_bytes(baselines.to_bytes(model))
    assert measure.file_bytes(model) == path.stat().st_size < 4 * (16 + 4 + 4 + 64)
    safetensors.torch.load_model(loaded, path)
    assert loaded[2].weight is loaded[0].weight
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_views_of_one_storage_are_written_as_what_they_show():
    whole = torch.randn(6, 6)
    state = {
        "all": whole, "rows": whole[:3], "others": whole[2:], "turned": whole.t(),
        "column": whole[:, 1:2], "one number": torch.ones(1).expand(5),
        "conjugate": torch.tensor([1 + 2j]).conj(), "half": whole[0].half(),
    }  # fmt: skip
    read = safetensors.torch.load(baselines.to_bytes(state))
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())


UNWRITABLE = {
    "sparse": (lambda: torch.eye(3).to_sparse(), "sparse_coo.*cannot be stored"),
    "complex128": (lambda: torch.ones(2, dtype=torch.complex128), "cannot be stored"),
    "meta": (lambda: torch.ones(2, device="meta"), "has no values"),
    "no tensor": (lambda: 3, r"one \(int\) cannot be stored"),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_what_a_file_cannot_hold_is_refused_by_name(case):
    make, words = UNWRITABLE[case]
    for size in (measure.file_bytes, measure.zipped_bytes):
        with pytest.raises(ValueError, match=words):
            size({"one": make()})


def test_frozen_parameters_are_not_trainable():
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    model[0].requires_grad_(False)
    assert measure.parameters(model) == 18


@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
@pytest.mark.filterwarnings("ignore:Initializing zero-element:UserWarning")
def test_parameters_that_are_not_there():
    with pytest.raises(ValueError, match="weight is not made yet"):
        measure.parameters(nn.LazyLinear(3))
    assert measure.sparsity(nn.Linear(4, 0)) == 0
