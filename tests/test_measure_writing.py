"""Pieces a second, and the bytes of keys and values: counted, with their own oracle."""

import pytest
import torch
from torch import nn

from utils import measure, models
from utils.generation import Writer, noise
from utils.measure.timing import Timing

SMALL = dict(pieces=11, width=8, blocks=2, heads=3, head_width=4, neurons=8)


@pytest.mark.parametrize("heads", [1, 3])
def test_the_cache_is_what_a_writer_keeps(heads):
    network = models.gpt(**(SMALL | {"heads": heads}))
    network.blocks[0] = nn.Identity()
    kept = [part.does for part in Writer(network)._parts if hasattr(part.does, "keys")]
    assert len(kept) == 1
    counted = sum(each.keys.nbytes + each.values.nbytes for each in kept)
    assert measure.cache_bytes(network, 256) == counted
    assert measure.cache_bytes(network, 1) * 256 == counted
    assert measure.cache_bytes(network, 0) == 0
    with pytest.raises(ValueError, match="places=-1"):
        measure.cache_bytes(network, -1)


def test_a_rate_is_pieces_over_time_and_its_quartiles_are_in_order():
    timing = Timing.of("thin", [1.0, 2.0, 4.0], [4.0, 4.0, 4.0], batch=3, threads=1)
    rate = measure.Rate(timing, pieces=60)
    assert (rate.median, rate.quartiles) == (30.0, (20.0, 40.0))
    assert (rate.speedup, rate.speedup_quartiles) == (2.0, (1.5, 3.0))
    assert str(rate) == (
        "thin: 30 pieces a second (quartiles 20-40), 2.00x the first (1 thread)"
    )


class Noted:
    """Notes what it is asked for."""

    def __init__(self):
        self.seen = []

    def write(self, prompt, added):
        self.seen.append((len(prompt), len(added)))
        return torch.zeros(len(added), dtype=torch.int64)

    def read(self, text):
        self.seen.append(len(text))
        return text


class File(Noted, nn.Module):
    """Writes by itself, and is a module, too, as `deploy.OnnxWriter` is."""

    def __init__(self):
        nn.Module.__init__(self)
        Noted.__init__(self)


def test_networks_and_writers_write_the_same_number_of_pieces():
    network, noted, file = models.gpt(**SMALL), Noted(), File()
    given = {"plain": network, "writer": Writer(network), "noted": noted, "file": file}
    prompt, added = torch.tensor([1, 2, 3]), noise(5, 11, 0.7, seed=0)
    found = measure.writing_speed(given, prompt, added, rounds=2)
    assert set(noted.seen) == set(file.seen) == {(3, 5)}
    assert [rate.pieces for rate in found.values()] == [5, 5, 5, 5]
    assert [rate.timing.threads for rate in found.values()] == [1, 1, 1, 1]


def test_a_text_is_read_in_one_go_in_eval_mode():
    network, noted = models.gpt(**SMALL, dropout=0.9), Noted()
    seen = []
    network.register_forward_hook(
        lambda module, inputs, _: seen.append((module.training, inputs[0].shape))
    )
    found = measure.reading_speed(
        {"plain": network, "noted": noted}, torch.arange(7), rounds=2
    )
    assert set(seen) == {(False, (1, 7))} and set(noted.seen) == {7}
    assert network.training and found["plain"].pieces == 7


def test_no_round_and_no_network_are_refused():
    prompt, added = torch.tensor([1]), noise(2, 11, 0.0, seed=0)
    with pytest.raises(ValueError, match="rounds=0"):
        measure.writing_speed({"noted": Noted()}, prompt, added, rounds=0)
    with pytest.raises(ValueError, match="rounds=0"):
        measure.reading_speed({"noted": Noted()}, prompt, rounds=0)
    with pytest.raises(ValueError, match="needs a model"):
        measure.writing_speed({}, prompt, added)
