"""Surgery is exact: on random networks, on torchvision's, against torch-pruning; what
it cannot do it refuses first."""

import copy
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from tests.strategies import (
    NETWORKS,
    PICTURES,
    STAGES,
    Residual,
    random_network,
    randomise,
)
from utils import baselines, measure, models, surgery
from utils.baselines import to_bytes
from utils.channels import follow
from utils.scores import UNIT_SCORES, score
from utils.torchvision_repair import import_torchvision

torchvision = import_torchvision()

# ---------------------------------------------------------------------- random networks


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference, relative to the largest value where that is above one."""
    return ((a - b).abs().max() / a.abs().max().clamp(min=1)).item()


@given(
    **NETWORKS,
    scope=st.sampled_from(["layerwise", "global"]),
    multiple=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_removed_equals_zeroed(kinds, head, seed, ratio, scope, multiple):
    network = random_network(kinds, head, seed)
    before = copy.deepcopy(network.state_dict())
    scores = score("random", network, units=True)
    try:
        masks = surgery.unit_masks(
            network, PICTURES[:1], scores, ratio, scope=scope, multiple=multiple
        )
    except ValueError as error:
        assert "every unit" in str(error)
        return
    small = surgery.remove_units(network, PICTURES[:1], masks)
    zeroed = surgery.zero_units(network, PICTURES[:1], masks)
    with torch.no_grad():
        assert relative(zeroed(PICTURES), small(PICTURES)) < 1e-5
    for name, mask in masks.items():
        assert len(small.get_parameter(name)) == mask.sum(), name
    assert all(
        torch.equal(network.state_dict()[name], tensor)
        for name, tensor in before.items()
    )
    assert [type(m) for m in small.modules()] == [type(m) for m in network.modules()]
    for module in small.modules():  # what a layer says of itself is what it holds
        if isinstance(module, nn.Conv2d):
            assert module.weight.shape[:2] == (
                module.out_channels,
                module.in_channels // module.groups,
            )
        elif isinstance(module, nn.Linear):
            assert module.weight.shape == (module.out_features, module.in_features)
        elif isinstance(module, nn.BatchNorm2d):
            assert len(module.running_mean) == module.num_features


@given(**NETWORKS)
@settings(max_examples=40, deadline=None)
def test_units_whose_outgoing_weights_are_zero_leave_without_a_trace(
    kinds, head, seed, ratio
):
    network = random_network(kinds, head, seed)
    channels = follow(network, PICTURES[:1])
    try:
        masks = surgery.unit_masks(
            network, PICTURES[:1], score("random", network, units=True), ratio
        )
    except ValueError as error:
        assert "every unit" in str(error)
        return
    gone = np.zeros(channels.count, dtype=bool)
    for name, mask in masks.items():
        gone[channels.layer(name, "masks").outputs[~mask.numpy()]] = True
    for layer in channels.layers.values():
        if layer.inputs is not None and layer.module.weight.shape[1] == len(
            layer.inputs
        ):
            layer.module.weight.data[:, torch.from_numpy(gone[layer.inputs])] = 0
    with torch.no_grad():
        small = surgery.remove_units(network, PICTURES[:1], masks)
        assert relative(network(PICTURES), small(PICTURES)) < 1e-5


@given(**NETWORKS)
@settings(max_examples=15, deadline=None)
def test_a_smaller_network_makes_the_round_trip_through_safetensors(
    kinds, head, seed, ratio
):
    network = random_network(kinds, head, seed)
    ratio = min(ratio, 0.2)  # of two groups none leaves, nor what is tied to one
    small = surgery.shrink(
        network, PICTURES[:1], score("l2", network, units=True), ratio
    )
    twin = surgery.shrink(
        network, PICTURES[:1], score("l2", network, units=True), ratio
    )
    for parameter in twin.parameters():
        parameter.data.zero_()
    twin.load_state_dict(safetensors.torch.load(to_bytes(small)))
    with torch.no_grad():
        assert torch.equal(small(PICTURES), twin(PICTURES))


def test_a_smaller_network_runs_as_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = random_network(["depthwise", "concatenation", "residual"], "flatten", 0)
    small = surgery.shrink(network, PICTURES[:1], score("l2", network, units=True), 0.5)
    path = str(tmp_path / "small.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(small, (PICTURES,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: PICTURES.numpy()})
    with torch.no_grad():
        assert relative(small(PICTURES), torch.from_numpy(found)) < 1e-5


def test_the_old_network_and_the_new_share_no_memory():
    """Layers that keep everything are copied too: training one must not move the
    other."""
    network = random_network(["residual"], "average", 0)
    masks = {"0.weight": unit_mask(8, 2)}
    for new in (
        surgery.remove_units(network, PICTURES[:1], masks),
        surgery.zero_units(network, PICTURES[:1], masks),
    ):
        old = {tensor.data_ptr() for tensor in network.state_dict().values()}
        assert not old & {tensor.data_ptr() for tensor in new.state_dict().values()}


def test_a_smaller_network_trains():
    network = random_network(["residual", "depthwise"], "average", 0)
    small = surgery.shrink(
        network, PICTURES[:1], score("l2", network, units=True), 0.5
    ).train()
    small(PICTURES).sum().backward()
    assert all(
        p.grad is not None and p.grad.shape == p.shape for p in small.parameters()
    )


# ------------------------------------------------------------------------ real networks

TORCHVISION = [
    *("resnet18", "resnet34", "resnet50", "vgg11", "vgg16", "vgg11_bn", "vgg16_bn"),
    *("mobilenet_v2", "densenet121", "squeezenet1_0", "googlenet"),
]


def torchvision_network(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A network of torchvision with random weights in eval mode, and two pictures."""
    torch.manual_seed(0)
    options = (
        {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        network = getattr(torchvision.models, name)(**options)
    randomise(network)
    return network.eval(), torch.randn(2, 3, 64, 64)


def removed_by_torch_pruning(
    network: nn.Module, example: torch.Tensor, channels, masks
) -> nn.Module:
    """The same units taken out by torch-pruning, one coupled set after the other."""
    tp = pytest.importorskip("torch_pruning")
    graph = tp.DependencyGraph().build_dependency(network, example_inputs=example)
    modules = dict(network.named_modules())
    for home in channels.sets():
        gone = torch.nonzero(~masks[f"{home}.weight"]).flatten().tolist()
        linear = isinstance(modules[home], nn.Linear)
        remove = tp.prune_linear_out_channels if linear else tp.prune_conv_out_channels
        if gone:
            graph.get_pruning_group(modules[home], remove, idxs=gone).prune()
    return network


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_networks_agree_with_zeroing_and_with_torch_pruning(name):
    network, pictures = torchvision_network(name)
    channels = follow(network, pictures[:1])
    masks = surgery.unit_masks(
        network, pictures[:1], score("l1", network, units=True), 0.5
    )
    small = surgery.remove_units(network, pictures[:1], masks)
    with torch.no_grad():
        found = small(pictures)
        assert (
            relative(surgery.zero_units(network, pictures[:1], masks)(pictures), found)
            < 1e-5
        )
    theirs = removed_by_torch_pruning(network, pictures[:1], channels, masks)
    assert measure.parameters(small) == measure.parameters(theirs)
    assert measure.macs(small, pictures[:1]) == measure.macs(theirs, pictures[:1])
    with torch.no_grad():
        assert relative(theirs(pictures), found) < 1e-5


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121"])
def test_what_leaves_with_a_filter_is_what_torch_pruning_says(name):
    tp = pytest.importorskip("torch_pruning")
    network, pictures = torchvision_network(name)
    channels = follow(network, pictures[:1])
    graph = tp.DependencyGraph().build_dependency(network, example_inputs=pictures[:1])
    names = {module: name for name, module in network.named_modules()}
    for home in list(channels.sets())[:: max(1, len(channels.sets()) // 8)]:
        group = graph.get_pruning_group(
            network.get_submodule(home), tp.prune_conv_out_channels, idxs=[1]
        )
        theirs: dict[str, set[int]] = {}
        for dependency, positions in group:
            module = dependency.target.module
            if isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)):
                inputs = (
                    "in_channels" in dependency.handler.__name__
                    and not isinstance(module, nn.BatchNorm2d)
                )
                theirs.setdefault(
                    f"{names[module]} {'inputs' if inputs else 'outputs'}", set()
                ).update(positions)
        ours = channels.takes(home, 1)
        depthwise = {
            n for n, m in network.named_modules() if getattr(m, "groups", 1) > 1
        }
        sides = {
            key for key in {*ours, *theirs} if key.rpartition(" ")[0] not in depthwise
        }
        assert {key: sorted(theirs.get(key, ())) for key in sides} == {
            key: ours.get(key, []) for key in sides
        }


@pytest.mark.parametrize(
    "name", ["resnext50_32x4d", "efficientnet_b0", "mobilenet_v3_small"]
)
def test_grouped_convolutions_and_gates_of_torchvision(name):
    network, pictures = torchvision_network(name)
    masks = surgery.unit_masks(
        network, pictures[:1], score("l1", network, units=True), 0.5
    )
    small, zeroed = (
        f(network, pictures[:1], masks)
        for f in (surgery.remove_units, surgery.zero_units)
    )
    with torch.no_grad():
        assert relative(zeroed(pictures), small(pictures)) < 1e-5


@pytest.mark.parametrize("name", models.MODELS)
def test_the_networks_of_the_course(name):
    network, pictures = baselines.baseline(name), torch.randn(4, 1, 28, 28)
    masks = surgery.unit_masks(network, EXAMPLE, score("l2", network, units=True), 0.3)
    small, zeroed = (
        f(network, EXAMPLE, masks) for f in (surgery.remove_units, surgery.zero_units)
    )
    with torch.no_grad():
        assert relative(zeroed(pictures), small(pictures)) < 1e-5
    assert small[-1].out_features == 10 and measure.parameters(
        small
    ) < 0.7 * measure.parameters(network)


# ----------------------------------------------------------------------- choosing units


@pytest.fixture
def vgg() -> nn.Module:
    return baselines.build("vgg")


EXAMPLE = torch.zeros(1, 1, 28, 28)


@pytest.mark.parametrize("name", UNIT_SCORES)
def test_every_unit_score_can_choose(name, batches, cnn):
    network = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3),
        nn.Flatten(),
        nn.Linear(8 * 576, 10),
    )
    small = surgery.shrink(
        network, EXAMPLE, score(name, network, batches, units=True), 0.5
    )
    assert (small[0].out_channels, small[2].out_channels, small[4].in_features) == (
        3,
        4,
        4 * 576,
    )


