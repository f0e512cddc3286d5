"""A score for a deployed network, from its file alone. Built for lessons/12_capstone.

The file is opened in a fresh process, with limits on its time and memory, and judged on the test set: how many bytes
it really has, how much faster it is than the dense VGG in PyTorch, and how many pictures it gets right. Nothing that
was computed in the notebook counts. `python -m utils.capstone FILE` prints what it found as JSON.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count, cycle
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from utils import data, measure, models
from utils.deploy import LARGEST, Budget, Cost, Session, read_onnx
from utils.files import DamagedFileError, data_folder, write_atomically

DENSE = "vgg"  # what everything is compared with
BUDGET = Budget(bytes=56_000, speedup=10.0, accuracy=0.928)
SCORES = Path("my_capstone") / "scores.json"  # beside the learner's notebook
MEMORY = 8_000_000_000  # bytes of address space that a file may make the process take
CLASSES = 10
AGAIN = 500  # pictures asked a second time, one by one
TIMED = 200  # pictures, drawn at random, that the file is timed with


class Refused(ValueError):
    """A file that gets no score; the message says why."""


@dataclass(frozen=True)
class Score:
    """What a file costs and gives on the test set, its points, and which part of the budget it meets."""

    cost: Cost
    points: float
    speedup_quartiles: tuple[float, float]
    opened: int  # how often the test set was opened for a score, this one included

    def __str__(self) -> str:
        rows = [f"{self.points:.2f} points"]
        for name, (found, asked, met) in BUDGET.report(self.cost).items():
            rows.append(f"  {name}: {_show(name, found)}, asked {_show(name, asked)}: {'met' if met else 'NOT met'}")
        times = "once" if self.opened == 1 else f"{self.opened} times"
        return "\n".join([*rows, f"  The test set was opened {times} for a score."])


def score(path: Path | str, *, kept: Path | str = SCORES, seconds: float = 300) -> Score:
    """Score an ONNX file in a fresh process, on the test set, and keep the score in the file `kept`.

    Args:
        seconds: after which the process is stopped, and the file refused.
    Raises:
        Refused: the file is damaged, does not take pictures and give ten numbers each, answers differently when asked
            again or among other pictures, or takes too long or too much memory.
    """
    path, kept = Path(path), Path(kept)
    answer = _in_fresh_process(path, seconds)
    cost = Cost(**answer["cost"])
    entry = {"file": path.name, "when": time.strftime("%Y-%m-%d %H:%M:%S"), "points": answer["points"]} | asdict(cost)
    return Score(cost, answer["points"], tuple(answer["speedup_quartiles"]), _keep(kept, entry))


def _in_fresh_process(path: Path, seconds: float) -> dict:
    """What `examine` finds. Not in the learner's folder: its modules and baselines are not to be used here."""
    command = [sys.executable, "-m", "utils.capstone", str(path.resolve())]
    environment = os.environ | {"PRUNING_DATA": str(data_folder())}
    project = Path(__file__).parents[1]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=project, env=environment)
    except subprocess.TimeoutExpired:
        raise Refused(f"{path.name} was not done after {seconds:g} s; it is too slow, or never ends.") from None
    answer = _last_json(done.stdout)
    if answer is None:
        said = (done.stderr.strip().splitlines() or ["memory or a crash"])[-1]
        answer = {"refused": f"the process ended with code {done.returncode} ({said})."}
    if "refused" in answer:
        raise Refused(f"{path.name} gets no score: {answer['refused']}")
    return answer


def points(cost: Cost) -> float:
    """One point for each halving of the bytes, one for each halving of the time; a tenth of a point of accuracy below
    the dense network costs nothing up to five of them, and one point each from there on."""
    facts = models.baseline_facts(DENSE)
    lost = 100 * (facts["test_accuracy"] - cost.accuracy)
    gained = math.log2(4 * facts["parameters"] / cost.bytes) + math.log2(cost.speedup)
    return round(gained - 10 * max(0.0, lost - 0.5), 2)


def examine(path: Path | str, images: Tensor, labels: Tensor, dense: nn.Module, *, rounds: int = 25) -> dict:
    """What `score` does inside the fresh process: cost, points, and the quartiles of the speedup.

    Raises:
        Refused: as there, but for time and memory.
    """
    size, network = _open(Path(path))
    right = answers(network, images) == labels
    some = images[torch.randperm(len(images), generator=_chance())[:TIMED]]  # else one picture could have a short way
    race = {"dense": _one_by_one(dense, some), "file": _one_by_one(network, some)}
    # 30 ms a block: on a busy machine a short one often escapes the interruptions that a long one cannot
    timing = measure.latency(race, images[:1], rounds=rounds, shortest=0.03)["file"]
    cost = Cost(size, timing.speedup, right.float().mean().item())
    return {"cost": asdict(cost), "points": points(cost), "speedup_quartiles": timing.speedup_quartiles}


