"""Run the studies that take too long for a lab. `make results`; some only: `make
results ARGS=dynamic`.

Runs what is stale and nothing else: a recorded run stands while its identity, and what
the code makes of it on very few pictures, are what they were. Each run is written as
soon as it is done, so that an interrupted command goes on from there. Choices rest on
validation data; studies of the course's targets also look, once, at the test set.

Several workers share the runs: processes of this machine, or those of the Dask
scheduler at SCHEDULER=tls://host:port (see CONTRIBUTING). They find the same numbers as
one does.
"""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any, TypeVar

import torch

from tools.ahead import Ahead
from tools.cluster import (
    add_options,
    asked_scheduler,
    check_address,
    connected,
    count,
    results_of,
)
from tools.planning import Job
from tools.running import in_a_sentence
from utils import files, studies
from utils.studies import Run, Study, Trained

Record = dict[str, Any]
Item = TypeVar("Item")
Result = TypeVar("Result")

WORTH = 10.0  # seconds of small work that are not worth starting workers for
USUAL = 60.0  # seconds that a run is expected to take of which nothing is known


# ------------------------------------------------------------------------ who does it


@dataclass
class Crew:
    """This process, or workers, which are started when there is enough to do."""

    workers: int = 1
    threads: int = 1
    scheduler: str = ""
    trusted: bool = False
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    client: Any = None

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    @property
    def alone(self) -> bool:
        """Whether there is nobody but this process."""
        return self.workers == 1 and not self.scheduler

    def results_of(
        self, function: Callable[[Item], Result], items: Sequence[Item], ahead: Ahead
    ) -> Iterator[tuple[int, Result]]:
        """The place of each item, and what the function gives, as soon as it is there.

        Raises:
            StartError: as `cluster.results_of` and `cluster.connected`.
        """

        def hand_out(worker: str) -> tuple[int, Item] | None:
            place = ahead.next_for(worker)
            return None if place is None else (place, items[place])

        if self.alone or (len(items) < 2 and not self.scheduler):
            while job := hand_out("this process"):
                yield job[0], function(job[1])
        else:
            if self.client is None:
                self.client = self.stack.enter_context(
                    connected(self.workers, self.scheduler, trusted=self.trusted)
                )
            yield from results_of(self.client, function, hand_out, threads=self.threads)


# ------------------------------------------------------------------------ what is stale


@dataclass
class Book:
    """A study: its runs, and what its file holds of each."""

    study: Study
    due: list[Run]
    known: list[Record | None]
    probes: list[list[float]] = field(default_factory=list)

    @classmethod
    def of(cls, study: Study) -> "Book":
        due = list(study.runs())
        return cls(study, due, recorded(study, due))

    def stale(self) -> list[int]:
        """The places of the runs that are to be done."""
        return [
            place
            for place, run in enumerate(self.due)
            if not is_fresh(self.known[place], run, self.probes[place])
        ]

    def keep(self, place: int, found: Record) -> None:
        """Write what came of a run."""
        run, probe = self.due[place], self.probes[place]
        self.known[place] = found | {
            "identity": studies.identity(run),
            "probe": probe,
        }
        write(self.study, self.known)


def bring_up_to_date(chosen: Sequence[Study], crew: Crew | None = None) -> None:
    """Carry out the stale runs of studies; write a study's file after each.

    Raises:
        StartError: as `Crew.results_of`; what was done is written.
    """
    crew = crew or Crew()
    books = [Book.of(study) for study in chosen]
    for book, probes in zip(
        books, expected_of([book.due for book in books], crew), strict=True
    ):
        book.probes = probes
        write(book.study, book.known)
    todo = [(book, place) for book in books for place in book.stale()]
    ahead = Ahead([_job(book, place) for book, place in todo])
    runs = [book.due[place] for book, place in todo]
    with ahead.bar() as say:
        for number, found in crew.results_of(record, runs, ahead):
            book, place = todo[number]
            book.keep(place, found)
            ahead.done(number, found["seconds"])
            settings = dict(book.due[place].settings)
            say(f"{book.study.name}: {settings}: {result(found)}, {found['seconds']} s")


def _job(book: Book, place: int) -> Job:
    """What is known of a run before it is done: how long it took the last time."""
    run, before = book.due[place], book.known[place] or {}
    needs = frozenset(map(repr, starts_in((run.start, run.steps, run.pictures))))
    return Job(float(before.get("seconds", USUAL)), needs)


def starts_in(part: object) -> Iterator[Trained]:
    """All networks in a part of a run that are trained once for several runs."""
    if isinstance(part, Trained):
        yield part
    if isinstance(part, tuple):
        for each in part:
            yield from starts_in(each)
    elif is_dataclass(part) and not isinstance(part, type):
        yield from starts_in(tuple(vars(part).values()))