def test_the_units_of_lowest_score_leave_exactly_as_many_as_asked(vgg):
    scores = score("l1", vgg, units=True)
    masks = surgery.unit_masks(vgg, EXAMPLE, scores, 0.3)
    for name, mask in list(masks.items())[:-1]:
        assert (~mask).sum() == round(0.3 * len(mask))
        assert scores[name][~mask].max() <= scores[name][mask].min()
    assert masks["19.weight"].all()  # the classes


def test_units_tied_by_an_addition_are_judged_together():
    network = baselines.build("resnet")
    scores = score("l1", network, units=True)
    masks = surgery.unit_masks(network, EXAMPLE, scores, 0.25)
    tied = ["0.weight", "3.0.conv2.weight", "3.1.conv2.weight"]
    together = sum(scores[name] for name in tied)
    assert all(torch.equal(masks[name], masks["0.weight"]) for name in tied)
    assert together[~masks["0.weight"]].max() <= together[masks["0.weight"]].min()


def test_ratios_by_layer_exclusion_and_rounding(vgg):
    scores = score("l1", vgg, units=True)
    kept = {
        n: int(m.sum())
        for n, m in surgery.unit_masks(vgg, EXAMPLE, scores, {"3.weight": 0.5}).items()
    }
    assert kept == {
        "0.weight": 64,
        "3.weight": 32,
        "7.weight": 128,
        "10.weight": 128,
        "14.weight": 256,
        "19.weight": 10,
    }
    kept = {
        n: int(m.sum())
        for n, m in surgery.unit_masks(
            vgg, EXAMPLE, scores, 0.5, exclude="7.weight"
        ).items()
    }
    assert (kept["0.weight"], kept["7.weight"]) == (32, 128)
    for scope in ("layerwise", "global"):
        kept = {
            n: int(m.sum())
            for n, m in surgery.unit_masks(
                vgg, EXAMPLE, scores, 0.3, scope=scope, multiple=8
            ).items()
        }
        assert all(
            count % 8 == 0 for name, count in kept.items() if name != "19.weight"
        )


