"""From PyTorch to a file that runs without it: ONNX, ONNX Runtime, int8. Built in
lessons/10_deployment; for text networks in lessons/15_healing.

`files` reads and writes ONNX; `pictures` exports a network that classifies pictures,
and quantizes it with calibration; `text` exports one step of a network that writes, and
`rounding` stores that file's weights in 8 or 4 bits.
"""

from utils.deploy.files import LARGEST, read_onnx
from utils.deploy.pictures import (
    INPUT,
    OUTPUT,
    Parity,
    Session,
    parity,
    to_int8,
    to_onnx,
)
from utils.deploy.rounding import step_to_bits
from utils.deploy.text import OnnxWriter, step_to_onnx

__all__ = [
    "INPUT",
    "LARGEST",
    "OUTPUT",
    "OnnxWriter",
    "Parity",
    "Session",
    "parity",
    "read_onnx",
    "step_to_bits",
    "step_to_onnx",
    "to_int8",
    "to_onnx",
]
