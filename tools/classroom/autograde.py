"""Grade what was handed in: `make autograde`; some of it only:
`make autograde ARGS="--lesson 03_weight_pruning --learner anna"`.

Each learner's functions run in a cage (cage.py), the verdicts are made outside it
(judge.py), and go into nbgrader's gradebook, with a page for the learner in feedback/
and a notebook for the teacher in autograded/. What is graded already is left as it is;
a grading that was stopped goes on where it was.
"""

import argparse
import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tools.classroom import cage
from tools.classroom.assignments import points_of, with_exercises
from tools.classroom.feedback import Graded, lay_graded
from tools.classroom.folder import (
    ENDING,
    ClassFolder,
    add_folder_option,
    chosen_folder,
    chosen_lessons,
    is_learner,
)
from tools.classroom.grades import Grades
from tools.running import run
from tools.start.files import ROOT, StartError, read_json
from utils.exercises import LESSONS
from utils.files import write_atomically

VERSION = 1  # of what is graded, and how
PATIENCE = 3600  # seconds for one submission, after which its judge is started again
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "PRUNING_DATA", "TMPDIR")


@dataclass(frozen=True)
class Submission:
    """What one learner handed in of one lesson."""

    learner: str
    lesson: str
    notebooks: tuple[Path, ...]

    @property
    def when(self) -> datetime:
        """When the newest of its notebooks was written."""
        newest = max(path.stat().st_mtime for path in self.notebooks)
        return datetime.fromtimestamp(newest, UTC).replace(tzinfo=None)

    def mark(self, seed: str) -> str:
        """What its grades depend on: the notebooks, the lesson, the seed."""
        found = hashlib.sha256(f"{VERSION} {seed} {points_of(self.lesson)}".encode())
        sources = [
            LESSONS / self.lesson / f"{part}.py" for part in ("exercises", "task")
        ]
        for path in [*self.notebooks, *sources]:
            if path.is_file():
                found.update(path.name.encode() + path.read_bytes())
        return found.hexdigest()


def submissions(
    folder: ClassFolder, lessons: list[str], learners: list[str]
) -> Iterator[Submission]:
    """All that was handed in of these lessons, lesson by lesson; no link is
    followed."""
    names = sorted(
        path.name
        for path in folder.submitted.glob("*")
        if path.is_dir() and not path.is_symlink() and is_learner(path.name)
    )
    if unknown := set(learners) - set(names):
        raise StartError(
            f"{', '.join(sorted(unknown))} handed nothing in: there is no such folder"
            f" in {folder.submitted}."
        )
    for lesson in lessons:
        for learner in learners or names:
            place = folder.submitted / learner / lesson
            wanted = (lesson, f"{lesson}_further", f"{lesson}{ENDING}")
            paths = [place / f"{name}.ipynb" for name in wanted]
            found = tuple(p for p in paths if p.is_file() and not p.is_symlink())
            if found and not place.is_symlink():
                yield Submission(learner, lesson, found)


# ------------------------------------------------------------------------------- judges


class Judge:
    """A process that judges one submission after the other, started when needed."""

    def __init__(self, seed: str, trusted: bool) -> None:
        self.seed, self.trusted = seed, trusted
        self.process: subprocess.Popen[str] | None = None

    def ask(self, submission: Submission) -> dict:
        """All verdicts on a submission, once more where the process ended.

        Raises:
            StartError: it ended twice.
        """
        job = {"lesson": submission.lesson, "seed": self.seed, "trusted": self.trusted}
        job["notebooks"] = [str(path.resolve()) for path in submission.notebooks]
        job["id"] = f"{submission.learner}/{submission.lesson}"
        for _ in range(2):
            answer = self._ask_once(job)
            if answer is not None:
                return answer
        raise StartError(f"{job['id']} could not be graded: its judge ended twice.")

    def _ask_once(self, job: dict) -> dict | None:
        process = self.process = self.process or self._start()
        assert process.stdin is not None and process.stdout is not None
        late = threading.Timer(PATIENCE, process.kill)
        late.start()
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                answer = json.loads(line)
                if answer["id"] == job["id"]:
                    return answer
        except BrokenPipeError:
            pass
        finally:
            late.cancel()
        self.close()
        return None

    def _start(self) -> subprocess.Popen[str]:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        command = [sys.executable, "-P", "-m", "tools.classroom.judge"]
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            cwd=ROOT,
            env=kept | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"},
        )

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def judged(
    wanted: list[Submission], seed: str, jobs: int, trusted: bool
) -> Iterator[tuple[Submission, dict | StartError]]:
    """Each submission with its verdicts, as they come; so many judges at once."""
    todo: queue.SimpleQueue = queue.SimpleQueue()
    done: queue.SimpleQueue = queue.SimpleQueue()
    for submission in wanted:
        todo.put(submission)
    judges = [Judge(seed, trusted) for _ in range(min(jobs, len(wanted)))]

    def work(judge: Judge) -> None:
        while True:
            try:
                submission = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((submission, judge.ask(submission)))
            except (StartError, OSError, ValueError) as problem:
                done.put((submission, StartError(str(problem))))

    workers = [
        threading.Thread(target=work, args=(one,), daemon=True) for one in judges
    ]
    try:
        for worker in workers:
            worker.start()
        for _ in wanted:
            yield done.get()
    finally:
        for judge in judges:
            judge.close()