def test_global_ranking_removes_the_fraction_of_all_units(vgg):
    scores = score("l1", vgg, units=True)
    # a layer with many useless filters loses more than the others
    scores["3.weight"][:40] *= 0.01
    masks = surgery.unit_masks(vgg, EXAMPLE, scores, 0.25, scope="global")
    del masks["19.weight"]
    assert sum(int((~mask).sum()) for mask in masks.values()) == round(0.25 * 640)
    assert not masks["3.weight"][:40].any()


def test_a_layers_scale_does_not_decide_in_the_global_ranking(vgg):
    scores = score("l1", vgg, units=True)
    first = surgery.unit_masks(vgg, EXAMPLE, scores, 0.25, scope="global")
    scores["0.weight"] *= 1000
    second = surgery.unit_masks(vgg, EXAMPLE, scores, 0.25, scope="global")
    assert all(torch.equal(first[name], second[name]) for name in first)


@given(
    kinds=st.lists(
        st.sampled_from(["conv", "strided", "depthwise", "pool", "residual", "gate"]),
        max_size=3,
    ),
    seed=st.integers(0, 1000),
    ratio=st.floats(0, 0.999),
    scope=st.sampled_from(["layerwise", "global"]),
    least=st.integers(1, 20),
)
@settings(max_examples=25, deadline=None)
def test_at_least_so_many_units_stay_in_each_layer(kinds, seed, ratio, scope, least):
    network = random_network(kinds, "average", seed)
    scores = score("random", network, units=True)
    masks = surgery.unit_masks(
        network, PICTURES[:1], scores, ratio, scope=scope, least=least
    )
    small = surgery.shrink(
        network, PICTURES[:1], scores, ratio, scope=scope, least=least
    )
    assert all(int(mask.sum()) >= min(least, len(mask)) for mask in masks.values())
    try:
        without = surgery.unit_masks(network, PICTURES[:1], scores, ratio, scope=scope)
    except ValueError as error:
        assert "every unit" in str(error)
        return
    for name, mask in masks.items():  # what stays without the limit stays with it
        assert (
            not (without[name] & ~mask).any()
            and len(small.get_parameter(name)) == mask.sum()
        )
        if without[name].sum() >= least:
            assert torch.equal(mask, without[name]), name