def _open(path: Path) -> tuple[int, Session]:
    """Bytes of the file, and the network in it. Both from a copy: the file may change meanwhile, the copy does not."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "network.onnx"
        try:
            if (size := path.stat().st_size) > LARGEST:
                raise Refused(f"it has {size:,} bytes; at most {LARGEST:,} are opened.")
            with path.open("rb") as file:
                copy.write_bytes(file.read(LARGEST))
            _check_graph(copy)
            return copy.stat().st_size, Session(copy)
        except OSError as error:
            raise Refused(f"it cannot be read ({error.strerror}).") from None
        except DamagedFileError as error:
            raise Refused(str(error).replace(str(copy), "it")) from None


def _one_by_one(network: Callable[[Tensor], Tensor], images: Tensor) -> Callable[[Tensor], Tensor]:
    """A function that gives the network one of these pictures after another, whatever it is called with."""
    ring = cycle(images.split(1))
    return lambda _: network(next(ring))


def _chance() -> torch.Generator:
    """A generator whose numbers nobody can foresee."""
    return torch.Generator().manual_seed(int.from_bytes(os.urandom(7), "big"))


def answers(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The class of each picture, `[n]`: asked in random order and in batches of random sizes, so that nothing but
    the picture can tell the network which one it is.

    Raises:
        Refused: not ten finite numbers a picture, or other answers when pictures are asked again, one by one.
    """
    generator = _chance()
    order = torch.randperm(len(images), generator=generator)
    found = torch.empty(len(images), CLASSES)
    start = 0
    while start < len(order):
        size = int(torch.randint(50, 500, (1,), generator=generator))
        some = order[start : start + size]
        found[some] = _ask(network, images[some])
        start += size
    again = order[torch.randperm(len(order), generator=generator)[:AGAIN]]
    alone = torch.cat([_ask(network, images[i : i + 1]) for i in again.tolist()])
    wrong = (alone.argmax(1) != found[again].argmax(1)).sum().item()
    if wrong > 2:  # one may lie on an edge, and fall to either side by rounding
        raise Refused(f"{wrong} of {len(again)} pictures got another answer alone than among others.")
    return found.argmax(1)


def _ask(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    try:
        found = network(images)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Refused(f"it cannot be run on {len(images)} pictures of {list(images.shape[1:])}: {reason}") from None
    if found.shape != (len(images), CLASSES) or not torch.isfinite(found).all():
        raise Refused(f"for {len(images)} pictures it gives {list(found.shape)}; wanted are ten finite numbers each.")
    return found


def _check_graph(path: Path) -> None:
    """One input, one output, and no operations but the standard's."""
    graph = read_onnx(path).graph
    weights = {each.name for each in graph.initializer}
    inputs = [each.name for each in graph.input if each.name not in weights]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise Refused(f"it has {len(inputs)} inputs and {len(graph.output)} outputs; wanted is one of each.")
    foreign = {node.domain for node in _nodes(graph)} - {"", "ai.onnx"}
    if foreign:
        raise Refused(f"it uses operations of {', '.join(sorted(foreign))}; only the ONNX standard's are run.")


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, also those inside branches and loops."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _keep(kept: Path, entry: dict) -> int:
    """Add an entry to the file of scores; how many it then has."""
    with _alone(kept):
        history = [*_history(kept), entry]
        write_atomically(kept, (json.dumps(history, indent=1) + "\n").encode())
    return len(history)


@contextmanager
def _alone(kept: Path, seconds: float = 5) -> Iterator[None]:
    """One process at a time. After so many seconds it goes on: who was killed half-way left the lock lying."""
    lock = kept.with_name(f".{kept.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            lock.touch(exist_ok=False)
            break
        except OSError:  # there already, or (Windows) about to go
            time.sleep(0.02)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _history(kept: Path) -> list[dict]:
    """Earlier scores; a damaged file of them is laid aside under a free name, not overwritten."""
    if not kept.is_file():
        return []
    try:
        return [dict(entry) for entry in json.loads(kept.read_text())]
    except (ValueError, TypeError):
        names = (kept.with_suffix(f".damaged{number or ''}") for number in count())
        kept.replace(next(name for name in names if not name.exists()))
        return []


def _last_json(text: str) -> dict | None:
    try:
        return dict(json.loads(text.strip().splitlines()[-1]))
    except (ValueError, TypeError, IndexError):
        return None


def _show(name: str, value: float) -> str:
    return {"bytes": f"{value:,.0f} bytes", "speedup": f"{value:.1f}x", "accuracy": f"{value:.2%}"}[name]


def _limit_memory() -> None:
    """Where the system can (not on Windows): a file that asks for more memory ends the process, not the machine."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass


def _main(path: str) -> None:
    _limit_memory()
    try:
        test = data.load().test
        print(json.dumps(examine(path, test.images, test.labels, models.baseline(DENSE))))
    except Refused as reason:
        print(json.dumps({"refused": str(reason)}))
    except MemoryError:
        print(json.dumps({"refused": "it needs too much memory."}))


if __name__ == "__main__":
    _main(sys.argv[1])
