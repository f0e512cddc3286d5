"""Record what the VGG and the ResNet answer at each stop of the explorer. `make
predictions`; an hour on one core.

Only for scores that need no pictures: these give the same weights, bit for bit, on
every machine. An interrupted run goes on: what data/explorer/ holds already is not
computed again.
"""

import argparse
import time
from collections.abc import Iterator

import torch

from utils.baselines import to_bytes
from utils.explorer import Controls, recorded
from utils.explorer.kinds import KINDS
from utils.explorer.memory import Memory
from utils.files import data_folder

# LeNet-300-100 answers 5,000 pictures in a thirtieth of a second
NETWORKS = ("resnet", "vgg")
# the last ranks few blocks, far apart
WITHOUT_PICTURES = {"magnitude", "l1", "l2", "random", "loss without it"}
KEEP_EVERY = 60  # seconds


def places(memory: Memory, network: str) -> Iterator[Controls]:
    """The controls to record, the kinds' first scores first; the dense network comes
    first of all."""
    for kind, stops in memory.kinds(network).items():
        for score in [
            name for name in KINDS[kind].scores() if name in WITHOUT_PICTURES
        ]:
            for scope in KINDS[kind].scopes:
                for stop in stops:
                    yield Controls(stop, score, scope, kind, network)


def record(names: list[str]) -> None:
    """Compute what is missing and write it; entries of other weights than today's
    go."""
    folder = data_folder() / "explorer"
    old, entries = recorded.entries(folder), {}
    kept, memory = time.perf_counter(), Memory()
    for name in names:
        subject = memory.subject(name)
        for controls in places(memory, name):
            model = memory.prune(controls)
            key = recorded.key(to_bytes(model))
            if key in entries:
                continue
            entries[key] = old.get(key) or subject.predict(
                model, 0, len(subject.validation)
            )
            if time.perf_counter() - kept > KEEP_EVERY:
                recorded.write(old | entries, folder)
                kept = time.perf_counter()
                print(f"{len(entries)} networks; now {controls}", flush=True)
    recorded.write(entries, folder)
    print(f"{len(entries)} networks")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    record(list(NETWORKS))
