"""How the time of `make results` falls with workers: measured for one and two on short
runs, simulated for more from the seconds that the runs themselves recorded."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from tools import studies as tool
from tools.ahead import Ahead
from tools.bench.table import Row
from tools.planning import Job, grouped, planned
from utils import measure, studies
from utils.studies import Run

BOUND = 40.0  # recorded seconds of the runs that are really carried out
WORKERS = (1, 2, 8, 64)
NEVER = Job(0.0)


@dataclass(frozen=True)
class Known:
    """A run, where it is from, and what was recorded of its time."""

    study: str
    run: Run
    seconds: float

    @property
    def needs(self) -> tuple[str, ...]:
        """What it begins with that other runs begin with, too."""
        parts = (self.run.start, self.run.steps, self.run.pictures)
        return tuple(dict.fromkeys(map(repr, tool.starts_in(parts))))


def workers(_: int) -> Iterator[Row]:
    """What starting costs, what two workers gain, and what more would."""
    known = recorded()
    few = shortest(known, BOUND)
    starting, two = timed_with(few, workers=2)
    one = timed_with(few, workers=1)[1]
    yield Row("start two workers", [starting], remarks="until both are ready, once")
    yield Row(
        f"{len(few)} short runs, two workers",
        [two],
        "one process",
        [one],
        bound=[one / 2],
        remarks="measured, starting not counted; bound: half of one's",
    )
    yield from simulated(known, starting)


def recorded() -> list[Known]:
    """All runs of the course."""
    return [
        Known(study.name, run, float(found["seconds"]))
        for study in studies.find().values()
        for run, found in zip(
            study.runs(), tool.recorded(study, list(study.runs())), strict=True
        )
        if found is not None
    ]


def shortest(known: Sequence[Known], most: float) -> list[Run]:
    """Runs on pictures, the shortest first, of so many recorded seconds together."""
    chosen, total = [], 0.0
    for each in sorted(known, key=lambda each: each.seconds):
        total += max(each.seconds, 1.0)
        if total > most:
            break
        if not each.run.text and not each.needs:
            chosen.append(each.run)
    return chosen


def timed_with(runs: Sequence[Run], workers: int) -> tuple[float, float]:
    """Seconds until the workers are ready, and of the runs; one thread each."""
    warm = [runs[0]] * workers
    with measure.pinned(1), tool.Crew(workers) as crew:
        began = time.perf_counter()
        list(crew.results_of(studies.probe, warm, Ahead([NEVER] * len(warm))))
        ready = time.perf_counter()
        list(crew.results_of(tool.record, runs, Ahead([NEVER] * len(runs))))
        return ready - began, time.perf_counter() - ready


def simulated(known: Sequence[Known], starting: float) -> Iterator[Row]:
    """A row for each number of workers: no shorter than the longest run, or than all
    runs shared out evenly."""
    jobs, starts = as_jobs(known)
    longest = max(known, key=lambda each: each.seconds)
    total = sum(job.seconds for job in jobs) + sum(starts.values())
    one = planned(jobs, 1, starts)
    for number in WORKERS:
        wait = starting if number > 1 else 0.0
        plan = planned(jobs, number, starts, starting=wait)
        alone = planned(jobs, number, starts, starting=wait, near=False)
        together = planned(grouped(jobs, starts), number, starting=wait)
        limit = max(longest.seconds, total / number)
        limited = f"one run of {longest.study}" if limit > total / number else "the sum"
        yield Row(
            f"{len(jobs)} runs, {number} workers",
            [plan.seconds],
            "one, simulated",
            [one.seconds],
            bound=[limit],
            remarks=f"simulated; {plan.work / 3600:.1f} worker-hours;"
            f" {plan.made} starts made; limited by {limited}; the longest first alone"
            f" {alone.seconds:,.0f} s, a worker a start {together.seconds:,.0f} s",
        )


def as_jobs(known: Sequence[Known]) -> tuple[list[Job], dict[str, float]]:
    """Each run without what it shares, and the seconds of what is shared.

    The first run that has a start made it, so that its seconds hold it. How long that
    took is taken from how much longer it was than the median of those that found it
    made, the largest such of a study's starts: a busy machine hides it elsewhere.
    """
    sharing: dict[str, list[Known]] = defaultdict(list)
    for each in known:
        for name in each.needs:
            sharing[name].append(each)
    longer: dict[str, float] = defaultdict(float)
    for first, *others in sharing.values():
        extra = first.seconds - median([each.seconds for each in others] or [0])
        longer[first.study] = max(longer[first.study], extra)
    starts = {name: longer[each[0].study] for name, each in sharing.items()}
    return _without_starts(known, starts), starts


def _without_starts(known: Sequence[Known], starts: dict[str, float]) -> list[Job]:
    jobs, made = [], set()
    for each in known:
        made_here = set(each.needs) - made
        made |= made_here
        own = each.seconds - sum(starts[name] for name in made_here)
        jobs.append(Job(max(own, 0.0), frozenset(each.needs)))
    return jobs
