"""Training: reproducible, augmented as promised, and it learns."""

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.parameter import is_lazy

from utils import baselines, models, training
from utils.data import BLACK, Split
from utils.models import lenet300, resnet
from utils.text import Windows
from utils.training import (
    OPTIMIZERS,
    Recipe,
    augment,
    evaluate,
    fit,
    fit_in_steps,
    predict_logits,
)

SHORT = Recipe(epochs=2, batch_size=100)


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return lenet300((20, 10))


@pytest.fixture
def small_resnet() -> nn.Sequential:
    torch.manual_seed(0)
    return resnet((4, 6), blocks=1)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# ---------------------------------------------------------------------------------- fit


def test_the_same_seed_gives_the_same_network_and_another_another(network, tiny):
    recipe = Recipe(epochs=1, batch_size=100, shift=1)
    results = []
    for seed in (0, 0, 1):
        torch.rand(1)  # the global generator has no part in it
        model = copy.deepcopy(network)
        history = fit(model, tiny, recipe, seed=seed, progress=False)
        results.append((weights(model), history.train_loss))
    assert torch.equal(results[0][0], results[1][0]) and results[0][1] == results[1][1]
    assert not torch.equal(results[0][0], results[2][0])


def test_training_leaves_the_global_generator_and_the_pictures(network, tiny):
    state, images = torch.get_rng_state(), tiny.images.clone()
    fit(network, tiny, Recipe(epochs=1, batch_size=100, shift=2), progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(tiny.images, images)


def test_it_learns(network, tiny):
    before = evaluate(network, tiny)
    history = fit(
        network,
        tiny,
        Recipe(epochs=20, batch_size=50, learning_rate=1e-2),
        progress=False,
    )
    assert evaluate(network, tiny) > max(0.7, before + 0.3)
    assert history.train_loss[-1] < 0.6 * history.train_loss[0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", ["one-cycle", "constant"])
def test_every_optimizer_and_schedule_learns(network, tiny, optimizer, schedule):
    rate = 0.02 if optimizer == "sgd" else 2e-3
    recipe = Recipe(
        epochs=4,
        batch_size=50,
        optimizer=optimizer,
        schedule=schedule,
        learning_rate=rate,
    )
    history = fit(network, tiny, recipe, progress=False)
    assert history.train_loss[-1] < 0.8 * history.train_loss[0]


def test_a_convolutional_network_learns_and_keeps_its_layout(small_resnet, tiny):
    history = fit(
        small_resnet,
        tiny[:200],
        Recipe(epochs=3, batch_size=40, learning_rate=0.01),
        progress=False,
    )
    assert history.train_loss[-1] < history.train_loss[0]
    assert not any(module.training for module in small_resnet.modules())
    assert all(p.is_contiguous() for p in small_resnet.parameters())


def test_a_thin_residual_network_trains_without_the_layout_that_crashes_it(
    small_resnet,
):
    # 4 -> 6 channels by a strided 1x1 convolution
    assert training._layout(small_resnet) == torch.contiguous_format
    assert all(
        training._layout(baselines.build(name)) == torch.channels_last
        for name in models.MODELS
    )


@pytest.mark.parametrize("epochs", range(1, 10))
def test_any_number_of_steps_can_be_trained(network, tiny, epochs):
    history = fit(
        network, tiny[:20], Recipe(epochs=epochs, batch_size=20), progress=False
    )
    assert len(history.train_loss) == epochs


def test_history_has_an_entry_an_epoch(network, tiny):
    history = fit(network, tiny, SHORT, validation=tiny[:100], progress=False)
    assert (
        len(history.train_loss)
        == len(history.validation_accuracy)
        == len(history.seconds)
        == 2
    )
    assert history.validation_accuracy[-1] == evaluate(network, tiny[:100])
    assert 0 < history.seconds[0] < history.seconds[1]
    assert set(history.as_dict()) == {
        *("train_loss", "validation_accuracy", "validation_loss", "seconds")
    }
    assert fit(network, tiny, SHORT, progress=False).validation_accuracy == []


def test_validation_in_between_does_not_change_the_training(small_resnet, tiny):
    alone, watched = copy.deepcopy(small_resnet), small_resnet
    recipe = Recipe(epochs=3, batch_size=40, learning_rate=0.01)
    fit(alone, tiny[:120], recipe, progress=False)
    fit(watched, tiny[:120], recipe, validation=tiny[100:130], progress=False)
    assert torch.equal(weights(alone), weights(watched))


def test_the_loss_recorded_is_the_mean_over_pictures(network, tiny):
    """With a rate too small to move anything and batches of unequal size."""
    recipe = Recipe(
        epochs=1, batch_size=450, learning_rate=1e-12, flip=False, weight_decay=0.0
    )
    wanted = nn.functional.cross_entropy(network(tiny.images), tiny.labels).item()
    assert fit(network, tiny, recipe, progress=False).train_loss == [
        pytest.approx(wanted, rel=1e-5)
    ]


class Recorder(nn.Module):
    """Remembers the pictures it was shown while training, by their sums."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(784, 10)
        self.seen: list[list[float]] = []

    def forward(self, images):
        if self.training:
            self.seen.append(images.double().sum((1, 2, 3)).tolist())
        return self.linear(images.flatten(1))


def test_each_epoch_shows_every_picture_once_in_another_order(tiny):
    model = Recorder()
    fit(model, tiny[:110], Recipe(epochs=2, batch_size=25), progress=False)
    assert [len(batch) for batch in model.seen] == [25, 25, 25, 25, 10] * 2
    epochs = [
        list(itertools.chain(*model.seen[:5])),
        list(itertools.chain(*model.seen[5:])),
    ]
    wanted = sorted(tiny.images[:110].double().sum((1, 2, 3)).tolist())
    assert sorted(epochs[0]) == pytest.approx(wanted) and sorted(
        epochs[1]
    ) == pytest.approx(wanted)
    assert epochs[0] != epochs[1]


def test_labels_stay_with_their_pictures():
    """Random pictures and labels can only be learnt by heart."""
    generator = torch.Generator().manual_seed(0)
    noise = Split(
        torch.randn(60, 1, 28, 28, generator=generator),
        torch.randint(10, (60,), generator=generator),
    )
    torch.manual_seed(0)
    model = lenet300((64, 32))
    fit(
        model,
        noise,
        Recipe(epochs=30, batch_size=20, flip=False, learning_rate=5e-3),
        progress=False,
    )
    assert evaluate(model, noise) == 1.0


def test_after_step_is_called_after_each_optimizer_step(network, tiny):
    seen = []
    fit(
        network,
        tiny,
        SHORT,
        after_step=lambda: seen.append(weights(network)),
        progress=False,
    )
    assert len(seen) == 2 * 6
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(seen))
    assert torch.equal(seen[-1], weights(network))


def test_what_after_step_changes_is_kept(network, tiny):
    def freeze():
        with torch.no_grad():
            network.fc2.weight.fill_(0.25)

    fit(network, tiny, SHORT, after_step=freeze, progress=False)
    assert (network.fc2.weight == 0.25).all()


def test_the_learning_rate_rises_to_its_peak_and_falls(network):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    scheduler = training._scheduler(optimizer, Recipe(learning_rate=0.1), steps=100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.1, rel=1e-3) and 20 <= peak <= 30
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(
        rates[peak:], reverse=True
    )
    assert rates[-1] < 0.001


def test_the_progress_bar_can_be_silenced(network, tiny, capfd):
    fit(network, tiny, SHORT, progress=False)
    assert capfd.readouterr() == ("", "")
    fit(network, tiny, SHORT)
    assert "epoch 2/2" in capfd.readouterr().err


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_an_error(network, tiny, weight, unchanged):
    with torch.no_grad():
        network.fc3.bias[1] = weight
    with pytest.raises(
        ValueError, match=r"fc3\.bias holds a number that is not finite"
    ):
        fit(network, tiny, SHORT, progress=False)
    assert network.training


def test_too_large_a_rate_is_an_error(network, tiny):
    recipe = Recipe(
        epochs=3,
        batch_size=50,
        optimizer="sgd",
        learning_rate=1e20,
        schedule="constant",
    )
    with pytest.raises(ValueError, match=r"learning_rate=1e\+20 is too large"):
        fit(network, tiny, recipe, progress=False)


def test_an_empty_training_set_is_an_error_and_changes_nothing(
    network, tiny, unchanged
):
    check = unchanged(network)
    with pytest.raises(ValueError, match="train is empty"):
        fit(network, tiny[:0], SHORT, progress=False)
    check()


def test_bf16_is_used_only_where_it_is_native(network, tiny, monkeypatch):
    used = []
    network.register_forward_hook(
        lambda module, inputs, output: used.append(output.dtype)
    )
    for native in (False, True):
        monkeypatch.setattr(training, "bf16_is_native", lambda native=native: native)
        fit(
            network,
            tiny[:100],
            Recipe(epochs=1, batch_size=100, bf16=True),
            progress=False,
        )
    assert used == [torch.float32, torch.bfloat16]
    assert all(p.dtype == torch.float32 for p in network.parameters())
    assert isinstance(training.bf16_is_native(), bool)


# ------------------------------------------------------------------------- step by step


def history_of(steps) -> tuple[list[float], training.History]:
    """What the steps give, and what they return at last."""
    fractions = []
    while True:
        try:
            fractions.append(next(steps))
        except StopIteration as end:
            return fractions, end.value


def test_a_run_in_steps_is_the_same_run(small_resnet, tiny):
    recipe = Recipe(epochs=2, batch_size=40, shift=1)
    whole, sliced = copy.deepcopy(small_resnet), small_resnet
    wanted = fit(
        whole, tiny[:100], recipe, validation=tiny[100:140], seed=3, progress=False
    )
    torch.rand(1)
    fractions, history = history_of(
        fit_in_steps(sliced, tiny[:100], recipe, validation=tiny[100:140], seed=3)
    )
    assert fractions == pytest.approx([step / 6 for step in range(1, 7)])
    assert (
        history.train_loss == wanted.train_loss
        and history.validation_accuracy == wanted.validation_accuracy
    )
    assert torch.equal(weights(whole), weights(sliced))
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.buffers(), sliced.buffers(), strict=True)
    )
    assert not any(module.training for module in sliced.modules())
    assert all(p.is_contiguous() for p in sliced.parameters())


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_run_that_is_closed_keeps_what_it_learned(small_resnet, tiny, steps):
    before = weights(small_resnet)
    run = fit_in_steps(small_resnet, tiny[:120], Recipe(epochs=2, batch_size=40))
    for _ in range(steps):
        next(run)
        assert small_resnet.training
    learned = weights(small_resnet)
    run.close()
    assert torch.equal(weights(small_resnet), learned) and not torch.equal(
        learned, before
    )
    assert not any(module.training for module in small_resnet.modules())
    assert all(p.is_contiguous() for p in small_resnet.parameters())


def test_a_run_that_never_began_changes_nothing(network, tiny, unchanged):
    network.train()
    check = unchanged(network)
    fit_in_steps(network, tiny, SHORT).close()
    check()


def test_after_step_is_called_before_each_pause(network, tiny):
    calls = []
    for step, _ in enumerate(
        fit_in_steps(network, tiny, SHORT, after_step=lambda: calls.append(1)), 1
    ):
        assert len(calls) == step


def test_two_runs_in_turn_do_not_disturb_each_other(network, tiny):
    recipe = Recipe(epochs=1, batch_size=100, shift=1)
    alone, first, second = (copy.deepcopy(network) for _ in range(3))
    fit(alone, tiny, recipe, seed=1, progress=False)
    runs = (
        fit_in_steps(first, tiny, recipe, seed=1),
        fit_in_steps(second, tiny, recipe, seed=2),
    )
    for _ in itertools.zip_longest(*runs):
        pass
    assert torch.equal(weights(first), weights(alone)) and not torch.equal(
        weights(second), weights(alone)
    )


def test_a_run_in_steps_goes_on_from_its_checkpoint(network, tiny, tmp_path):
    whole = copy.deepcopy(network)
    fit(whole, tiny, SHORT, progress=False)
    run = fit_in_steps(
        copy.deepcopy(network), tiny, SHORT, checkpoint=tmp_path / "run.pt"
    )
    for _ in range(8):  # an epoch has six steps
        next(run)
    run.close()
    fractions, history = history_of(
        fit_in_steps(network, tiny, SHORT, checkpoint=tmp_path / "run.pt")
    )
    assert fractions == pytest.approx([step / 12 for step in range(7, 13)])
    assert (
        torch.equal(weights(network), weights(whole)) and len(history.train_loss) == 2
    )


def test_steps_are_silent(network, tiny, capfd):
    history_of(fit_in_steps(network, tiny, SHORT))
    assert capfd.readouterr() == ("", "")


# ----------------------------------------------------------------- nothing half-changed


def rows(count: int = 20, *shape: int, classes: int = 3, dtype=torch.float32) -> Split:
    """Random inputs of this shape, by default tables of six columns."""
    images = torch.randn(
        count, *(shape or (6,)), generator=torch.Generator().manual_seed(0)
    )
    return Split(images.to(dtype), torch.arange(count) % classes)


def mlp(outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    norm, head = nn.BatchNorm1d(8), nn.Linear(8, outputs)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 8), norm, nn.ReLU(), head)


class Puts(nn.Module):
    """Puts out something made of the outputs."""

    def __init__(self, change) -> None:
        super().__init__()
        self.inner, self.change = mlp(), change

    def forward(self, x):
        return self.change(self.inner(x))


def made(make):
    """A network with all that a failed step could change: gradients, modes, a layout,
    a frozen weight."""
    model = make()
    model.train()
    for number, parameter in enumerate(model.parameters()):
        if number % 2 and parameter.requires_grad and not is_lazy(parameter):
            parameter.grad = torch.ones_like(parameter)
    return model


def inference() -> nn.Module:
    with torch.inference_mode():
        return mlp()


class Images(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls = self.calls + 1  # another tensor each time
        self.norm(self.conv(x))
        raise RuntimeError("too late")


TABLE = rows()
FLIP = Recipe(epochs=1, batch_size=8)
PLAIN = Recipe(epochs=1, batch_size=8, flip=False)
REFUSED = {
    "double network": (lambda: mlp().double(), TABLE, "cannot take train.images"),
    "half network": (lambda: mlp().half(), TABLE, "1.weight is float16"),
    "complex network": (
        lambda: nn.Linear(6, 3, dtype=torch.complex64),
        TABLE,
        "weight holds complex",
    ),
    "lazy network": (lambda: nn.LazyLinear(3), TABLE, "weight is not made yet"),
    "no values": (lambda: mlp().to("meta"), TABLE, "1.weight has no values"),
    "all frozen": (
        lambda: mlp().requires_grad_(False),
        TABLE,
        r"all of 1\.weight.*frozen",
    ),
    "nothing to train": (nn.Flatten, TABLE, "nothing to train: no weights"),
    "made in inference mode": (inference, TABLE, "1.weight was made inside"),
    "puts out a tuple": (
        lambda: Puts(lambda y: (y, y)),
        TABLE,
        r"output of model \(Puts\) is of type tuple",
    ),
    "puts out a dict": (lambda: Puts(lambda y: {"y": y}), TABLE, "of type dict"),
    "puts out [n]": (lambda: Puts(lambda y: y[:, 0]), TABLE, r"\[8\]; for 8 pictures"),
    "puts out nan": (
        lambda: Puts(lambda y: y / 0),
        TABLE,
        "loss is nan at the first step",
    ),
    "fails late": (Images, rows(20, 2, 5, 5), "RuntimeError: too late"),
    "sparse gradients": (
        lambda: nn.EmbeddingBag(9, 3, sparse=True),
        Split(torch.ones(20, 6).long(), TABLE.labels),
        "optimizer='adamw' cannot train this network.*sparse",
    ),
    "too few outputs": (lambda: mlp(2), TABLE, "labels go from 0 to 2; with 2"),
    "a label without output": (
        mlp,
        Split(TABLE.images, torch.eye(20)[3].long() * 5),
        "labels go from 0 to 5; with 3",
    ),
    "one picture": (mlp, TABLE[:1], "cannot take train.images.*more than 1 value"),
    "other shape": (mlp, rows(20, 7), r"cannot take train\.images \[8, 7\]"),
    "double pictures": (mlp, rows(dtype=torch.float64), "cannot take train.images"),
    "complex pictures": (mlp, rows(dtype=torch.complex64), "torch.complex64"),
    "nan pictures": (mlp, Split(TABLE.images / 0, TABLE.labels), "images holds a numb"),
    "float labels": (mlp, Split(TABLE.images, torch.ones(20)), "type torch.float32"),
    "labels [n, 1]": (mlp, Split(TABLE.images, TABLE.labels[:, None]), r"\[20, 1\]"),
    "negative label": (mlp, Split(TABLE.images, TABLE.labels - 100), "holds -100"),
    "fewer labels": (mlp, Split(TABLE.images, TABLE.labels[1:]), r"labels \[19\]"),
    "no split": (mlp, (TABLE.images, TABLE.labels), "must be a Split"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_trained_is_refused_with_the_network_as_it_was(what, unchanged):
    make, train, reason = REFUSED[what]
    model = made(make)
    lazy = what in ("lazy network", "no values")  # have no numbers to compare
    check = unchanged(nn.Identity() if lazy else model)
    with pytest.raises(ValueError, match=reason):
        fit(model, train, PLAIN, progress=False)
    check()


def test_a_network_that_is_no_picture_s_says_what_to_set(unchanged):
    model = made(mlp)
    check = unchanged(model)
    for recipe in (FLIP, Recipe(flip=False, shift=1)):
        with pytest.raises(ValueError, match="set flip=False, shift=0"):
            fit(model, TABLE, recipe, progress=False)
    check()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (dict(validation=TABLE[:0]), "validation is empty"),
        (dict(validation=rows(20, 7)), r"validation\.images are \(\[7\]"),
        (dict(validation=rows(classes=4)), r"validation\.labels go from 0 to 3"),
        (dict(seed="a"), "seed='a'"),
        (dict(after_step=3), "after_step=3 must be a function"),
        (dict(loss=3), "loss=3 must be a function"),
        (dict(schedule=3), "schedule=3 must be a schedule"),
        (dict(loss=lambda logits, labels, images: logits), "cannot be made smaller"),
        (dict(loss=lambda *batch: torch.zeros(())), "cannot be made smaller"),
    ],
)
def test_other_arguments_are_refused_with_the_network_as_it_was(
    options, reason, unchanged
):
    model = made(mlp)
    check = unchanged(model)
    with pytest.raises(ValueError, match=reason):
        fit(model, TABLE, PLAIN, progress=False, **options)
    check()


def test_a_first_step_that_is_stopped_by_after_step_leaves_the_network(unchanged):
    model = made(Images)
    model.forward = lambda x: model.norm(model.conv(x)).mean((2, 3))
    check = unchanged(model)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, rows(20, 2, 5, 5), FLIP, after_step=stop, progress=False)
    check()


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.table(x).mean(1))


def convolution(kind, pool) -> nn.Module:
    return nn.Sequential(
        kind(2, 4, 3), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 3)
    )


def normed() -> nn.Module:
    model = mlp()
    nn.utils.parametrizations.weight_norm(model[1])
    return model


TRAINED = {
    "a table": (mlp, TABLE),
    "conv1d": (lambda: convolution(nn.Conv1d, nn.AdaptiveAvgPool1d), rows(20, 2, 9)),
    "conv2d": (lambda: convolution(nn.Conv2d, nn.AdaptiveAvgPool2d), rows(20, 2, 9, 9)),
    "conv3d": (
        lambda: convolution(nn.Conv3d, nn.AdaptiveAvgPool3d),
        rows(20, 2, 5, 5, 5),
    ),
    "words": (Tokens, Split(torch.arange(120).view(20, 6) % 9, TABLE.labels)),
    "double": (lambda: mlp().double(), rows(dtype=torch.float64)),
    "bfloat16": (lambda: mlp().bfloat16(), rows(dtype=torch.bfloat16)),
    "weight norm": (normed, TABLE),
    "compiled": (lambda: torch.compile(mlp(), backend="eager"), TABLE),
    "one class": (lambda: mlp(1), rows(classes=1)),
    "a last batch of one": (mlp, rows(17)),
}


@pytest.mark.parametrize("what", TRAINED)
def test_any_network_is_trained_on_any_numbers(what):
    make, train = TRAINED[what]
    model = make()
    before = weights(model)
    history = fit(model, train, PLAIN, validation=train, progress=False)
    assert (weights(model).dtype, model.training) == (before.dtype, False)
    assert not torch.equal(weights(model), before)
    assert history.validation_accuracy == [evaluate(model, train)]


@given(st.integers(1, 40), st.integers(1, 20))
def test_no_batch_of_one_is_left_over(count, size):
    run = training._Run(
        mlp(), rows(count), Recipe(3, size, flip=False), 0, training.CrossEntropy()
    )
    places = run.batches(torch.arange(count))
    sizes = [len(each) for each in places]
    assert torch.equal(torch.cat(places), torch.arange(count))
    assert run.total == 3 * len(sizes)
    assert all(each == size for each in sizes[:-1]) and sizes[-1] <= size + 1
    assert 1 not in sizes or size == 1 or count == 1
    if count % size != 1:
        assert len(sizes) == math.ceil(count / size)


def test_what_the_network_draws_comes_from_the_seed(tiny):
    def run(seed):
        torch.rand(1)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(784, 10))
        torch.manual_seed(seed + 7)  # has no part in it
        before = torch.get_rng_state()
        fit(model, tiny[:100], FLIP, seed=seed // 2, progress=False)
        assert torch.equal(torch.get_rng_state(), before)
        return weights(model)

    first, again, other = (run(seed) for seed in (0, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_frozen_batchnorm_keeps_its_statistics_and_others_do_not():
    model = nn.Sequential(
        mlp()[:4], nn.BatchNorm1d(8), nn.Linear(8, 3), nn.BatchNorm1d(3, affine=False)
    )
    model[1].requires_grad_(False)
    start = copy.deepcopy(model.state_dict())
    fit(model, TABLE, PLAIN, progress=False)
    moved = {
        name: not torch.equal(start[name], tensor)
        for name, tensor in model.state_dict().items()
    }
    assert not any(moved[f"1.running_{each}"] for each in ("mean", "var"))
    assert all(moved[f"{name}.running_mean"] for name in ("0.2", "3"))


def test_what_evaluation_makes_in_a_network_can_be_trained():
    model = nn.Sequential(nn.LazyLinear(3))
    evaluate(model, TABLE)
    before = weights(model)
    fit(model, TABLE, PLAIN, progress=False)
    assert not torch.equal(weights(model), before)


# ---------------------------------------------------------------------------- BatchNorm


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(2, 9), min_size=1, max_size=4))
def test_unequal_batches_count_by_their_pictures(sizes):
    """Also for a norm that is called twice, or that gets its input by keyword."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(6, dtype=torch.float64)

        def forward(self, x):
            return self.norm(input=x), self.norm(3 * x)

    batches = [rows(size, dtype=torch.float64).images + size for size in sizes]
    model = Twice()
    training.reestimate_batchnorm(model, [(x, None) for x in batches])
    parts = [part for x in batches for part in (x, 3 * x)]
    share = torch.tensor([len(p) for p in parts], dtype=torch.float64)
    for name, found in (("mean", mean_of), ("var", var_of)):
        each = torch.stack([found(p) for p in parts])
        wanted = (share[:, None] * each).sum(0) / share.sum()
        torch.testing.assert_close(getattr(model.norm, f"running_{name}"), wanted)
    assert model.norm.momentum == 0.1 and model.training


def mean_of(x):
    return x.mean(0)


def var_of(x):
    return x.var(0)


def test_equal_batches_give_torch_s_plain_average_to_the_bit(small_resnet, tiny):
    batches = [(tiny.images[i : i + 30], None) for i in range(0, 210, 30)]
    ours, theirs = copy.deepcopy(small_resnet), small_resnet.eval()
    training.reestimate_batchnorm(ours, batches)
    for norm in training._norms(theirs):
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for images, _ in batches:
            theirs(images)
    assert all(map(torch.equal, ours.buffers(), theirs.buffers()))


def broken():
    yield TABLE.images, None
    raise OSError("the disk")


@pytest.mark.parametrize(
    ("batches", "error", "reason"),
    [
        ([], ValueError, "batches is empty"),
        (iter([]), ValueError, "used up"),
        ([TABLE.images], ValueError, r"batches\[0\] must be a pair"),
        (
            [(TABLE.images, 0), (TABLE.images[:1], 0)],
            ValueError,
            r"batches\[1\] \[1, 6",
        ),
        ([(TABLE.images, 0), (rows(8, 7).images, 0)], ValueError, r"batches\[1\]"),
        (
            [(TABLE.images, 0), (TABLE.images / 0, 0)],
            ValueError,
            "running_mean that is",
        ),
        (broken(), OSError, "the disk"),
    ],
)
def test_statistics_stay_when_they_cannot_be_measured(
    batches, error, reason, unchanged
):
    model = mlp()
    model[2].momentum = 0.3
    model(TABLE.images)
    model[2].eval()
    check = unchanged(model)
    with pytest.raises(error, match=reason):
        training.reestimate_batchnorm(model, batches)
    check()
    assert model[2].momentum == 0.3
    assert not model[2]._forward_pre_hooks


def test_a_norm_that_nothing_runs_through_keeps_its_statistics():
    model = mlp()
    model.aside = nn.BatchNorm1d(4)
    model.aside.running_mean.fill_(5.0)
    model.forward = lambda x: model[2](model[1](x))
    training.reestimate_batchnorm(model, [(TABLE.images, None)])
    assert (model.aside.running_mean == 5).all()
    plain = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3, track_running_stats=False))
    training.reestimate_batchnorm(plain, [(TABLE.images, None)])
    assert plain[1].running_mean is None


