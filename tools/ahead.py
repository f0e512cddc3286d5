"""How long the runs that are still to be done will take, on a bar in the terminal."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from tools.planning import Job, Queue, planned

TICK = 1.0  # seconds


@dataclass
class Ahead:
    """Runs that are handed out one after the other, and the seconds that each is
    expected to take.

    What is done tells how much slower or faster this machine is than the one that
    recorded the seconds.
    """

    jobs: Sequence[Job]
    clock: Callable[[], float] = time.monotonic
    began: dict[int, float] = field(default_factory=dict)  # when, of those that go on
    finished: dict[int, float] = field(default_factory=dict)  # their seconds

    def __post_init__(self) -> None:
        self.queue = Queue(self.jobs)

    def next_for(self, worker: object) -> int | None:
        """The place of a worker's next run, which begins now; None: all have begun."""
        place = self.queue.next_for(worker)
        if place is not None:
            self.began[place] = self.clock()
        return place

    def done(self, place: int, seconds: float) -> None:
        """A run is done."""
        self.began.pop(place, None)
        self.finished[place] = seconds

    def left(self) -> float:
        """Seconds until all are done, if as many workers go on as are at work."""
        began, finished, pace = dict(self.began), dict(self.finished), self._pace()
        now = self.clock()
        own = {
            place: max(0.0, pace * self.jobs[place].seconds - now + then)
            for place, then in began.items()
        }
        waiting = [
            Job(pace * job.seconds)
            for place, job in enumerate(self.jobs)
            if place not in own and place not in finished
        ]
        jobs = [*map(Job, own.values()), *waiting]
        return planned(jobs, max(1, len(own))).seconds

    def _pace(self) -> float:
        """Seconds of now for a second of then."""
        finished = dict(self.finished)
        before = sum(self.jobs[place].seconds for place in finished)
        return sum(finished.values()) / before if before else 1.0

    def words(self) -> str:
        """How far it is."""
        done = f"{len(self.finished)} of {len(self.jobs)} runs"
        return f"{done}, {_about(self.left())} left"

    @contextlib.contextmanager
    def bar(self) -> Iterator[Callable[[str], None]]:
        """A bar in the terminal, if there is one, while this goes on; gives what prints
        a line above it."""
        bar = tqdm(
            total=len(self.jobs),
            bar_format="{desc} |{bar:20}| {elapsed}",
            disable=None if self.jobs else True,
            leave=False,
        )

        def say(line: str) -> None:
            with tqdm.external_write_mode():
                print(line, flush=True)

        with bar, self._ticking(bar):
            yield say

    @contextlib.contextmanager
    def _ticking(self, bar: tqdm) -> Iterator[None]:
        """The bar is drawn anew each second."""
        ended = threading.Event()

        def tick() -> None:
            while not bar.disable and not ended.wait(TICK):
                bar.n = len(self.finished)
                bar.set_description_str(self.words())

        thread = threading.Thread(target=tick, name="bar", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _about(seconds: float) -> str:
    """A time in the unit that fits it.

    >>> _about(50), _about(700), _about(9000)
    ('about 50 s', 'about 12 min', 'about 2.5 h')
    """
    if seconds < 100:
        return f"about {seconds:.0f} s"
    if seconds < 100 * 60:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