def result(found: Record) -> str:
    """What came of a run, in a word."""
    if "validation_accuracy" in found:
        return f"{found['validation_accuracy']:.2%}"
    if "validation_loss" in found:
        return f"{found['validation_loss']:.4f} nats"
    return "done"  # what it measures is neither


def recorded(study: Study, due: list[Run]) -> list[Record | None]:
    """What the file holds of each run, found by its settings, stale or not."""
    old = _runs_of(study)
    return [
        next((each for each in old if run.settings.items() <= each.items()), None)
        for run in due
    ]


def _runs_of(study: Study) -> list[Record]:
    """All that the file holds; a damaged one is put aside."""
    try:
        return files.read_sealed(study.path, "`git checkout -- lessons`.")["runs"]
    except files.MissingFileError:
        return []
    except files.DamagedFileError as error:
        kept = files.put_aside(study.path)
        print(f"{error} It is now {kept.name}, and all its runs are done again.")
        return []


def expected_of(dues: Sequence[list[Run]], crew: Crew) -> list[list[list[float]]]:
    """What today's code makes of each run of each list: the probe of its setting, by
    the first seed."""
    firsts = [_first_of_its_setting(due) for due in dues]
    # settings that differ in scale only share a probe
    probes = {key: run for first in firsts for key, run in first}
    numbers = dict(zip(probes, _probed(list(probes.values()), crew), strict=True))
    return [[numbers[key] for key, _ in first] for first in firsts]


def expected(due: list[Run]) -> list[list[float]]:
    """The same of one list, in this process."""
    return expected_of([due], Crew())[0]


def _first_of_its_setting(due: list[Run]) -> list[tuple[str, Run]]:
    """Of each run: the small one that is probed for it, and that one's identity."""
    settings: list[dict] = []
    small: list[tuple[str, Run]] = []
    for run in due:
        if run.setting not in settings:
            settings.append(run.setting)
            short = studies.small(run)
            small.append((studies.identity(short), short))
    return [small[settings.index(run.setting)] for run in due]


def _probed(runs: list[Run], crew: Crew) -> list[list[float]]:
    """The probe of each; by workers what is more than a few seconds of work."""
    began, numbers = time.monotonic(), []
    for run in runs:
        if not crew.alone and time.monotonic() - began > WORTH:
            break
        numbers.append(studies.probe(run))
    rest = runs[len(numbers) :]
    found = dict(crew.results_of(studies.probe, rest, Ahead([Job(1)] * len(rest))))
    return numbers + [found[place] for place in range(len(rest))]


def is_fresh(record: Record | None, run: Run, probe: list[float]) -> bool:
    """Whether a recorded run is what would come out today."""
    if record is None or record.get("identity") != studies.identity(run):
        return False
    return studies.agree(record.get("probe", []), probe)


def record(run: Run) -> Record:
    """Do it, and time it."""
    started = time.perf_counter()
    work = studies.carry_out(run, studies.material(run))
    return {
        **run.settings,
        **work.found,
        **({"history": work.history} if work.history else {}),
        "seconds": round(time.perf_counter() - started),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def write(study: Study, known: list[Record | None]) -> None:
    """Write what there is, in order."""
    content = {
        "about": study.about,
        "command": f"make results ARGS={study.name}",
        "runs": [each for each in known if each],
    }
    text = files.sealed(study.path.name, content)
    if not study.path.is_file() or study.path.read_bytes() != text:
        files.write_atomically(study.path, text)


def main(arguments: list[str] | None = None) -> None:
    """Bring all studies, or the named ones, up to date; what goes wrong in a known way
    is one sentence."""
    known = studies.find()
    options = _options(known, arguments)
    torch.set_num_threads(options.threads)
    scheduler = asked_scheduler()
    with in_a_sentence():
        if scheduler:
            check_address(scheduler, trusted=options.trusted_network)
        with Crew(
            options.workers, options.threads, scheduler, options.trusted_network
        ) as crew:
            bring_up_to_date([known[name] for name in options.names or known], crew)


def _options(
    known: dict[str, Study], arguments: list[str] | None
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="study",
        help=f"of: {', '.join(known)}; default: all",
    )
    add_options(parser)  # 1 worker: in this process
    parser.add_argument("--threads", type=count, default=1, help="of each worker")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(known):
        parser.error(
            f"no such study: {', '.join(sorted(unknown))}. Known: {', '.join(known)}."
        )
    return options


if __name__ == "__main__":
    # by its own name, so that workers find there what they are to do
    from tools.studies import main as command

    command()
