"""torchvision is importable beside any torch, quietly, and only what is missing is
declared."""

import sys
import types

import pytest

from utils import torchvision_repair


@pytest.fixture
def fake_torchvision(monkeypatch):
    """Make `import torchvision` do what the test says; the operators declared are
    recorded, not declared."""

    def install(*outcomes):
        attempts = iter(outcomes)

        class Finder:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name != "torchvision":
                    return None
                outcome = next(attempts)
                if isinstance(outcome, Exception):
                    raise outcome
                monkeypatch.setitem(sys.modules, name, outcome)
                return types.SimpleNamespace(
                    name=name,
                    loader=types.SimpleNamespace(
                        create_module=lambda spec: outcome,
                        exec_module=lambda module: None,
                    ),
                    origin=None,
                    submodule_search_locations=None,
                    cached=None,
                    parent="",
                    has_location=False,
                    _initializing=False,
                )

        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])

    return install


@pytest.fixture
def declared(monkeypatch):
    calls = []
    monkeypatch.setattr(
        torchvision_repair, "_declare_operators", lambda: calls.append("declared")
    )
    return calls


MISSING = RuntimeError("operator torchvision::nms does not exist")


def test_nothing_is_declared_where_torchvision_imports(fake_torchvision, declared):
    working = types.ModuleType("torchvision")
    fake_torchvision(working)
    assert torchvision_repair.import_torchvision() is working
    assert declared == []


def test_missing_operators_are_declared_and_the_import_repeated(
    fake_torchvision, declared
):
    working = types.ModuleType("torchvision")
    fake_torchvision(MISSING, working)
    assert torchvision_repair.import_torchvision() is working
    assert declared == ["declared"]


def test_what_was_half_imported_is_forgotten(fake_torchvision, declared, monkeypatch):
    fake_torchvision(MISSING, types.ModuleType("torchvision"))
    monkeypatch.setitem(
        sys.modules, "torchvision.half", types.ModuleType("torchvision.half")
    )
    monkeypatch.setitem(
        sys.modules, "torchvision_other", types.ModuleType("torchvision_other")
    )
    torchvision_repair.import_torchvision()
    assert "torchvision.half" not in sys.modules
    assert "torchvision_other" in sys.modules


def test_any_other_error_is_raised_again(fake_torchvision, declared):
    fake_torchvision(RuntimeError("no memory left"))
    with pytest.raises(RuntimeError, match="no memory left"):
        torchvision_repair.import_torchvision()
    assert declared == []


def test_no_torchvision_at_all_stays_an_import_error(fake_torchvision, declared):
    fake_torchvision(ModuleNotFoundError("No module named 'torchvision'"))
    with pytest.raises(ModuleNotFoundError):
        torchvision_repair.import_torchvision()


def test_a_second_failure_is_not_hidden(fake_torchvision, declared):
    fake_torchvision(
        MISSING, RuntimeError("operator torchvision::other does not exist")
    )
    with pytest.raises(RuntimeError, match="other"):
        torchvision_repair.import_torchvision()


def test_models_data_sets_and_transforms_work_quietly_and_twice(start_python):
    code = """
import utils
from utils.torchvision_repair import import_torchvision
first = import_torchvision()
assert import_torchvision() is first
import torch, torchvision
assert torchvision is first
from torchvision import datasets, models, transforms
from torchvision.transforms import v2
assert models.resnet18().eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)
assert models.ResNet18_Weights.IMAGENET1K_V1.meta["num_params"] == 11689512
flipped = transforms.RandomHorizontalFlip(1.0)(torch.arange(3.0).view(1, 1, 3))
assert flipped.flatten().tolist() == [2, 1, 0]
assert datasets.FashionMNIST.classes[9] == "Ankle boot"
print("works")
"""
    assert start_python(code).communicate(timeout=60) == ("works\n", "")


def test_declaring_twice_is_harmless(start_python):
    code = """
import utils
from utils import torchvision_repair as repair
if repair._library is not None:
    repair._declare_operators()
    import torch
    assert "iou_threshold" in str(torch.ops.torchvision.nms.default._schema)
print("works")
"""
    assert start_python(code).communicate(timeout=60) == ("works\n", "")
