"""Latency: who is timed when, what the seconds of a clock become, and that nothing else
is disturbed. The clock is a made-up one: a test is no stopwatch."""

import gc
import itertools
import statistics
import time
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.measure import Race, Timing, latency

PICTURE = torch.zeros(1, 1, 28, 28)


@pytest.fixture
def busy(monkeypatch):
    """`busy(seconds)`: a model that takes so long by a made-up clock, and says so each
    time to `then`."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def model(seconds, then=lambda: None):
        def call(_):
            now[0] += seconds
            then()

        return call

    return model


def at_once(_):
    """A model that takes no time by any clock."""


def test_three_times_the_work_is_a_third_of_the_speed(busy):
    got = latency(
        {"quick": busy(0.004), "slow": busy(0.012), "double": busy(0.008)},
        PICTURE,
        rounds=7,
    )
    assert list(got) == ["quick", "slow", "double"]
    assert got["quick"].speedup == 1 and got["quick"].speedup_quartiles == (1, 1)
    assert got["slow"].speedup == pytest.approx(1 / 3)
    assert got["double"].speedup == pytest.approx(1 / 2)
    assert got["slow"].median == pytest.approx(0.012)
    for timing in got.values():
        assert timing.quartiles == pytest.approx((timing.median, timing.median))
        assert timing.speedup_quartiles == pytest.approx((timing.speedup,) * 2)
        assert (timing.batch, timing.threads) == (1, 1)


def test_models_take_turns_after_a_warm_up(busy):
    calls = []
    named = {name: busy(0.002, lambda name=name: calls.append(name)) for name in "abc"}
    latency(named, PICTURE, rounds=4, shortest=1e-3)
    rounds = ["".join(calls[i:][:3]) for i in range(-12, -1, 3)]
    assert all(sorted(each) == list("abc") for each in rounds)
    assert len(calls) > 12


@pytest.mark.parametrize(("seconds", "block"), [(2**-20, 1024), (2**-10, 1), (1.0, 1)])
def test_a_fast_model_is_called_often_enough(busy, seconds, block):
    calls = []
    named = {"model": busy(seconds, lambda: calls.append(1))}
    race = Race(named, PICTURE, shortest=2**-10)
    calls.clear()  # those of the warm-up
    for _ in range(3):
        race.round()
    assert len(calls) == 3 * block
    assert race.timings()["model"].median == seconds  # of one call


def test_medians_and_quartiles_by_hand():
    timing = Timing.of(
        "x", [2.0, 4.0, 8.0, 1.0, 2.0], [4.0, 4.0, 4.0, 4.0, 4.0], batch=8, threads=2
    )
    assert (timing.median, timing.quartiles) == (2.0, (2.0, 4.0))
    assert (timing.speedup, timing.speedup_quartiles) == (2.0, (1.0, 2.0))
    assert Timing.of("x", [2.0], [4.0], 1, 1).quartiles == (2.0, 2.0)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9), st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_the_relative_time_is_the_inverse_of_the_speedup(seconds, first):
    timing = Timing.of("x", seconds, [first] * len(seconds), 1, 1)
    assert timing.relative * timing.speedup == pytest.approx(1)
    low, high = timing.relative_quartiles
    assert low <= timing.relative * (1 + 1e-9) and timing.relative <= high * (1 + 1e-9)
    if len(seconds) % 4 == 1:  # the quartiles are then values of the list
        ordered = sorted(seconds)
        quarter = len(seconds) // 4
        assert timing.relative == pytest.approx(ordered[2 * quarter] / first)
        assert (low, high) == pytest.approx(
            (ordered[quarter] / first, ordered[3 * quarter] / first)
        )


def test_a_race_is_run_a_round_at_a_time(busy):
    race = Race({"quick": busy(0.002), "slow": busy(0.006)}, torch.zeros(3, 4))
    assert race.rounds == 0
    for rounds in range(1, 6):
        race.round()
        assert race.rounds == rounds
    got = race.timings()
    assert list(got) == ["quick", "slow"] and got["quick"].relative == 1
    assert got["slow"].relative == pytest.approx(3)
    assert (got["slow"].batch, got["slow"].threads) == (3, 1)
    race.round()
    assert race.rounds == 6 and race.timings()["slow"].relative == pytest.approx(3)


def orders(busy, count: int, rounds: int) -> list[list[int]]:
    """Who ran when, in each round of a race."""
    calls = []
    named = {
        str(i): busy(0.002, lambda name=i: calls.append(name)) for i in range(count)
    }
    race = Race(named, PICTURE, shortest=1e-3)
    calls.clear()
    for _ in range(rounds):
        race.round()
    return [calls[i * count :][:count] for i in range(rounds)]


@pytest.mark.parametrize("count", range(1, 14))
def test_each_stands_at_each_place_and_follows_each_other_equally_often(busy, count):
    rounds = count * (1 + count % 2)
    found = orders(busy, count, rounds)
    for place in zip(*found, strict=True):
        assert set(Counter(place).values()) == {rounds // count}
    follows = Counter(pair for each in found for pair in itertools.pairwise(each))
    assert len(follows) == count * (count - 1)
    assert len(set(follows.values())) <= 1


@pytest.mark.parametrize("count", [2, 3, 5, 13])
def test_copies_of_one_network_are_equal_where_place_and_neighbour_matter(
    monkeypatch, count
):
    # a made-up machine: the middle of a round is faster, and whoever comes after the
    # first model finds its caches cold
    now, calls = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def copy(name):
        def call(_):
            place = len(calls) % count
            slow = bool(place) and calls[-1] == 0
            now[0] += 1.0 - 0.1 * (0 < place < count - 1) + 0.2 * slow
            calls.append(name)

        return call

    race = Race({str(i): copy(i) for i in range(count)}, PICTURE)
    calls.clear()
    for _ in range(2 * count):
        race.round()
    means = [statistics.mean(seconds) for seconds in race.seconds.values()]
    # the first model never follows itself; the others are equal
    assert means[1:] == pytest.approx([means[1]] * (count - 1))


def test_between_two_rounds_everything_is_as_it_was(cnn, unchanged):
    threads = torch.get_num_threads()
    cnn.train()
    same = unchanged(cnn)
    seen = []
    race = Race(
        {"a": cnn, "b": lambda inputs: seen.append(torch.get_num_threads())},
        PICTURE,
        threads=threads + 1,
    )
    for _ in range(3):
        same()
        assert (
            torch.get_num_threads() == threads
            and gc.isenabled()
            and torch.is_grad_enabled()
        )
        race.round()
    assert set(seen) == {threads + 1}


@pytest.mark.parametrize(
    ("models_raced", "threads", "words"),
    [({}, 1, "needs a model"), ({"a": at_once}, 0, "threads=0")],
)
def test_a_race_that_cannot_be_is_refused(models_raced, threads, words):
    with pytest.raises(ValueError, match=words):
        Race(models_raced, PICTURE, threads=threads)


def test_what_a_timing_says():
    timing = Timing("dense", 1.5e-3, (1.4e-3, 1.7e-3), 2.0, (1.9, 2.1), 256, 2)
    assert (
        str(timing)
        == "dense: 1,500 us (quartiles 1,400-1,700), 2.00x the first (batch 256, 2"
        " threads)"
    )


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("collecting", [True, False])
def test_threads_modes_gradients_and_garbage_collection_are_restored(
    cnn, unchanged, fails, collecting
):
    seen = []

    def probe(inputs):
        seen.append(
            (
                torch.get_num_threads(),
                gc.isenabled(),
                torch.is_grad_enabled(),
                cnn.training,
            )
        )
        if fails:
            raise KeyError("a broken model")

    threads = torch.get_num_threads()
    cnn.train()
    cnn[1].eval()
    check = unchanged(cnn)
    (gc.enable if collecting else gc.disable)()
    try:
        if fails:
            with pytest.raises(ValueError, match="broken"):
                latency(
                    {"network": cnn, "probe": probe},
                    PICTURE,
                    threads=threads + 1,
                    rounds=2,
                )
        else:
            latency(
                {"network": cnn, "probe": probe}, PICTURE, threads=threads + 1, rounds=2
            )
        assert gc.isenabled() == collecting
    finally:
        gc.enable()
    assert set(seen) == {(threads + 1, False, False, False)}
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
    check()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(models={}), "model"),
        (dict(rounds=0), "rounds=0"),
        (dict(threads=0), "threads=0"),
        (dict(threads=-1), "threads=-1"),
    ],
)
def test_a_run_that_cannot_be_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        latency(**({"models": {"a": at_once}, "inputs": PICTURE} | arguments))