def test_of_each_layer_the_best_unit_stays(vgg):
    scores = score("l1", vgg, units=True)
    for scope in ("layerwise", "global"):
        masks = surgery.unit_masks(vgg, EXAMPLE, scores, 0.999, scope=scope, least=1)
        alone = [name for name, mask in masks.items() if mask.sum() == 1]
        assert len(alone) >= 4
        assert all(masks[name][scores[name].argmax()] for name in alone)


@pytest.mark.parametrize("least", [-1, 1.5, True, "1"])
def test_a_limit_that_makes_no_sense_is_refused(vgg, least):
    with pytest.raises(ValueError, match=f"least={least!r} must be a whole number"):
        surgery.shrink(vgg, EXAMPLE, score("l1", vgg, units=True), 0.5, least=least)


def test_takes_names_everything_that_goes_with_a_filter(vgg):
    channels = follow(vgg, EXAMPLE)
    assert channels.takes("0", 5) == {
        "0 outputs": [5],
        "1 outputs": [5],
        "3 inputs": [5],
    }
    lenet = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * 169, 10)
    )
    taken = follow(lenet, EXAMPLE).takes("0", 1)
    assert taken == {"0 outputs": [1], "3 inputs": list(range(169, 338))}


def test_a_layer_that_is_called_twice_is_cut_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again, self.last = (
                nn.Linear(6, 6),
                nn.Linear(6, 6),
                nn.Linear(6, 3),
            )

        def forward(self, x):
            return self.last(self.again(self.again(self.first(x))))

    network, inputs = Twice(), torch.randn(5, 6)
    masks = surgery.unit_masks(
        network, inputs[:1], score("random", network, units=True), 0.5
    )
    small, zeroed = (
        f(network, inputs[:1], masks)
        for f in (surgery.remove_units, surgery.zero_units)
    )
    with torch.no_grad():
        assert relative(zeroed(inputs), small(inputs)) < 1e-5
    assert small.again.weight.shape == (3, 3)


# ------------------------------------------------------------------------------- blocks


