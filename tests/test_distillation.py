"""Distillation: the loss against its formula, and a student that learns from a
teacher."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from utils import baselines
from utils.distillation import Teacher, soft_loss, soft_targets
from utils.training import Recipe, evaluate, fit

SHORT = Recipe(epochs=1, batch_size=64, flip=False)


def outputs(seed: int, rows: int = 5) -> torch.Tensor:
    return 4 * torch.randn(
        rows, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


@given(st.integers(0, 1000), st.floats(0.2, 50))
def test_the_soft_loss_is_its_formula(seed, temperature):
    student, teacher = outputs(seed), outputs(seed + 1)
    p, q = ((each / temperature).exp() for each in (teacher, student))
    p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
    by_hand = (p * (p / q).log()).sum(1).mean() * temperature**2
    assert soft_loss(student, teacher, temperature).item() == pytest.approx(
        by_hand.item(), rel=1e-6, abs=1e-9
    )


@given(st.integers(0, 1000), st.floats(0.2, 50), st.floats(1.01, 10))
def test_a_higher_temperature_is_less_certain(seed, temperature, factor):
    cold, warm = (
        soft_targets(outputs(seed), t) for t in (temperature, factor * temperature)
    )
    assert torch.allclose(cold.sum(1), torch.ones(5, dtype=torch.float64))
    assert (warm.max(1).values <= cold.max(1).values + 1e-12).all()
    assert torch.equal(cold.argmax(1), warm.argmax(1))


@given(st.integers(0, 1000))
def test_nothing_is_lost_on_a_student_that_answers_as_the_teacher(seed):
    logits = outputs(seed).requires_grad_()
    # the same number on top of all outputs changes no answer
    loss = soft_loss(logits, logits.detach() + 3, 4.0)
    loss.backward()
    assert abs(loss.item()) < 1e-9
    assert logits.grad.abs().max() < 1e-9


def test_at_high_temperature_the_gradient_does_not_vanish():
    """Hinton et al. 2015, sec. 2.1: it tends to (z - v) / N for outputs with mean 0;
    that is why T squared is there."""
    student, teacher = (
        each - each.mean(1, keepdim=True) for each in (outputs(0), outputs(1))
    )
    student.requires_grad_()
    soft_loss(student, teacher, 1e4).backward()
    assert torch.allclose(
        student.grad * 5, (student.detach() - teacher) / 10, atol=1e-3
    )


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_mixes_labels_and_teacher(tiny, weight):
    network, student = baselines.build("lenet300"), baselines.build("lenet300", seed=1)
    images, labels = tiny.images[:32], tiny.labels[:32]
    logits = student(images)
    expected = weight * soft_loss(logits, network(images), 3.0) + (
        1 - weight
    ) * F.cross_entropy(logits, labels)
    found = Teacher(network, temperature=3.0, weight=weight)(logits, labels, images)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_teacher_is_not_trained_and_the_student_is(tiny, unchanged):
    network, student = baselines.build("lenet300"), baselines.build("lenet300", seed=1)
    network.train()
    same, teacher = unchanged(network), Teacher(network)
    before = copy.deepcopy(teacher.network.state_dict())
    first = copy.deepcopy(student.state_dict())
    fit(student, tiny, SHORT, loss=teacher, progress=False)
    same()
    assert all(
        torch.equal(before[name], value)
        for name, value in teacher.network.state_dict().items()
    )
    assert not all(
        torch.equal(first[name], value) for name, value in student.state_dict().items()
    )
    assert not teacher.network.training


def test_with_weight_0_fit_does_what_it_does_without_a_teacher(tiny):
    plain, taught = (baselines.build("lenet300") for _ in range(2))
    fit(plain, tiny, SHORT, progress=False)
    fit(
        taught,
        tiny,
        SHORT,
        loss=Teacher(baselines.baseline("lenet300"), weight=0.0),
        progress=False,
    )
    assert all(
        torch.allclose(a, b, atol=1e-6)
        for a, b in zip(plain.parameters(), taught.parameters(), strict=True)
    )


def test_a_student_learns_from_a_teacher_alone(tiny, course_data):
    """Every label of the training set is wrong; a student with a trained teacher, and
    weight 1, learns nevertheless."""
    wrong = type(tiny)(tiny.images, (tiny.labels + 1) % 10)
    student = baselines.build("lenet300")
    recipe = Recipe(epochs=10, batch_size=64, flip=False)
    fit(
        student,
        wrong,
        recipe,
        loss=Teacher(baselines.baseline("lenet300"), weight=1.0),
        progress=False,
    )
    assert evaluate(student, course_data.validation[:1000]) > 0.7


def test_a_checkpoint_belongs_to_one_teacher(tiny, tmp_path):
    path = tmp_path / "run.pt"
    fit(
        baselines.build("lenet300"),
        tiny,
        SHORT,
        loss=Teacher(baselines.build("lenet300")),
        checkpoint=path,
        progress=False,
    )
    with pytest.raises(ValueError, match="belongs to another run"):
        fit(baselines.build("lenet300"), tiny, SHORT, checkpoint=path, progress=False)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_must_be_a_positive_number(temperature):
    with pytest.raises(ValueError, match="temperature="):
        soft_targets(outputs(0), temperature)
    with pytest.raises(ValueError, match="temperature="):
        Teacher(nn.Linear(2, 2), temperature=temperature)


@pytest.mark.parametrize("shape", [(5, 1), (1, 10), (10,), (5, 7), (4, 10), ()])
def test_the_teacher_s_outputs_must_have_the_shape_of_the_student_s(shape):
    """Some of these would be broadcast: a loss, and a wrong one."""
    wrong, named = torch.zeros(shape), str(list(shape)).replace("[", r"\[")
    with pytest.raises(
        ValueError, match=rf"teacher_logits has the shape {named}, and logits \[5, 10\]"
    ):
        soft_loss(outputs(0), wrong, 2.0)
    if len(shape) == 2:
        teacher = Teacher(nn.Linear(3, shape[1]))
        with pytest.raises(ValueError, match="teacher_logits has the shape"):
            teacher(
                outputs(0, rows=shape[0] + 1),
                torch.zeros(shape[0] + 1).long(),
                torch.zeros(shape[0], 3),
            )


@pytest.mark.parametrize("temperature", ["4", True, None, 1e-7, 1e7])
def test_a_temperature_that_no_loss_could_bear_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature={temperature!r}"):
        soft_loss(outputs(0), outputs(1), temperature)


@pytest.mark.parametrize("temperature", [1e-6, 1.0, 8.0, 100.0, 1e4, 1e6])
def test_float32_loses_nothing_at_any_temperature(temperature):
    student, teacher = outputs(0).float(), outputs(1).float()
    exact = soft_loss(student.double(), teacher.double(), temperature)
    found = soft_loss(student, teacher, temperature)
    assert found.item() == pytest.approx(exact.item(), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_softened_in_float32(dtype):
    half = outputs(0).to(dtype)
    targets = soft_targets(1000 * half, 0.01)  # beyond float16
    assert targets.dtype == torch.float32
    assert torch.equal(targets, soft_targets((1000 * half).float(), 0.01))
    assert soft_loss(half, half, 2.0).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_teacher_that_puts_out_no_numbers_is_named(value, tiny, unchanged):
    network, student = baselines.build("lenet300"), baselines.build("lenet300", seed=1)
    network.fc3.bias.data[2] = value
    student.train()
    check = unchanged(student)
    with pytest.raises(ValueError, match="teacher_logits holds nan or inf"):
        fit(student, tiny, SHORT, loss=Teacher(network), progress=False)
    check()


def test_no_gradient_reaches_the_teacher():
    student, teacher = (outputs(seed).requires_grad_() for seed in (0, 1))
    soft_loss(student, teacher, 2.0).backward()
    assert teacher.grad is None and student.grad.abs().max() > 0


def test_a_network_can_be_taught_by_what_it_was(tiny):
    model = baselines.build("lenet300")
    teacher = Teacher(model)
    before = copy.deepcopy(model.state_dict())
    fit(model, tiny[:100], SHORT, loss=teacher, progress=False)
    taught = teacher.network.state_dict()
    assert all(torch.equal(before[name], taught[name]) for name in before)
    assert not torch.equal(model.fc1.weight, before["fc1.weight"])


def pruned() -> nn.Module:
    return prune.l1_unstructured(nn.Linear(4, 2), "weight", 0.5)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (pruned, r"weight is computed.*prune\.remove"),
        (lambda: nn.LazyLinear(3), "weight is not made yet"),
        (lambda: nn.Linear(4, 2, device="meta"), "weight has no values"),
        (lambda: "lenet300", "'lenet300' is no network"),
    ],
)
def test_a_teacher_that_cannot_be_copied_is_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        Teacher(make())


def test_a_teacher_with_a_computed_weight_that_can_be_copied_teaches():
    network = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))
    x = torch.randn(5, 4)
    assert torch.equal(Teacher(network).network(x), network(x))


@pytest.mark.parametrize(
    ("network", "labels", "images", "reason"),
    [
        (nn.Linear(4, 2), [0, 1, 2], torch.zeros(3, 4), "labels go from 0 to 2"),
        (nn.Linear(4, 2), [0, 1], torch.zeros(3, 4), "for 2 pictures"),
        (nn.Linear(4, 2), [0, 1, 0], torch.zeros(3, 5), "cannot take images"),
        (nn.Linear(4, 2), [0, 1, 0], torch.zeros(3, 4).double(), "cannot take images"),
        (nn.LSTM(4, 2), [0, 1, 0], torch.zeros(3, 4), "puts out a tuple"),
    ],
)
def test_a_batch_that_cannot_be_taught_is_refused(network, labels, images, reason):
    with pytest.raises(ValueError, match=reason):
        Teacher(network)(torch.zeros(3, 2), torch.tensor(labels), images)


@pytest.mark.parametrize(
    ("logits", "reason"),
    [
        (torch.zeros(3, 2).long(), "torch.int64"),
        (torch.zeros(3), r"\[3\]; it must be \[n, classes\]"),
        (torch.zeros(0, 2), r"\[0, 2\]"),
        ([[1.0]], "logits is list"),
    ],
)
def test_what_cannot_be_softened_is_refused(logits, reason):
    with pytest.raises(ValueError, match=reason):
        soft_targets(logits, 2.0)


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_weight_is_a_share(weight):
    with pytest.raises(ValueError, match="weight="):
        Teacher(nn.Linear(2, 2), weight=weight)
