"""Two networks compared on the same pictures: against scipy, the table of McNemar, and
how often the interval holds the truth."""

import numpy as np
import pytest
import torch
from scipy import stats

from utils.measure import Difference, paired_difference

LABELS = torch.arange(2000) % 10


def answers(wrong: slice) -> torch.Tensor:
    """The right classes, but for those places."""
    found = LABELS.clone()
    found[wrong] = (found[wrong] + 1) % 10
    return found


def test_it_is_the_interval_of_a_paired_test():
    a, b = answers(slice(0, 260)), answers(slice(200, 500))
    found = paired_difference(a, b, LABELS)
    right = [(each == LABELS).double().numpy() for each in (a, b)]
    low, high = stats.ttest_rel(*right).confidence_interval(0.95)
    assert found.difference == pytest.approx((low + high) / 2)
    # the quantile of t with 1,999 degrees of freedom, and one picture less
    assert found.margin == pytest.approx((high - low) / 2, rel=2e-3)


def test_it_is_the_formula_of_the_fourfold_table():
    a, b = answers(slice(0, 100)), answers(slice(90, 240))
    only_a, only_b, n = 140, 90, 2000
    assert (a != b).sum() == only_a + only_b
    gain = (only_a - only_b) / n
    variance = (only_a + only_b) / n - gain**2
    wanted = Difference(gain, 1.96 * (variance / n) ** 0.5)
    assert paired_difference(a, b, LABELS) == pytest.approx(wanted)


def test_who_comes_first_gives_the_sign_and_nothing_else():
    a, b = answers(slice(0, 30)), answers(slice(20, 90))
    one, other = paired_difference(a, b, LABELS), paired_difference(b, a, LABELS)
    assert one == pytest.approx((-other.difference, other.margin))
    assert one.difference > 0  # a is right more often
    assert paired_difference(a, a, LABELS) == (0, 0)


def test_two_wrong_answers_are_alike():
    a, b = answers(slice(0, 50)), answers(slice(0, 50))
    b[:50] = (b[:50] + 1) % 10  # wrong in another way
    assert paired_difference(a, b, LABELS) == (0, 0)


def test_the_interval_holds_the_truth_19_times_in_20():
    # of a picture: both right, only a, only b, both wrong
    shares, truth, count = [0.84, 0.03, 0.02, 0.11], 0.01, 1000
    right = torch.tensor([[1, 1], [1, 0], [0, 1], [0, 0]])
    dice, held = np.random.default_rng(0), 0
    for _ in range(2000):
        drawn = right[dice.choice(4, size=count, p=shares)]  # [pictures, 2]
        found = paired_difference(*drawn.T, torch.ones(count))
        held += abs(found.difference - truth) <= found.margin
    assert 0.93 <= held / 2000 <= 0.97


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((torch.zeros(3, 10), torch.zeros(3), torch.zeros(3)), r"answers_a.*argmax"),
        ((torch.zeros(3), torch.zeros(3), [0, 0, 0]), "labels.*list"),
        ((torch.zeros(0), torch.zeros(0), torch.zeros(0)), "answers_a"),
        ((torch.zeros(3), torch.zeros(4), torch.zeros(3)), "the same pictures.*4"),
    ],
)
def test_what_is_no_pair_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        paired_difference(*given)