def test_a_residual_block_leaves_whole():
    network, pictures = baselines.baseline("resnet"), torch.randn(2, 1, 28, 28)
    small = surgery.remove_blocks(network, EXAMPLE, ["3.1", "5.1"])
    with torch.no_grad():
        stages = [network[0:3], network[3][0], network[4], network[5][0], network[6:]]
        assert torch.equal(nn.Sequential(*stages)(pictures), small(pictures))
    assert isinstance(network[3][1], models.ResidualBlock)
    assert measure.macs(small, EXAMPLE) < measure.macs(network, EXAMPLE)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["4.0"], r"4\.0 cannot leave: it turns \[16, 28, 28\] into \[32, 14, 14\]"),
        (["6"], r"6 cannot leave: it turns \[64, 7, 7\] into \[64, 1, 1\]"),
        (["nothing"], "'nothing', which is no module"),
        ([""], "'', which is no module"),
    ],
)
def test_a_block_that_changes_the_shape_stays(names, reason):
    with pytest.raises(ValueError, match=reason):
        surgery.remove_blocks(baselines.build("resnet"), EXAMPLE, names)


def test_what_takes_no_part_cannot_leave():
    network = nn.Sequential(nn.Linear(4, 4))
    network[0].unused = nn.Linear(4, 4)
    with pytest.raises(ValueError, match=r"0\.unused takes no part"):
        surgery.remove_blocks(network, torch.zeros(1, 4), ["0.unused"])


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("lenet300", []), ("vgg", ["3", "10"]), ("resnet", ["3.0", "3.1", "4.1", "5.1"])],
)
def test_which_blocks_of_the_courses_networks_can_leave(name, blocks):
    assert surgery.removable_blocks(baselines.build(name), EXAMPLE) == blocks


def test_which_blocks_of_torchvisions_networks_can_leave():
    example = torch.zeros(1, 3, 64, 64)
    resnet = torchvision.models.resnet18()
    assert surgery.removable_blocks(resnet, example) == [
        "layer1.0",
        "layer1.1",
        "layer2.1",
        "layer3.1",
        "layer4.1",
    ]


def test_a_block_may_keep_its_layers_in_one_sequential():
    mobile = torchvision.models.mobilenet_v2()
    wanted = [
        name
        for name, module in mobile.named_modules()
        if getattr(module, "use_res_connect", False)
    ]
    assert surgery.removable_blocks(mobile, torch.zeros(1, 3, 64, 64)) == wanted