# ------------------------------------------------------------------------------- recipe


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", -1),
        ("epochs", 1.5),
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("learning_rate", 0),
        ("learning_rate", -1e-3),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("weight_decay", -0.1),
        ("weight_decay", math.nan),
        ("shift", -1),
        ("shift", 0.5),
        ("optimizer", "adamv"),
        ("schedule", "cosine"),
        ("learning_rate", "1"),
        ("flip", "no"),
        ("bf16", 1),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name}={value!r}".replace(".", r"\.")):
        Recipe(**{name: value})


def test_unknown_choices_list_the_known_ones():
    with pytest.raises(ValueError, match="adamw, adam, sgd"):
        Recipe(optimizer="rmsprop")
    with pytest.raises(ValueError, match="one-cycle, constant"):
        Recipe(schedule="step")


# ------------------------------------------------------------------------------ augment


def numbered(count: int, height: int = 28, width: int = 28) -> torch.Tensor:
    """Pictures whose pixels all differ: only the right flip and shift gives them
    back."""
    return torch.arange(1.0, count * height * width + 1).view(count, 1, height, width)


def moved(picture: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Pixel by pixel: the picture moved, black where nothing comes from."""
    result = torch.full_like(picture, BLACK)
    height, width = picture.shape[-2:]
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[0, row, column] = picture[0, row - down, column - right]
    return result


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32),
    st.integers(1, 5),
    st.booleans(),
    st.integers(0, 3),
    st.integers(4, 7),
    st.integers(4, 7),
)
def test_each_picture_is_its_original_flipped_or_not_and_moved_by_at_most_shift(
    seed, count, flip, shift, high, wide
):
    original = numbered(count, high, wide)
    before = original.clone()
    got = augment(original, torch.Generator().manual_seed(seed), flip=flip, shift=shift)
    assert got.shape == original.shape and got.dtype == original.dtype
    assert torch.equal(original, before)
    moves = list(itertools.product(range(-shift, shift + 1), repeat=2))
    for source, picture in zip(original, got, strict=True):
        sources = [source, source.flip(2)] if flip else [source]
        assert any(
            torch.equal(picture, moved(s, *move)) for s in sources for move in moves
        )


def test_half_are_flipped_and_every_move_is_as_likely():
    count, shift = 4000, 1
    original = numbered(1, 5, 5).expand(count, -1, -1, -1)
    got = augment(original, torch.Generator().manual_seed(0), flip=True, shift=shift)
    tally = [
        int((got == moved(source, down, right)).flatten(1).all(1).sum())
        for source in (original[0], original[0].flip(2))
        for down, right in itertools.product((-1, 0, 1), repeat=2)
    ]
    assert sum(tally) == count
    assert min(tally) > 0.6 * count / 18 and max(tally) < 1.5 * count / 18


@pytest.mark.parametrize(
    ("flip", "shift"), [(False, 0), (True, 0), (False, 2), (True, 2)]
)
def test_the_result_is_a_new_tensor(flip, shift):
    original = numbered(2)
    got = augment(original, torch.Generator().manual_seed(0), flip=flip, shift=shift)
    got.zero_()
    assert torch.equal(original, numbered(2))


def test_without_flip_and_shift_nothing_happens():
    assert torch.equal(
        augment(numbered(3), torch.Generator(), flip=False, shift=0), numbered(3)
    )


def test_augmenting_is_reproducible():
    first, again, other = (
        augment(numbered(9), torch.Generator().manual_seed(seed), flip=True, shift=2)
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("channels", [1, 3])
def test_all_colours_of_a_picture_move_together(channels):
    colours = torch.cat([numbered(9, 6, 6) + 1000 * c for c in range(channels)], dim=1)
    got, *alone = (
        augment(each, torch.Generator().manual_seed(0), flip=True, shift=2)
        for each in (colours, *colours.split(1, dim=1))
    )
    assert torch.equal(got, torch.cat(alone, dim=1))


def test_statistics_that_were_not_finite_are_measured_anew():
    norm = nn.BatchNorm1d(2)
    norm.running_mean.fill_(float("nan"))
    norm.running_var.fill_(float("inf"))
    training.reestimate_batchnorm(
        norm, [(torch.tensor([[0.0, 1.0], [4.0, 3.0]]), None)]
    )
    assert norm.running_mean.tolist() == [2, 2] and norm.running_var.tolist() == [8, 2]


@pytest.mark.parametrize(
    ("images", "options", "reason"),
    [
        (torch.zeros(2, 6), dict(flip=True, shift=0), r"\[2, 6\] are no pictures"),
        (torch.zeros(2, 1, 5, 9), dict(flip=False, shift=5), "shift=5 would move all"),
        (torch.zeros(2, 1, 9, 9).int(), dict(flip=False, shift=1), "torch.int32"),
        (torch.zeros(2, 1, 9, 9), dict(flip=False, shift=-1), "shift=-1"),
    ],
)
def test_what_cannot_be_flipped_or_shifted_is_refused(images, options, reason):
    with pytest.raises(ValueError, match=reason):
        augment(images, torch.Generator(), **options)


# ----------------------------------------------------------------------------- evaluate


def test_an_output_that_is_no_number_is_never_right():
    model = Puts(lambda y: torch.where(torch.arange(len(y))[:, None] < 5, torch.nan, y))
    split = Split(TABLE.images, model.inner.eval()(TABLE.images).argmax(1))
    split.labels[:5] = 0  # what argmax says of a row of nan
    assert evaluate(model, split) == 0.75


@pytest.mark.parametrize(
    ("model", "split", "reason"),
    [
        (mlp(), TABLE[:0], "split is empty"),
        (mlp(2), TABLE, "labels go from 0 to 2; with 2 outputs"),
        (mlp(), Split(TABLE.images, TABLE.labels[:, None]), r"\[20, 1\]"),
        (mlp(), Split(TABLE.images, TABLE.labels[:3]), r"labels \[3\]"),
        (mlp(), rows(dtype=torch.float64), "cannot take images.*dtype"),
        (Puts(lambda y: [y]), TABLE, "puts out a list"),
        (Puts(lambda y: y[:, 0]), TABLE, r"the shape \[20\]"),
        (Puts(lambda y: y[:1]), TABLE, r"puts out \[1, 3\] for 20 pictures"),
        ("lenet", TABLE, "'lenet' is no network"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(model, split, reason):
    with pytest.raises(ValueError, match=reason):
        evaluate(model, split)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "7"])
def test_a_batch_size_is_a_whole_number(batch_size):
    with pytest.raises(ValueError, match=f"batch_size={batch_size!r}"):
        evaluate(mlp(), TABLE, batch_size)


@pytest.mark.parametrize("batch_size", [1000, 7, 600, 1])
def test_evaluate_equals_counting_one_by_one(network, tiny, batch_size):
    part = tiny[:50]
    with torch.no_grad():
        right = sum(
            int(network(image[None]).argmax()) == int(label)
            for image, label in zip(part.images, part.labels, strict=True)
        )
    assert evaluate(network, part, batch_size) == pytest.approx(right / 50)


@pytest.mark.parametrize("mode", [True, False])
def test_evaluating_uses_eval_mode_and_leaves_the_model_as_it_was(
    small_resnet, tiny, unchanged, mode
):
    small_resnet.train(mode)
    small_resnet[1].eval()  # a learner's frozen BatchNorm stays frozen
    check = unchanged(small_resnet)
    logits = predict_logits(small_resnet, tiny.images[:30], batch_size=10)
    check()
    with torch.no_grad():
        wanted = copy.deepcopy(small_resnet).eval()(tiny.images[:30])
    torch.testing.assert_close(logits, wanted)


def test_the_mode_is_restored_after_an_error(network, unchanged):
    network.train()
    check = unchanged(network)
    with pytest.raises(ValueError, match=r"cannot take images \[2, 1, 5, 5\]"):
        evaluate(
            network, Split(torch.zeros(2, 1, 5, 5), torch.zeros(2, dtype=torch.long))
        )
    check()


# ------------------------------------------------------------------------------- texts


@pytest.fixture
def windows():
    """A text in which each piece follows from the one before."""
    return Windows.of(torch.arange(400) % 7, context=16)


def tiny_gpt(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return models.gpt(pieces=7, width=16, blocks=1, heads=2, head_width=8, neurons=32)


READING = Recipe(epochs=4, batch_size=4, learning_rate=0.01, flip=False, shift=15)


def test_a_text_is_learned_and_each_place_counts(windows):
    model = tiny_gpt()
    history = fit(model, windows, READING, validation=windows, progress=False)
    assert history.validation_accuracy[-1] > 0.95
    found = training.losses(model, windows)
    assert found.shape == windows.labels.shape
    logits = training.predict_logits(model, windows.images)
    expected = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), windows.labels, reduction="none"
    )
    torch.testing.assert_close(found, expected)
    assert history.validation_loss[-1] == pytest.approx(expected.mean().item())
    right = (logits.argmax(-1) == windows.labels).float().mean().item()
    assert evaluate(model, windows) == pytest.approx(right)


def test_a_text_run_goes_on_from_its_checkpoint(windows, tmp_path):
    whole, model = tiny_gpt(), tiny_gpt()
    fit(whole, windows, READING, progress=False)
    steps = training.fit_in_steps(model, windows, READING, checkpoint=tmp_path / "run")
    for done in steps:
        if done > 0.5:
            break
    steps.close()
    resumed = tiny_gpt()
    fit(resumed, windows, READING, checkpoint=tmp_path / "run", progress=False)
    assert torch.equal(weights(whole), weights(resumed))
    assert resumed.head.weight is resumed.embedding.weight


@pytest.mark.parametrize("change", [{"flip": True}, {"shift": 17}])
def test_windows_are_not_mirrored_nor_moved_further_than_they_are_long(windows, change):
    with pytest.raises(ValueError, match="windows of text are not mirrored"):
        fit(tiny_gpt(), windows, replace(READING, **change), progress=False)


def test_a_text_without_enough_outputs_is_refused(windows):
    model = models.gpt(pieces=6, width=16, blocks=1, heads=2, head_width=8, neurons=8)
    model.embedding = nn.Embedding(7, 16)
    with pytest.raises(ValueError, match=r"labels go from 0 to 6; with 6 outputs"):
        evaluate(model, windows)
