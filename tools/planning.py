"""Which run is next, and how long several workers take over runs whose seconds are
known.

The longest first, with one exception. Some runs begin with the same network, which is
trained once in each worker that meets it: so a worker goes on with runs of a start that
it has, and leaves to the others what they have begun. `make bench ARGS=studies` prints
what that gains against the longest first alone, and against a worker a start.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

REMEMBERED = 4  # starts that a worker keeps, as `utils.studies` does


@dataclass(frozen=True)
class Job:
    """A run: its own seconds, and the names of what it begins with."""

    seconds: float
    needs: frozenset[str] = frozenset()


@dataclass
class Queue:
    """The jobs that wait, by their places in a list.

    near: whether a worker goes on with what it has begun; else the longest is next.
    """

    jobs: Sequence[Job]
    near: bool = True
    waiting: list[int] = field(init=False)  # the longest first
    has: dict[object, list[str]] = field(default_factory=dict)  # of each worker

    def __post_init__(self) -> None:
        self.waiting = sorted(
            range(len(self.jobs)), key=lambda place: -self.jobs[place].seconds
        )

    def next_for(self, worker: object) -> int | None:
        """The place of a worker's next job, which waits no longer; None: all are
        given."""
        if not self.waiting:
            return None
        place = self._best(worker) if self.near else self.waiting[0]
        self.waiting.remove(place)
        own = self.has.setdefault(worker, [])
        own += self.new_to(worker, place)
        del own[:-REMEMBERED]
        return place

    def new_to(self, worker: object, place: int) -> list[str]:
        """What this worker would have to make first."""
        has = self.has.get(worker, [])
        return sorted(self.jobs[place].needs.difference(has))

    def _best(self, worker: object) -> int:
        anybody = {name for names in self.has.values() for name in names}
        own = self.has.get(worker, [])
        going_on = (p for p in self.waiting if self.jobs[p].needs.intersection(own))
        untouched = (p for p in self.waiting if not self.jobs[p].needs & anybody)
        return next(going_on, next(untouched, self.waiting[0]))


@dataclass(frozen=True)
class Plan:
    """What a list of jobs takes.

    seconds: until the last one is done.  work: seconds that workers are there for.
    made: how often a start is made.
    """

    seconds: float
    work: float
    made: int


def planned(
    jobs: Sequence[Job],
    workers: int,
    starts: Mapping[str, float] | None = None,
    *,
    starting: float = 0.0,
    near: bool = True,
) -> Plan:
    """What so many workers take.

    Args:
        starts: seconds that it takes to make what jobs need; names as there.
        starting: seconds until a worker is ready for its first job.
    Raises:
        ValueError: there is no worker.

    >>> planned([Job(1), Job(3), Job(2)], workers=2)
    Plan(seconds=3.0, work=6.0, made=0)
    """
    if workers < 1:
        raise ValueError(f"workers={workers} must be 1 or more.")
    queue, starts = Queue(jobs, near), starts or {}
    free = [(starting, worker) for worker in range(min(workers, len(jobs)))]
    ends: list[float] = []
    made = 0
    while free:
        now, worker = heapq.heappop(free)
        new = {place: queue.new_to(worker, place) for place in queue.waiting}
        place = queue.next_for(worker)
        if place is None:
            ends.append(now)
            continue
        made += len(new[place])
        took = jobs[place].seconds + sum(starts[name] for name in new[place])
        heapq.heappush(free, (now + took, worker))
    return Plan(max(ends, default=0.0), sum(ends), made)


def grouped(jobs: Iterable[Job], starts: Mapping[str, float]) -> list[Job]:
    """The same jobs, with all that share a start, or share one with one of these, in
    one: so each start is made once, and one worker has all of them to do."""
    groups: list[tuple[float, frozenset[str]]] = []
    for job in jobs:
        seconds, needs = job.seconds, job.needs
        apart = []
        for other, names in groups:
            if names & needs:
                seconds, needs = seconds + other, needs | names
            else:
                apart.append((other, names))
        groups = [*apart, (seconds, needs)]
    return [Job(own + sum(starts[name] for name in names)) for own, names in groups]