class Nested(nn.Module):
    """A block of blocks; each keeps the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Residual(4, 4, 1), Residual(4, 4, 1)

    def forward(self, x):
        return self.second(self.first(x))


def test_of_blocks_inside_blocks_the_outer_one_counts():
    network = nn.Sequential(
        nn.Conv2d(2, 4, 1),
        Nested(),
        nn.Sequential(Residual(4, 4, 1), Residual(4, 4, 1)),
    )
    # a Sequential is no block
    assert surgery.removable_blocks(network, PICTURES[:1]) == ["1", "2.0", "2.1"]


def test_without_blocks_it_is_single_layers_that_can_leave():
    network = nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
    )
    network.append(nn.BatchNorm2d(4))  # keeps the shape, but has no weights to save
    assert surgery.removable_blocks(network, PICTURES[:1]) == ["1.0"]


@given(kinds=st.lists(st.sampled_from(STAGES), max_size=4), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_all_blocks_that_are_named_can_leave_together(kinds, seed):
    network = random_network(kinds, "average", seed)
    names = surgery.removable_blocks(network, PICTURES[:1])
    small = surgery.remove_blocks(network, PICTURES[:1], names)
    with torch.no_grad():
        assert small(PICTURES).shape == network(PICTURES).shape
    if names:
        assert measure.parameters(small) < measure.parameters(network)
    assert ("residual" in kinds) <= bool(names)


def test_the_loss_without_each_block_is_measured(batches, unchanged):
    network = baselines.baseline("resnet").train()
    same = unchanged(network)
    found = surgery.block_losses(network, ["3.1", "5.1"], batches)
    same()
    network.eval()
    pictures, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    with torch.no_grad():
        dense = F.cross_entropy(network(pictures), labels)
        stages = {
            "3.1": [*network[:3], network[3][0], *network[4:]],
            "5.1": [*network[:5], network[5][0], *network[6:]],
        }
        for name, layers in stages.items():
            wanted = F.cross_entropy(nn.Sequential(*layers)(pictures), labels) - dense
            assert found[name] == pytest.approx(wanted.item(), abs=1e-5)
    assert list(found) == ["3.1", "5.1"]


# ----------------------------------------------------------------------------- refusals


def test_channels_that_cannot_be_zeroed_are_refused_and_can_be_removed():
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4, affine=False),
        nn.ReLU(),
        nn.Conv2d(4, 2, 3),
        nn.Flatten(),
    )
    network.append(nn.Linear(2 * 24 * 24, 3))
    mask = {"0.weight": unit_mask(4, 1)}
    with pytest.raises(ValueError, match=r"1 has no weight and bias \(affine=False\)"):
        surgery.zero_units(network, EXAMPLE, mask)
    assert surgery.remove_units(network, EXAMPLE, mask)[1].num_features == 3


def unit_mask(units: int, *gone: int) -> torch.Tensor:
    mask = torch.ones(units, dtype=torch.bool)
    mask[list(gone)] = False
    return mask


@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        (
            {"19.weight": unit_mask(10, 3)},
            r"unit of 19\.weight that cannot leave: it is tied to the outputs",
        ),
        ({"0.weight": torch.zeros(64, dtype=torch.bool)}, "every unit of 0"),
        ({"0.weight": unit_mask(63, 3)}, r"\[63\]; it must be torch.bool \[64\]"),
        ({"0.weight": torch.ones(64)}, r"torch.float32 \[64\]"),
        ({"1.weight": unit_mask(64, 3)}, r"'1\.weight', which is no layer with units"),
        (
            {"nothing.weight": unit_mask(64, 3)},
            r"'nothing\.weight'.*Layers: 0\.weight, 3\.weight",
        ),
    ],
)
def test_requests_that_make_no_sense_are_refused(vgg, masks, reason, monkeypatch):
    monkeypatch.setattr(copy, "deepcopy", lambda *_: pytest.fail("something was built"))
    for operate in (surgery.remove_units, surgery.zero_units):
        with pytest.raises(ValueError, match=reason):
            operate(vgg, EXAMPLE, masks)


def test_masks_that_disagree_about_an_addition_are_refused():
    masks = {"0.weight": unit_mask(16), "3.0.conv2.weight": unit_mask(16, 3)}
    with pytest.raises(
        ValueError,
        match=r"disagree about unit 3 of 3\.0\.conv2\.weight: it is tied to 0 outputs",
    ):
        surgery.remove_units(baselines.build("resnet"), EXAMPLE, masks)


def test_half_a_group_cannot_leave():
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.Flatten(),
        nn.Linear(8 * 576, 3),
    )
    with pytest.raises(ValueError, match=r"disagree about unit 0 of 0\.weight"):
        surgery.remove_units(network, EXAMPLE, {"0.weight": unit_mask(8, 0)})
    small = surgery.remove_units(
        network, EXAMPLE, {"0.weight": unit_mask(8, 0, 1, 2, 3)}
    )
    assert (small[1].groups, small[1].in_channels, small[1].out_channels) == (1, 4, 4)


NO_CHOICE = [
    (dict(ratio=1.0), "ratio=1.0 must be a fraction"),
    (dict(ratio=-0.1), "ratio=-0.1"),
    (dict(ratio=float("nan")), "ratio=nan"),
    (dict(ratio=0.999), "remove every unit of 0"),
    (dict(ratio=0.5, scope="local"), "scope='local' is not known"),
    (dict(ratio=0.5, multiple=0), "multiple=0"),
    (dict(ratio=0.5, multiple=2.0), "multiple=2.0"),
    (dict(ratio=0.5, exclude=["x"]), "exclude names 'x'"),
    (dict(ratio={"x": 0.5}), "ratio names 'x'"),
    (dict(ratio={"19.weight": 0.5}), "whose units cannot leave"),
    (
        dict(ratio={"0.weight": 0.5}, exclude=["0.weight"]),
        "cannot leave or are excluded",
    ),
    (
        dict(
            ratio=0.5,
            exclude=["0.weight", "3.weight", "7.weight", "10.weight", "14.weight"],
        ),
        "no unit to remove",
    ),
]


@pytest.mark.parametrize(("choice", "reason"), NO_CHOICE)
def test_a_choice_that_makes_no_sense_is_refused(vgg, choice, reason):
    with pytest.raises(ValueError, match=reason):
        surgery.shrink(vgg, EXAMPLE, score("l1", vgg, units=True), **choice)


def test_tied_layers_take_one_ratio():
    network = baselines.build("resnet")
    scores = score("l1", network, units=True)
    with pytest.raises(ValueError, match="tied to it"):
        surgery.shrink(
            network, EXAMPLE, scores, {"0.weight": 0.5, "3.0.conv2.weight": 0.25}
        )


def test_scores_that_do_not_fit_are_refused(vgg):
    scores = score("l1", vgg, units=True)
    for change, reason in [
        ({"0.weight": torch.ones(3)}, r"\[3\]; its units need \[64\]"),
        ({"0.weight": torch.full((64,), float("nan"))}, "0.weight contain NaN"),
        ({"y.weight": torch.ones(3)}, "scores names 'y.weight'"),
    ]:
        with pytest.raises(ValueError, match=reason):
            surgery.unit_masks(vgg, EXAMPLE, {**scores, **change}, 0.5)
    with pytest.raises(ValueError, match="a value for every unit"):
        surgery.unit_masks(vgg, EXAMPLE, {"0.weight": scores["0.weight"]}, 0.5)


class Branching(nn.Module):
    """Which way it goes depends on the numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), Doubtful())

    def forward(self, x):
        return self.inner(x)


