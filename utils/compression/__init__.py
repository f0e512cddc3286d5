"""Deep Compression: a pruned network down to a real file (Han, Mao & Dally 2016). Built
in lessons/08_quantization.

Three steps, each counted in bytes that were really written: of a pruned weight tensor
only the non-zero weights are kept, with the gaps between them (`writing`); they share a
few values (k-means, `sharing`), so that each is the number of a codebook entry; gaps
and numbers get Huffman codes (`huffman`). `format` says how the file is laid out.
"""

from utils.compression.reading import byte_bill, load_compressed, read_compressed
from utils.compression.sharing import (
    Shared,
    SharedWeight,
    apply_shared,
    hold_shared,
    share_weights,
)
from utils.compression.writing import save_compressed, stages

__all__ = [
    "Shared",
    "SharedWeight",
    "apply_shared",
    "byte_bill",
    "hold_shared",
    "load_compressed",
    "read_compressed",
    "save_compressed",
    "share_weights",
    "stages",
]
