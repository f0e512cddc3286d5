"""Import torchvision also where its compiled operators do not fit the installed torch.

A torchvision built for CUDA beside a CPU-only torch stops at import with "operator
torchvision::nms does not exist". The course needs none of torchvision's compiled
operators (only models, weights' metadata and data sets), so it is enough to declare the
two operators that torchvision expects. This is the one place that does it.
"""

import sys
from types import ModuleType

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: torch.library.Library | None = None  # kept alive: the schemas vanish with it


def import_torchvision() -> ModuleType:
    """Return torchvision; declare its missing operators first where they do not
    load."""
    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        _forget_half_imported()
        _declare_operators()
        import torchvision
    return torchvision


def _forget_half_imported() -> None:
    for name in [
        n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")
    ]:
        del sys.modules[name]


def _declare_operators() -> None:
    global _library
    if _library is None:
        _library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in SCHEMAS:
            _library.define(schema)
