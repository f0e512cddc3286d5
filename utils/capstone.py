"""A score for a deployed network, from its file alone. Built for lessons/12_capstone.

The file is opened in a fresh process, with limits on its time and memory, and judged on
the test set: how many bytes it really has, how much faster it is than the dense VGG in
PyTorch, and how many pictures it gets right. Nothing that was computed in the notebook
counts. `python -m utils.capstone FILE` prints what it found as JSON, a line for each
step.

What it cannot find out: whether a network was trained on the test pictures, or corrects
a few of them (up to about one in thirty) from a list.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, count, cycle
from numbers import Real
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from utils import baselines, data, measure
from utils.deploy import LARGEST, Budget, Cost, Session, read_onnx
from utils.files import DamagedFileError, data_folder, write_atomically

DENSE = "vgg"  # what everything is compared with
BUDGET = Budget(bytes=56_000, speedup=10.0, accuracy=0.93)
SCORES = Path("my_capstone") / "scores.json"  # beside the learner's notebook
MEMORY = 8_000_000_000  # bytes of address space that a file may make the process take
CLASSES = 10
# pictures asked a second time, one by one, and a third time with other grey levels
AGAIN = 500
# pictures that may get another answer when asked again: one may lie on an edge, and
# fall to either side
EDGE = 2
# fraction of pictures that may get another answer with other grey levels; of honest
# networks 0.014 do
SHAKY = 0.05
TIMED = 200  # pictures, drawn at random, that the file is timed with
STARTING = 120  # seconds that the fresh process may take before it opens the file
LONGEST = 86_400  # seconds that it may be given from there on: a day
RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}


class Refused(ValueError):
    """A file that gets no score; the message says why."""


@dataclass(frozen=True)
class Score:
    """What a file costs and gives on the test set, its points, and which part of the
    budget it meets."""

    cost: Cost
    points: float
    speedup_quartiles: tuple[float, float]
    # how often the test set was opened for a score, this one and refused ones included
    opened: int

    def __str__(self) -> str:
        rows = [f"{self.points:.2f} points"]
        for name, (found, asked, met) in BUDGET.report(self.cost).items():
            spread = (
                " (quartiles {:.1f}-{:.1f})".format(*self.speedup_quartiles)
                if name == "speedup"
                else ""
            )
            verdict = "met" if met else "NOT met"
            rows.append(
                f"  {name}: {_show(name, found)}{spread}, asked {_show(name, asked)}:"
                f" {verdict}"
            )
        times = "once" if self.opened == 1 else f"{self.opened} times"
        return "\n".join([*rows, f"  The test set was opened {times} for a score."])


def score(
    path: Path | str, *, kept: Path | str = SCORES, seconds: float = 300
) -> Score:
    """Score an ONNX file in a fresh process, on the test set, and keep the score in the
    file `kept`.

    A file that is refused after it was shown the test set is kept there too, with the
        reason: that was an opening.

    Args:
        seconds: after which the process is stopped, and the file refused. They begin
            when the process is ready.
    Raises:
        Refused: the file is missing or damaged, does not take pictures and give ten
            numbers each, draws random numbers, answers differently when asked again,
            among other pictures, with slightly other grey levels or while it is timed,
            or takes too long or too much memory.
        ValueError: seconds is no number above 0 (a day at most); kept cannot be a file.
    """
    path, kept = Path(path), Path(kept)
    _check_arguments(kept, seconds)
    try:
        _check_plain(path)
    except Refused as reason:
        raise Refused(f"{path.name} gets no score: {reason}") from None
    answer = _in_fresh_process(path, seconds)
    entry = {"file": path.name, "when": time.strftime("%Y-%m-%d %H:%M:%S")}
    if "refused" in answer:
        reason = answer["refused"]
        if answer["asked"]:
            opened = _keep(kept, entry | {"refused": reason})
            reason += (
                " It had been shown the test set, so this counts as an opening; there"
                f" are {opened} now."
            )
        raise Refused(f"{path.name} gets no score: {reason}")
    cost = Cost(**answer["cost"])
    opened = _keep(kept, entry | {"points": answer["points"]} | asdict(cost))
    return Score(cost, answer["points"], tuple(answer["speedup_quartiles"]), opened)


def _check_arguments(kept: Path, seconds: float) -> None:
    """Before anything is run: what is found out must not be lost afterwards."""
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, Real)
        or not 0 < seconds <= LONGEST
    ):
        raise ValueError(
            f"seconds={seconds!r} must be a number above 0, and at most {LONGEST:,}."
        )
    if kept.exists() and not kept.is_file():
        raise ValueError(
            f"kept={str(kept)!r} is a folder or a device; it must be a file, such as"
            f" {str(SCORES)!r}."
        )
    for folder in kept.parents:
        if folder.exists() and not folder.is_dir():
            raise ValueError(
                f"kept={str(kept)!r} must lie in a folder; {str(folder)!r} is a file."
            )


def _check_plain(path: Path) -> None:
    """Neither missing, nor a folder, nor a pipe that would keep its reader waiting."""
    try:
        if path.is_file():
            return
        kinds = {
            "it is missing.": not path.exists(),
            "it is a folder.": path.is_dir(),
            "it is no plain file.": True,
        }
        reason = next(words for words, holds in kinds.items() if holds)
    except OSError as error:
        reason = f"it cannot be read ({error.strerror})."
    raise Refused(reason)


def _in_fresh_process(path: Path, seconds: float) -> dict:
    """What `examine` finds, or why the file is `refused`; and whether the test set was
    `asked`.

    Not in the learner's folder, and without the learner's settings of Python: their
    modules are not to be used here.
    """
    command = [sys.executable, "-m", "utils.capstone", str(path.resolve())]
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("PYTHON")
    }
    environment["PRUNING_DATA"] = str(data_folder())
    project = Path(__file__).parents[1]
    pipes = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    with subprocess.Popen(
        command,
        **pipes,
        encoding="utf-8",
        errors="replace",
        cwd=project,
        env=environment,
    ) as process:
        said, complaints, late = _listen(process, seconds)
    if said and {"points", "refused"} & set(said[-1]):
        answer = said[-1]
    else:
        last = ("".join(complaints).strip().splitlines() or ["memory or a crash"])[
            -1
        ].strip()
        answer = {
            "refused": (
                late or f"the process ended with code {process.returncode} ({last})."
            )
        }
    return answer | {"asked": {"asked": True} in said}


def _listen(
    process: subprocess.Popen, seconds: float
) -> tuple[list[dict], list[str], str]:
    """What the process said as JSON, a dict a line; its last complaints; and why it was
    stopped, if it was.

    It has ended when this returns or raises, also by KeyboardInterrupt.
    """
    said, complaints, ready = [], deque(maxlen=20), threading.Event()

    def hear() -> None:
        for line in process.stdout:
            said.extend(_json(line))
            if {"started": True} in said:
                ready.set()
        ready.set()  # there is nothing more to come

    # both pipes are read all the time: a full one would stop the process
    ears = [
        threading.Thread(target=each)
        for each in (hear, lambda: complaints.extend(process.stderr))
    ]
    try:
        for ear in ears:
            ear.start()
        late = _wait(process, ready, seconds)
    finally:
        process.kill()  # does nothing to one that has ended
        process.wait()
        for ear in ears:
            ear.join()
    return said, list(complaints), late


def _wait(process: subprocess.Popen, ready: threading.Event, seconds: float) -> str:
    """Until the process has ended, or for so many seconds from when it was ready; why
    no longer, or nothing."""
    if not ready.wait(STARTING):
        return (
            f"the process was not ready after {STARTING} s. The file was not opened;"
            " try again on a less busy machine."
        )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"it was not done after {seconds:g} s; it is too slow, or never ends."
    return ""


def points(cost: Cost) -> float:
    """One point for each halving of the bytes, one for each halving of the time; a
    tenth of a point of accuracy below the dense network costs nothing up to five of
    them, and one point each from there on."""
    facts = baselines.baseline_facts(DENSE)
    lost = 100 * (facts["test_accuracy"] - cost.accuracy)
    gained = math.log2(4 * facts["parameters"] / cost.bytes) + math.log2(cost.speedup)
    return round(gained - 10 * max(0.0, lost - 0.5), 2)


def examine(
    path: Path | str,
    images: Tensor,
    labels: Tensor,
    dense: nn.Module,
    *,
    rounds: int = 25,
    asked: Callable[[], object] = lambda: None,
) -> dict:
    """What `score` does inside the fresh process: cost, points, and the quartiles of
    the speedup.

    Args:
        asked: called once, when the file is about to be shown the first of these
            images.
    Raises:
        Refused: as there, but for time and memory.
    """
    size, network = _open(Path(path))
    # what cannot take pictures is refused before it sees these
    _ask(network, torch.zeros(2, *images.shape[1:]))
    asked()
    found = answers(network, images)
    # else one picture could have a short way
    chosen = torch.randperm(len(images), generator=_chance())[:TIMED]
    race = {
        "dense": _OneByOne(dense, images[chosen]),
        "file": _OneByOne(network, images[chosen]),
    }
    # 30 ms a block: on a busy machine a short one often escapes the interruptions that
    # a long one cannot
    timing = measure.latency(race, images[:1], rounds=rounds, shortest=0.03)["file"]
    _check_timed(race["file"].said, found[chosen])
    cost = Cost(size, timing.speedup, (found == labels).float().mean().item())
    return {
        "cost": asdict(cost),
        "points": points(cost),
        "speedup_quartiles": timing.speedup_quartiles,
    }


def _open(path: Path) -> tuple[int, Session]:
    """Bytes of the file, and the network in it. Both from a copy: the file may change
    meanwhile, the copy does not."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "network.onnx"
        try:
            _check_plain(path)
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


