"""A file is scored in a process of its own, with limits on its time and memory; nothing
of the learner's notebook is in it."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import asdict
from numbers import Real
from pathlib import Path

from utils import baselines, data
from utils.capstone.judge import check_plain, examine
from utils.capstone.openings import SCORES, keep
from utils.capstone.rules import DENSE, Cost, Refused, Score
from utils.files import data_folder

PROJECT = Path(__file__).parents[2]
MEMORY = 8_000_000_000  # bytes of address space that a file may make the process take
STARTING = 120  # seconds that the fresh process may take before it opens the file
LONGEST = 86_400  # seconds that it may be given from there on: a day


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

    >>> score("no.onnx")
    Traceback (most recent call last):
    utils.capstone.rules.Refused: no.onnx gets no score: it is missing.
    """
    path, kept = Path(path), Path(kept)
    _check_arguments(kept, seconds)
    try:
        check_plain(path)
    except Refused as reason:
        raise Refused(f"{path.name} gets no score: {reason}") from None
    answer = in_fresh_process(path, seconds)
    entry = {"file": path.name, "when": time.strftime("%Y-%m-%d %H:%M:%S")}
    if "refused" in answer:
        reason = answer["refused"]
        if answer["asked"]:
            opened = keep(kept, entry | {"refused": reason})
            reason += (
                " It had been shown the test set, so this counts as an opening; there"
                f" are {opened} now."
            )
        raise Refused(f"{path.name} gets no score: {reason}")
    cost = Cost(**answer["cost"])
    opened = keep(kept, entry | {"points": answer["points"]} | asdict(cost))
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


def in_fresh_process(path: Path, seconds: float) -> dict:
    """What `examine` finds, or why the file is `refused`; and whether the test set was
    `asked`.

    Not in the learner's folder, and without the learner's settings of Python: their
    modules are not to be used here.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("PYTHON")
    }
    with subprocess.Popen(
        [sys.executable, "-m", "utils.capstone", str(path.resolve())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        cwd=PROJECT,
        env=environment | {"PRUNING_DATA": str(data_folder())},
    ) as process:
        said, complaints, late = _listen(process, seconds)
    if said and {"points", "refused"} & set(said[-1]):
        answer = said[-1]
    else:
        answer = {"refused": late or _end(process.returncode, complaints)}
    return answer | {"asked": {"asked": True} in said}


def _end(code: int, complaints: list[str]) -> str:
    """How a process ended that found nothing."""
    last = ("".join(complaints).strip().splitlines() or ["memory or a crash"])[-1]
    return f"the process ended with code {code} ({last.strip()})."


def _listen(
    process: subprocess.Popen[str], seconds: float
) -> tuple[list[dict], list[str], str]:
    """What the process said as JSON, a dict a line; its last complaints; and why it was
    stopped, if it was.

    It has ended when this returns or raises, also by KeyboardInterrupt.
    """
    said, complaints, ready = [], deque(maxlen=20), threading.Event()

    def hear() -> None:
        for line in process.stdout or ():
            said.extend(_json(line))
            if {"started": True} in said:
                ready.set()
        ready.set()  # there is nothing more to come

    def hear_complaints() -> None:
        complaints.extend(process.stderr or ())

    # both pipes are read all the time: a full one would stop the process
    ears = [threading.Thread(target=each) for each in (hear, hear_complaints)]
    try:
        for ear in ears:
            ear.start()
        late = wait(process, ready, seconds)
    finally:
        process.kill()  # does nothing to one that has ended
        process.wait()
        for ear in ears:
            ear.join()
    return said, list(complaints), late


def wait(process: subprocess.Popen, ready: threading.Event, seconds: float) -> str:
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


def _json(line: str) -> list[dict]:
    """The JSON object in a line; nothing if there is none."""
    try:
        return [dict(json.loads(line))]
    except (ValueError, TypeError):
        return []


# ------------------------------------------------------------ inside the fresh process


def main(path: str) -> None:
    """What the fresh process does: judge the file, and say so."""
    limit_memory()
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


def limit_memory() -> None:
    """Where the system can (not on Windows): a file that asks for more memory ends the
    process, not the machine."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass


def _say(**facts: object) -> None:
    """A line of JSON."""
    print(json.dumps(facts), flush=True)