class Doubtful(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Flipping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.first(x).flip(1))


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)

    def forward(self, x):
        return self.first(x).view(-1, 4, 1) * self.first(x)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.scale = nn.Linear(4, 4), nn.Parameter(torch.ones(4))

    def forward(self, x):
        return self.first(x) * self.scale


def tied_weights() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    return network


def masked_by_torch() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    prune.l1_unstructured(network[0], "weight", amount=0.5)
    return network


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Branching(), r"inner\.1 cannot be traced \(TraceError"),
        (
            nn.Sequential(nn.Linear(4, 8), nn.MaxPool1d(3, 1, 1), nn.Linear(8, 2)),
            "1 cannot be followed: MaxPool1d on 2",
        ),
        (
            Outer(),
            "Outer cannot be followed: it joins tensors with different numbers of axes",
        ),
        (Flipping(), "Flipping cannot be followed: it calls flip"),
        (
            Scaled(),
            "Scaled cannot be followed: it uses a bare parameter, buffer or constant",
        ),
        (
            nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(2, 4), nn.Linear(4, 2)),
            "1 cannot be followed: GroupNorm",
        ),
        (
            nn.Sequential(nn.Linear(4, 4), nn.Softshrink()),
            "1 cannot be followed: Softshrink",
        ),
        (
            masked_by_torch(),
            r"0\.weight is computed from other tensors.*prune\.remove",
        ),
        (
            nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Linear(2, 2)),
            "0 cannot be followed: Unflatten",
        ),
        (
            tied_weights(),
            r"1 cannot be followed: 1\.weight shares its memory with 0\.weight",
        ),
    ],
)
def test_what_cannot_be_followed_is_named(network, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        follow(network, torch.zeros(1, 4))
    assert "executing" not in str(caught.value)


@pytest.mark.parametrize("soft", [nn.Softmax(dim=1), nn.LogSoftmax(dim=1)])
def test_what_a_softmax_sees_stays(soft):
    network, inputs = (
        nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 5), soft, nn.Linear(5, 3), soft),
        torch.randn(2, 4),
    )
    small = surgery.shrink(network, inputs[:1], score("l1", network, units=True), 0.5)
    assert [small[0].out_features, small[1].out_features, small[3].out_features] == [
        3,
        5,
        3,
    ]
    with pytest.raises(ValueError, match=r"unit of 1\.weight that cannot leave"):
        surgery.remove_units(network, inputs[:1], {"1.weight": unit_mask(5, 0)})


def test_an_example_that_does_not_fit_is_refused(vgg):
    with pytest.raises(ValueError, match=r"example \[1, 3, 28, 28\] does not fit"):
        follow(vgg, torch.zeros(1, 3, 28, 28))


def test_a_width_written_into_the_code_pins_its_channels():
    class Written(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.last = nn.Conv2d(1, 4, 3), nn.Linear(4 * 676, 2)

        def forward(self, x):
            return self.last(self.conv(x).view(-1, 4 * 676))

    with pytest.raises(ValueError, match="tied to the outputs"):
        surgery.remove_units(Written(), EXAMPLE, {"conv.weight": unit_mask(4, 1)})


def test_modes_and_gradients_stay_as_they_are():
    network = baselines.build("resnet").train()
    network[1].eval()
    network[0].weight.requires_grad = False
    small = surgery.shrink(network, EXAMPLE, score("l1", network, units=True), 0.5)
    for model in (network, small):
        assert model.training and not model[1].training
        assert (
            not model[0].weight.requires_grad and model[3][0].conv1.weight.requires_grad
        )
