"""Which run is next, how long many workers take, and how long is left."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.ahead import Ahead
from tools.bench.studies import Known, as_jobs
from tools.planning import Job, Plan, Queue, grouped, planned
from utils.studies import Run, Trained, Untrained

SECONDS = st.integers(0, 50).map(float)
NAMES = st.frozensets(st.sampled_from("abc"), max_size=2)
JOBS = st.lists(st.builds(Job, SECONDS, NAMES), max_size=8)
STARTS = st.fixed_dictionaries(dict.fromkeys("abc", SECONDS))


def best(seconds: list[float], workers: int) -> float:
    """The shortest time of all ways to share the jobs out."""
    return min(
        max(
            sum(s for s, w in zip(seconds, ways, strict=True) if w == worker)
            for worker in range(workers)
        )
        for ways in itertools.product(range(workers), repeat=len(seconds))
    )


@given(seconds=st.lists(SECONDS, min_size=1, max_size=7), workers=st.integers(1, 3))
def test_the_longest_first_is_near_the_best_of_all_ways(seconds, workers):
    """Graham 1969: at most 4/3 - 1/3m of it; and never below what nobody can beat."""
    found = planned([Job(each) for each in seconds], workers).seconds
    shortest = best(seconds, workers)
    assert max(max(seconds), sum(seconds) / workers) <= shortest <= found
    assert found <= (4 / 3 - 1 / (3 * workers)) * shortest + 1e-9


@given(jobs=JOBS, starts=STARTS, workers=st.integers(1, 70), near=st.booleans())
def test_no_plan_is_below_its_bound(jobs, starts, workers, near):
    plan = planned(jobs, workers, starts, starting=2.0, near=near)
    if not jobs:
        assert plan == Plan(0.0, 0.0, 0)
        return
    shared = {name for job in jobs for name in job.needs}
    least = sum(job.seconds for job in jobs) + sum(starts[name] for name in shared)
    longest = max(job.seconds + sum(starts[n] for n in job.needs) for job in jobs)
    assert plan.seconds >= 2 + max(longest, least / workers) - 1e-9
    busy = min(workers, len(jobs))
    assert least + 2 * busy <= plan.work + 1e-9
    assert plan.seconds <= plan.work <= busy * plan.seconds + 1e-9
    assert len(shared) <= plan.made <= sum(len(job.needs) for job in jobs)
    if workers == 1:
        assert plan.made == len(shared) and plan.seconds == pytest.approx(2 + least)


@given(jobs=JOBS, workers=st.lists(st.integers(0, 3), min_size=8, max_size=8))
def test_each_job_is_given_once_whoever_asks(jobs, workers):
    queue = Queue(jobs)
    given_out = [queue.next_for(worker) for worker in workers]
    assert sorted(p for p in given_out if p is not None) == list(range(len(jobs)))
    assert queue.next_for(0) is None


def test_a_worker_goes_on_with_what_it_has_and_the_longest_is_first():
    a, b = frozenset("a"), frozenset("b")
    jobs = [Job(3, a), Job(9), Job(5, b), Job(2, a), Job(4, b), Job(1)]
    queue = Queue(jobs)
    asked = [(worker, queue.next_for(worker)) for worker in (0, 1, 0, 1, 0, 0, 1)]
    # 0: the longest; 1: the longest left; 0: 3 s of a, since b is begun; and so on
    assert asked == [(0, 1), (1, 2), (0, 0), (1, 4), (0, 3), (0, 5), (1, None)]
    alone = Queue(jobs, near=False)
    assert [alone.next_for(0) for _ in jobs] == [1, 2, 4, 0, 3, 5]


def test_a_start_costs_each_worker_that_makes_it():
    jobs = [Job(10, frozenset("a"))] * 2
    assert planned(jobs, 1, {"a": 5}) == Plan(25.0, 25.0, 1)
    assert planned(jobs, 2, {"a": 5}) == Plan(15.0, 30.0, 2)
    assert planned(jobs, 64, {"a": 5}, starting=1) == Plan(16.0, 32.0, 2)
    assert planned(grouped(jobs, {"a": 5}), 64) == Plan(25.0, 25.0, 0)
    with pytest.raises(ValueError, match="workers=0 must be 1 or more"):
        planned(jobs, 0)


@given(jobs=JOBS, starts=STARTS)
def test_jobs_that_share_anything_become_one(jobs, starts):
    groups = grouped(jobs, starts)
    shared = {name for job in jobs for name in job.needs}
    total = sum(job.seconds for job in jobs) + sum(starts[name] for name in shared)
    assert sum(job.seconds for job in groups) == pytest.approx(total)
    free = sum(not job.needs for job in jobs)
    assert free <= len(groups) <= free + len(shared)


def test_a_start_is_taken_out_of_the_run_that_made_it():
    start = Trained(Untrained("lenet300", 0), ())
    known = [
        Known("some", Run({"seed": seed}, start, ()), seconds)
        for seed, seconds in enumerate([30.0, 10.0, 12.0])
    ]
    known.append(Known("other", Run({"seed": 0}, Untrained("lenet300", 0), ()), 7.0))
    jobs, starts = as_jobs(known)
    assert starts == {repr(start): 19}  # 30 against the median of 10 and 12
    assert [job.seconds for job in jobs] == [11, 10, 12, 7]
    assert [bool(job.needs) for job in jobs] == [True, True, True, False]


# ------------------------------------------------------------------------ what is left


def test_the_time_left_goes_by_what_is_done_and_how_fast_it_went():
    now = 0.0
    ahead = Ahead([Job(100), Job(50), Job(50), Job(10)], clock=lambda: now)
    assert (
        ahead.words() == "0 of 4 runs, about 4 min left"
    )  # 210 s, one after the other
    assert [ahead.next_for("a"), ahead.next_for("b")] == [0, 1]
    assert ahead.left() == 110  # 100, and 10 after it; the other 50 + 50
    now = 20.0
    assert ahead.left() == 90
    now = 100.0  # it took twice as long as it was recorded
    ahead.done(1, 100.0)
    assert ahead.next_for("b") == 2
    assert ahead.left() == 120  # 100 of the first, and 100 then 20 of the second
    for place, seconds in ((0, 200.0), (2, 100.0), (3, 20.0)):
        ahead.done(place, seconds)
    assert ahead.words() == "4 of 4 runs, about 0 s left"


def test_a_bar_is_drawn_in_a_terminal_only(capsys):
    ahead = Ahead([Job(1)])
    with ahead.bar() as say:
        say("a line")
    assert capsys.readouterr() == ("a line\n", "")
