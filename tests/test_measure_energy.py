"""Energy: the estimate by hand, and the counters of made-up processors."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from utils import baselines, measure
from utils.measure import energy_estimate, measured_energy

PICTURE = torch.zeros(1, 1, 28, 28)


def test_energy_estimate_by_hand():
    """A linear layer 4 -> 3, half of it zero, two pictures; Horowitz 2014 in
    picojoules."""
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2, 0, 0]] * 3))
    dense = energy_estimate(model, torch.zeros(2, 4))
    assert dense.arithmetic == pytest.approx(2 * 12 * 4.6e-12)
    assert dense.weights == pytest.approx(12 * 4 * 162.5e-12)
    assert dense.activations == pytest.approx(2 * 4 * (8 + 6) * 12.5e-12)
    assert dense.total == pytest.approx(
        dense.arithmetic + dense.weights + dense.activations
    )
    skipping = energy_estimate(model, torch.zeros(2, 4), skip_zeros=True)
    assert skipping.arithmetic == pytest.approx(dense.arithmetic / 2)
    # value and index: no gain at one half
    assert skipping.weights == pytest.approx(6 * 8 * 162.5e-12)
    assert skipping.activations == dense.activations


def test_energy_of_a_convolution_counts_its_positions():
    model = nn.Conv2d(1, 2, 3, bias=False)  # [1, 1, 4, 4] -> [1, 2, 2, 2]
    got = energy_estimate(model, torch.zeros(3, 1, 4, 4))
    assert got.arithmetic == pytest.approx(3 * 4 * 18 * 4.6e-12)
    assert got.activations == pytest.approx(2 * 4 * 3 * (16 + 8) * 12.5e-12)


def test_storing_zeros_is_never_dearer_than_needed():
    model = nn.Linear(4, 3)
    assert energy_estimate(
        model, torch.zeros(1, 4), skip_zeros=True
    ).weights == pytest.approx(12 * 4 * 162.5e-12)


def test_the_estimate_says_that_it_is_one_and_where_it_comes_from():
    text = str(energy_estimate(baselines.build("lenet300"), PICTURE))
    assert re.match(r"estimate: [\d,]+ uJ a batch", text)
    assert "Horowitz 2014" in text


def counter(folder, zone, name, energy, largest=1000):
    """One energy counter as Linux shows it: zones and their parts lie side by side in
    the class folder."""
    place = folder / zone
    place.mkdir()
    (place / "name").write_text(f"{name}\n")
    (place / "max_energy_range_uj").write_text(f"{largest}\n")
    (place / "energy_uj").write_text(f"{energy}\n")
    return place / "energy_uj"


def test_energy_is_the_sum_over_the_processors(tmp_path):
    first = counter(tmp_path, "intel-rapl:0", "package-0", 100)
    second = counter(tmp_path, "intel-rapl:1", "package-1", 500)

    def work():
        first.write_text("150")
        second.write_text("700")

    assert measured_energy(work, tmp_path) == pytest.approx(250e-6)


def test_a_counter_that_ran_over_is_understood(tmp_path):
    package = counter(tmp_path, "intel-rapl:0", "package-0", 900, largest=1000)
    assert measured_energy(lambda: package.write_text("50"), tmp_path) == pytest.approx(
        150e-6
    )


def test_parts_of_a_processor_are_not_counted_again(tmp_path):
    """The cores' counter is part of the package's; psys holds the package and the rest
    of the machine."""
    places = [
        counter(tmp_path, "intel-rapl:0", "package-0", 0),
        counter(tmp_path, "intel-rapl:0:0", "core", 0),
        counter(tmp_path, "intel-rapl:0:1", "uncore", 0),
        counter(tmp_path, "intel-rapl:1", "psys", 0),
    ]
    assert measured_energy(
        lambda: [place.write_text("100") for place in places], tmp_path
    ) == pytest.approx(100e-6)


def test_where_nothing_can_be_read_the_work_is_done_all_the_same(tmp_path):
    done = []
    assert measured_energy(lambda: done.append(1), tmp_path / "none") is None
    counter(tmp_path, "intel-rapl:0", "package-0", "no number")
    assert measured_energy(lambda: done.append(2), tmp_path) is None
    assert done == [1, 2]


def test_a_counter_that_this_user_may_not_read_is_passed_over(tmp_path, monkeypatch):
    refused = counter(tmp_path, "intel-rapl:0", "package-0", 1)
    readable = counter(tmp_path, "intel-rapl:1", "package-1", 1)
    read = Path.read_text

    def read_text(path, *arguments, **options):
        if path == refused:
            raise PermissionError(13, "Permission denied")
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert measure.energy_counters(tmp_path) == [readable]
