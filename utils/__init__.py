"""Helpers of the pruning course. What carries an idea of pruning is first written by
the learner in a lab."""

from utils import torchvision_repair as _torchvision_repair

_torchvision_repair.import_torchvision()
