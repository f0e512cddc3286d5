"""What the course's networks answer when pruned, recorded once: data/explorer/. Made by
`make predictions`.

A VGG needs about seven seconds for 5,000 pictures on two cores, a slider waits a tenth
of a second. An entry is found by the sha256 of the pruned network's own bytes, so it is
never used for any other weights; what is not there is computed. Without the files the
explorer only takes longer.
"""

import functools
import hashlib
import json
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from utils.files import (
    DamagedFileError,
    data_folder,
    read_json,
    read_verified,
    write_atomically,
)

NAME = "predictions.safetensors"


def key(content: bytes) -> str:
    """What an entry is found by, from the bytes of a network (`models.to_bytes`)."""
    return hashlib.sha256(content).hexdigest()[:24]


def predictions(content: bytes) -> bytes:
    """The class that the network with these bytes gives each validation picture; empty
    if not recorded."""
    return remembered(data_folder() / "explorer").get(key(content), b"")


def entries(folder: Path) -> dict[str, bytes]:
    """All predictions by key; none where the files are missing or not what was
    written."""
    repair = "`make predictions`."
    try:
        expected = read_json(folder / "facts.json", repair)["sha256"]
        content = read_verified(folder / NAME, str(expected), repair)
        packed = safetensors.numpy.load(content)
    except (DamagedFileError, LookupError, TypeError, safetensors.SafetensorError):
        return {}
    return {
        name: np.stack([each >> 4, each & 15], axis=1).tobytes()
        for name, each in packed.items()
    }


def write(found: dict[str, bytes], folder: Path) -> None:
    """Write predictions (an even number each, classes below 16) by key, and the
    checksum beside them."""
    arrays = {
        name: np.frombuffer(each, np.uint8).reshape(-1, 2)
        for name, each in sorted(found.items())
    }
    content = safetensors.numpy.save(
        {name: each[:, 0] << 4 | each[:, 1] for name, each in arrays.items()}
    )
    write_atomically(folder / NAME, content)
    facts = {"networks": len(found), "sha256": hashlib.sha256(content).hexdigest()}
    write_atomically(
        folder / "facts.json", (json.dumps(facts, indent=1) + "\n").encode()
    )


remembered = functools.lru_cache(maxsize=1)(entries)