class _OneByOne:
    """Gives the network one of these pictures after another, whatever it is called
    with, and keeps what it said."""

    def __init__(self, network: Callable[[Tensor], Tensor], images: Tensor) -> None:
        self.network, self.ring = network, cycle(images.split(1))
        self.said: list[Tensor] = []

    def __call__(self, _: Tensor) -> None:
        self.said.append(self.network(next(self.ring)))


def _check_timed(said: list[Tensor], found: Tensor) -> None:
    """Whether the outputs `said`, `[1, 10]` each, of pictures that took turns, are the
    classes `found` before, `[n]`.

    Raises:
        Refused: more than a few pictures got another answer.
    """
    if any(each.shape != (1, CLASSES) for each in said):
        raise Refused("it gave outputs of another shape while it was timed.")
    turns = torch.arange(len(said)) % len(found)
    other = torch.cat(said).float().argmax(1) != found[turns]
    if (wrong := turns[other].unique().numel()) > EDGE:
        raise Refused(
            f"{wrong} of {len(found)} pictures got another answer while it was timed."
        )


def _chance() -> torch.Generator:
    """A generator whose numbers nobody can foresee."""
    return torch.Generator().manual_seed(int.from_bytes(os.urandom(7), "big"))


def answers(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The class of each picture, `[n]`: asked in random order and in batches of random
    sizes, so that nothing but the picture can tell the network which one it is.

    Raises:
        Refused: not ten finite numbers a picture, or other answers when pictures are
            asked again: one by one, or with grey levels that nobody could tell from
                theirs. What knows pictures by heart fails there.
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
    before = found[again].argmax(1)
    wrong = (_alone_classes(network, images[again]) != before).sum().item()
    if wrong > EDGE:
        raise Refused(
            f"{wrong} of {len(again)} pictures got another answer alone than among"
            " others."
        )
    wrong = (
        (_alone_classes(network, _nudged(images[again], generator)) != before)
        .sum()
        .item()
    )
    if wrong > SHAKY * len(again):
        raise Refused(
            f"{wrong} of {len(again)} pictures got another answer when no pixel changed"
            " by more than one grey level of 256. A network hardly notices that; does"
            " it know the pictures by heart?"
        )
    return found.argmax(1)


def _alone_classes(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The class of each picture, `[n]`, asked one by one."""
    return torch.cat([_ask(network, image) for image in images.split(1)]).argmax(1)


def _nudged(images: Tensor, generator: torch.Generator) -> Tensor:
    """The pictures, each pixel one grey level of 256 brighter, or darker, or as it
    was."""
    low, high = images.aminmax()
    steps = torch.randint(-1, 2, images.shape, generator=generator)
    return (images + steps * (high - low) / 255).clamp(low, high)


def _ask(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Ten numbers for each picture, `[n, 10]`, float32."""
    try:
        found = network(images)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Refused(
            f"it cannot be run on {len(images)} pictures of {list(images.shape[1:])}:"
            f" {reason}"
        ) from None
    shape, found = found.shape, found.float()  # files may give half floats, or integers
    if shape != (len(images), CLASSES) or not torch.isfinite(found).all():
        raise Refused(
            f"for {len(images)} pictures it gives {list(shape)}; wanted are ten finite"
            " numbers each."
        )
    return found


def _check_graph(path: Path) -> None:
    """One input, one output, and no operations but the standard's. None that draws
    random numbers: in ONNX Runtime those go on from call to call, so that a file could
        count its calls, and be idle when it is timed."""
    model = read_onnx(path)
    graph = model.graph
    weights = {each.name for each in graph.initializer}
    inputs = [each.name for each in graph.input if each.name not in weights]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise Refused(
            f"it has {len(inputs)} inputs and {len(graph.output)} outputs; wanted is"
            " one of each."
        )
    nodes = list(
        chain.from_iterable(_nodes(part) for part in (graph, *model.functions))
    )
    foreign = {node.domain for node in nodes} - {"", "ai.onnx"}
    if foreign:
        raise Refused(
            f"it uses operations of {', '.join(sorted(foreign))}; only the ONNX"
            " standard's are run."
        )
    chance = {node.op_type for node in nodes if _draws(node)}
    if chance:
        raise Refused(
            f"it draws random numbers ({', '.join(sorted(chance))}); wanted is one"
            " answer, always the same."
        )


def _draws(node: onnx.NodeProto) -> bool:
    """Whether a node draws random numbers. Dropout does if told to train, by its third
    input."""
    return node.op_type in RANDOM or (node.op_type == "Dropout" and any(node.input[2:]))


def _nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
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
    """One process at a time. After so many seconds it goes on: who was killed half-way
    left the lock lying."""
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
    """Earlier scores; a damaged file of them is laid aside under a free name, not
    overwritten."""
    if not kept.is_file():
        return []
    try:
        return [dict(entry) for entry in json.loads(kept.read_text())]
    except (ValueError, TypeError):
        names = (kept.with_suffix(f".damaged{number or ''}") for number in count())
        kept.replace(next(name for name in names if not name.exists()))
        return []


def _json(line: str) -> list[dict]:
    """The JSON object in a line; nothing if there is none."""
    try:
        return [dict(json.loads(line))]
    except (ValueError, TypeError):
        return []


def _show(name: str, value: float) -> str:
    return {
        "bytes": f"{value:,.0f} bytes",
        "speedup": f"{value:.1f}x",
        "accuracy": f"{value:.2%}",
    }[name]


def _limit_memory() -> None:
    """Where the system can (not on Windows): a file that asks for more memory ends the
    process, not the machine."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass


def _main(path: str) -> None:
    _limit_memory()
    test, dense = data.load().test, baselines.baseline(DENSE)
    _say(started=True)
    try:
        found = examine(
            path, test.images, test.labels, dense, asked=lambda: _say(asked=True)
        )
    except Refused as reason:
        found = {"refused": str(reason)}
    except MemoryError:
        found = {"refused": "it needs too much memory."}
    _say(**found)


def _say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