# ------------------------------------------------------------------------- the command


def graded(submission: Submission, answer: dict, mark: str) -> Graded:
    """The verdicts with their points."""
    points = points_of(submission.lesson)
    parts = [
        one | {"points": round(points[one["name"]] * one["share"], 2)}
        for one in answer["verdicts"]
    ]
    return Graded(
        submission.learner,
        submission.lesson,
        parts,
        points,
        answer["problems"],
        mark,
        answer["seconds"],
    )


def record_path(folder: ClassFolder, learner: str, lesson: str) -> Path:
    """Where the verdicts of a submission are kept, as JSON."""
    return folder.path / "autograded" / learner / lesson / "graded.json"


def grade(
    folder: ClassFolder, wanted: list[Submission], jobs: int, trusted: bool
) -> list[Graded]:
    """Grade submissions and write all that there is of them: gradebook last but one,
    the record last, so that what was stopped halfway is graded again."""
    seed, found = folder.seed(), []
    with Grades(folder.gradebook) as grades:
        for submission, answer in judged(wanted, seed, jobs, trusted):
            if isinstance(answer, StartError):
                print(answer, file=sys.stderr)
                continue
            one = graded(submission, answer, submission.mark(seed))
            lay_graded(folder, one)
            grades.keep(one, submission.when)
            path = record_path(folder, one.learner, one.lesson)
            write_atomically(path, json.dumps(asdict(one), indent=1).encode())
            found.append(one)
            print(one.line(), flush=True)
    return found


def is_graded(folder: ClassFolder, submission: Submission, seed: str) -> bool:
    """Whether its grades are there, and of what is handed in now."""
    path = record_path(folder, submission.learner, submission.lesson)
    return read_json(path).get("mark") == submission.mark(seed)


def command(arguments: list[str] | None = None) -> None:
    """What the command does."""
    options = _options(arguments)
    why_not = cage.missing()
    if why_not and not options.trusted:
        raise StartError("Nothing is graded: " + cage.NOT_HERE.format(what=why_not))
    folder = chosen_folder(options)
    lessons = chosen_lessons(options.lesson, with_exercises())
    found = list(submissions(folder, lessons, options.learner))
    if not found:
        raise StartError(
            f"Nothing was handed in: {folder.submitted} has no notebook of these"
            " lessons. `make collect` takes them in."
        )
    seed = folder.seed()
    wanted = [one for one in found if options.again or not is_graded(folder, one, seed)]
    if len(wanted) < len(found):
        print(f"{len(found) - len(wanted)} submissions are graded already.")
    done = grade(folder, wanted, options.jobs, options.trusted)
    print(
        f"{len(done)} submissions graded; feedback is in {folder.path / 'feedback'}."
        f" `nbgrader export` in {folder.path} writes grades.csv."
    )
    if len(done) < len(wanted):
        raise StartError(f"{len(wanted) - len(done)} could not be graded; see above.")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make autograde", description=__doc__)
    parser.add_argument("--lesson", action="append", default=[], help="default: all")
    parser.add_argument("--learner", action="append", default=[], help="default: all")
    parser.add_argument("--again", action="store_true", help="also what is graded")
    parser.add_argument(
        "--trusted",
        action="store_true",
        help="run learners' code without a cage: it can do all that you can",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    add_folder_option(parser)
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs} must be 1 or more.")
    return options


if __name__ == "__main__":
    run(command)
