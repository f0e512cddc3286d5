"""The examples in the docstrings of the helper package run, and give what they say."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import utils

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(utils.__path__, "utils.")
    if not module.ispkg
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # what an example writes goes nowhere else
    torch.manual_seed(0)
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert not failed


CALLED_BY_LEARNERS = {
    "data": ["sample_batches"],
    "training": ["fit", "evaluate", "reestimate_batchnorm"],
    "scores": ["score"],
    "masks": [
        "masks_from_scores",
        "magnitude_masks",
        "nm_masks",
        "apply_masks",
        "masked",
        "hold",
        "report",
    ],
    "surgery": ["unit_masks", "remove_units", "shrink"],
    "schedules": ["Cubic", "Iterative", "rewire"],
    "quantization": [
        "weight_grid",
        "activation_grid",
        "quantize_weights",
        "quantized",
        "fold_batchnorm",
        "plain",
    ],
    "distillation": ["soft_targets", "soft_loss"],
    "deploy": ["parity"],
}


@pytest.mark.parametrize("module", CALLED_BY_LEARNERS)
def test_what_a_learner_calls_has_an_example(module):
    room = importlib.import_module(f"utils.{module}")
    without = [
        name
        for name in CALLED_BY_LEARNERS[module]
        if ">>>" not in (getattr(room, name).__doc__ or "")
    ]
    assert not without
