"""A file is scored in a process of its own, with limits on its time and memory; nothing
of the learner's notebook is in it."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import asdict
from numbers import Real
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from utils import baselines, data
from utils.arguments import whole
from utils.capstone.judge import CLASSES, check_plain, verdict
from utils.capstone.openings import SCORES, keep, rehearse
from utils.capstone.rules import DENSE, Cost, Refused, Score
from utils.data import Split

MAIN = Path(__file__).with_name("__main__.py")
# all that the fresh process is given of the environment: no setting of Python, of a
# library or of the course. LD_LIBRARY_PATH, since on some clusters Python does not
# start without it
KEPT = (
    *("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "WINDIR", "LANG", "LC_ALL", "LC_CTYPE"),
    *("USER", "LOGNAME", "USERNAME"),
)
MEMORY = 2_000_000_000  # bytes of address space that a file may make the process take
STARTING = 600  # seconds that the fresh process may take before it opens the file
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
            gets many fewer pictures right in other light, or takes too long or too much
            memory.
        ValueError: path is none; seconds is no number above 0 (a day at most); kept
            cannot be written.

    >>> score("no.onnx")
    Traceback (most recent call last):
    utils.capstone.rules.Refused: no.onnx gets no score: it is missing.
    """
    path, kept = _path("path", path), _path("kept", kept)
    _check_seconds(seconds)
    _check_kept(kept)
    try:
        check_plain(path)
    except Refused as reason:
        raise Refused(f"{path.name} gets no score: {reason}") from None
    rehearse(kept)
    answer = in_fresh_process(path, seconds)
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


def examine(
    path: Path | str,
    images: Tensor,
    labels: Tensor,
    *,
    rounds: int = 25,
    seconds: float = 300,
) -> dict:
    """What `score` finds of a file, on pictures of your own choice, in a fresh process
    as there: cost, points, and the quartiles of the speedup. Nothing is kept.

    Args:
        images, labels: `[n, 1, 28, 28]` and `[n]`, what it is judged on.
        rounds: of timing.
        seconds: as there.
    Raises:
        Refused: as there.
        ValueError: path is none; images are no pictures, or labels not a class of each;
            rounds is no whole number from 1; seconds as there.

    >>> examine("no.onnx", torch.zeros(9, 1, 28, 28), torch.zeros(9).long())
    Traceback (most recent call last):
    utils.capstone.rules.Refused: it is missing.
    """
    path = _path("path", path)
    _check_pictures(images, labels)
    whole("rounds", rounds, low=1)
    _check_seconds(seconds)
    check_plain(path)
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures.safetensors"
        pictures.write_bytes(baselines.to_bytes({"images": images, "labels": labels}))
        answer = in_fresh_process(path, seconds, str(pictures), str(rounds))
    del answer["asked"]  # these pictures are not the test set
    if "refused" in answer:
        raise Refused(answer["refused"])
    return answer


def _path(name: str, value: object) -> Path:
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(f"{name}={value!r} must be the path of a file.")
    return Path(value)


def _check_pictures(images: Tensor, labels: Tensor) -> None:
    if (
        not isinstance(images, Tensor)
        or images.dtype != torch.float32
        or images.ndim != 4
        or images.shape[1:] != (1, 28, 28)
        or not len(images)
        or not images.isfinite().all()
    ):
        raise ValueError(
            f"images={_short(images)} must be pictures of finite numbers, float32 of"
            " shape [n, 1, 28, 28], one or more."
        )
    if (
        not isinstance(labels, Tensor)
        or labels.dtype != torch.int64
        or labels.shape != (len(images),)
        or not ((labels >= 0) & (labels < CLASSES)).all()
    ):
        raise ValueError(
            f"labels={_short(labels)} must be the class of each picture, 0 to 9, int64"
            f" of shape [{len(images)}]."
        )


def _short(value: object) -> str:
    """A value in few words."""
    if isinstance(value, Tensor):
        return f"<{value.dtype} of shape {list(value.shape)}>"
    return f"<{type(value).__name__}>"


def _check_seconds(seconds: float) -> None:
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, Real)
        or not 0 < seconds <= LONGEST
    ):
        raise ValueError(
            f"seconds={seconds!r} must be a number above 0, and at most {LONGEST:,}."
        )


def _check_kept(kept: Path) -> None:
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


def _keep(kept: Path, entry: dict) -> int:
    """`keep`; where that fails although it was rehearsed, what was found is told."""
    try:
        return keep(kept, entry)
    except OSError as error:
        raise ValueError(
            f"kept={str(kept)!r} could not be written ({error.strerror or error}). The"
            " test set was opened, and this was found; write it down:"
            f" {json.dumps(entry)}"
        ) from error


def in_fresh_process(path: Path, seconds: float, *more: str) -> dict:
    """What `verdict` finds, or why the file is `refused`; and whether the pictures were
    `asked`.

    Isolated (`python -I`), in an empty folder, with few variables of the environment:
    neither the learner's modules nor their settings are used there. Whoever edits
    `utils/` or the installed packages still can say what is found.

    Args:
        more: pictures and rounds, as `main` takes them.
    """
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    with tempfile.TemporaryDirectory() as folder:
        places = dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP"), folder)
        with subprocess.Popen(
            [sys.executable, "-I", str(MAIN), str(path.resolve()), *more],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            cwd=folder,
            env=environment | places,
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
    except (ValueError, TypeError, RecursionError):
        return []


# ------------------------------------------------------------ inside the fresh process


def main(path: str, pictures: str = "", rounds: str = "25") -> None:
    """What the fresh process does: judge the file, and say so. On the test set, or on
    the `images` and `labels` of a file of pictures."""
    if pictures:
        chosen = Split(**safetensors.torch.load_file(pictures))
    else:
        chosen = data.load().test
        data.forget()  # the others' memory
    dense = baselines.baseline(DENSE)
    limit_memory()
    _say(started=True)
    try:
        found = verdict(
            path,
            chosen.images,
            chosen.labels,
            dense,
            rounds=int(rounds),
            asked=lambda: _say(asked=True),
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

        most = address_space() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (ImportError, ValueError, OSError):
        pass


def address_space() -> int:
    """Bytes of address space that this process has taken; where the system does not
    tell, what PyTorch and the pictures take on Linux."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 6_000_000_000


def _say(**facts: object) -> None:
    """A line of JSON."""
    print(json.dumps(facts), flush=True)
