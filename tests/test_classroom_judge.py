"""A learner's functions: found in notebooks, run in a cage, judged outside it."""

import ast
import copy
import os
import socket
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tools.bench import grading
from tools.classroom import cage, judge, reading
from tools.classroom.cage import Escaped, Limits
from tools.classroom.plain import Packer, Unpacker
from utils import exercises
from utils.exercises import find, lesson_exercises, listed
from utils.schedules import Cubic

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or bool(cage.missing()), reason="no cage here"
)
JOB = {"trusted": False, "seed": "a"}
FEW = {"seconds": 10.0, "memory": 1_000_000_000}


# -------------------------------------------------------------------------- to find it

CELLS = [
    "import torch\nfrom torch.nn import functional as F\n%matplotlib inline",
    "!ls\nK = 3",
    "def helper(x):\n    return x * K",
    'def f(a):\n    """Doc."""\n    ...',
    "f = check(f)",
    "raise SystemExit",
    "for mask in 1 / 0: pass",
    "def f(a):\n    mask = F.relu(a)\n    return helper(mask) + g(a)",
    "def (",
    "x = input()",
    'def f(a):\n    """A copy of the stub."""\n    ...',
]


def test_only_what_an_answer_needs_is_taken_out_of_the_cells():
    read = reading.read([CELLS], ["f"], {"f", "g"})
    found = read["found"]["f"]
    assert found["state"] == "written"
    assert found["parts"] == [
        "from torch.nn import functional as F",
        "K = 3",
        "def helper(x):\n    return x * K",
        "def f(a):\n    mask = F.relu(a)\n    return helper(mask) + g(a)",
    ]
    assert found["shown"].startswith("def f(a):\n    mask")
    [problem] = read["problems"]
    assert problem.startswith("'def (' is no Python")
    scope = {"g": lambda a: a}
    function = reading.define(found["parts"], scope, "f")
    assert function(torch.ones(1)) == 4


@pytest.mark.parametrize(
    ("cells", "state"),
    [
        ([], "missing"),
        (["def f(a):\n    ..."], "untouched"),
        (["def f(a):\n    raise NotImplementedError()"], "untouched"),
        (["def f(a):\n    'doc'\n    pass"], "untouched"),
        (["f = check(f)"], "missing"),
        (["f = lambda a: a"], "written"),
        (["@check\ndef f(a):\n    return a"], "written"),
    ],
)
def test_what_is_an_answer(cells, state):
    assert reading.read([cells], ["f"], set())["found"]["f"]["state"] == state


def test_the_assignments_notebook_counts_before_the_labs():
    lab, own = ["def f(a):\n    return 1"], ["def f(a):\n    return 2"]
    stub = ["def f(a):\n    ..."]
    for notebooks, value in (([lab, own], 2), ([lab, stub], 1), ([stub, own], 2)):
        parts = reading.read(notebooks, ["f"], set())["found"]["f"]["parts"]
        assert reading.define(parts, {}, "f")(0) == value


def test_a_choice_is_the_last_that_was_made():
    cells = ["a = 2", "my_choice = ...", "my_choice = {'x': a}", "my_choice = ("]
    found = reading.read([cells, ["my_choice = (\n    ...\n)"]], [], set())["found"]
    assert found["my_choice"]["parts"] == ["a = 2", "my_choice = {'x': a}"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_any_json_is_read_as_a_notebook_of_no_harm(content):
    for found in (content, {"cells": content}, {"cells": [content]}):
        reading.read([reading.code_cells(found)], ["f"], set())


# ----------------------------------------------------------------------------- the cage


def told(work) -> str:
    """What happens to it in the cage."""

    def inside():
        try:
            return repr(work())
        except BaseException as error:
            return f"{type(error).__name__}: {error}"

    return cage.run(inside, Limits(**FEW))


# what would do no harm outside the cage, either; `file` is somebody else's
DENIED = {
    "fork": lambda file: os.fork() or os._exit(1),
    "program": lambda file: os.execv(sys.executable, ["python", "-c", ""]),
    "socket": lambda file: socket.socket(),
    "kill": lambda file: os.kill(os.getppid(), 0),
    "limits": lambda file: __import__("resource").prlimit(os.getppid(), 7),
    "delete": lambda file: file.unlink(),
    "overwrite": lambda file: file.write_text(""),
    "rights": lambda file: file.chmod(0o600),
    "time": lambda file: os.utime(file),
    "read": lambda file: file.read_text(),
    "list": lambda file: list(file.parent.iterdir()),
    "rename": lambda file: file.rename(file.with_name("stolen")),
    "passwords": lambda file: Path("/etc/passwd").read_text(),
    "memory of others": lambda file: Path(f"/proc/{os.getppid()}/maps").read_bytes(),
}


@pytest.mark.parametrize("work", DENIED.values(), ids=DENIED)
def test_what_is_not_on_the_list_is_denied_by_the_kernel(work, tmp_path):
    file = tmp_path / "mine"
    file.write_text("mine")
    assert told(lambda: work(file)).startswith("PermissionError")
    assert file.read_text() == "mine"


def test_its_own_folder_is_empty_and_its_own(tmp_path):
    assert told(lambda: [*Path().iterdir()]) == "[]"
    assert told(lambda: Path("mine").write_text("abc")) == "3"
    large = told(lambda: Path("mine").write_bytes(bytes(80_000_000)))
    assert large.startswith("OSError: [Errno 27]")
    cage.run(lambda: Path("kept").write_text("a"), Limits(**FEW), tmp_path)
    assert (tmp_path / "kept").read_text() == "a"


def test_memory_and_time_end():
    assert "memory" in told(lambda: torch.zeros(30_000_000_000))
    assert told(lambda: bytearray(5_000_000_000)).startswith("MemoryError")

    def endless():
        while True:
            with __import__("contextlib").suppress(BaseException):
                while True:
                    pass

    with pytest.raises(Escaped, match=r"it has not ended after 0\.5 s"):
        cage.run(endless, Limits(0.5))


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (lambda: os._exit(0), "ended at once .code 0"),
        (lambda: os._exit(3), "ended at once .code 3"),
        (lambda: __import__("ctypes").string_at(0), "SIGSEGV"),
        (lambda: os.closerange(0, 300), "gave nothing back"),
        (lambda: "x" * 40_000_000, "more than 30 MB"),
        (lambda: object(), "gave nothing back"),
    ],
)
def test_a_process_that_says_nothing_is_said(work, said):
    with pytest.raises(Escaped, match=said):
        cage.run(work, Limits(30.0))


def test_threads_and_sums_work_in_it():
    def work():
        import threading

        done = []
        thread = threading.Thread(target=lambda: done.append(1))
        thread.start()
        thread.join()
        return [*done, torch.ones(100, 100).mm(torch.ones(100, 100)).sum().item()]

    assert cage.run(work, Limits(30.0)) == [1, 1_000_000]


# --------------------------------------------------------------------------- plain data

PLAIN = [
    None,
    True,
    3,
    0.5,
    float("inf"),
    "text",
    [1, (2, "a"), {"b": [0.1]}],
    {1: 2, "a": None},
    torch.arange(6).view(2, 3),
    torch.tensor(1.5),
    torch.zeros(0, 3),
    torch.tensor([True, False]),
    torch.ones(2, dtype=torch.bfloat16),
    np.arange(3.0),
    np.float32(2),
    Path("a/b"),
    Cubic(0.9),
]


@pytest.mark.parametrize("value", PLAIN, ids=map(repr, PLAIN))
def test_plain_data_crosses(value):
    got = Unpacker(()).unpack(Packer(()).pack(value))
    assert type(got) is type(value)
    if isinstance(value, torch.Tensor):
        assert got.dtype == value.dtype and torch.equal(got, value)
    else:
        assert (
            np.array_equal(got, value)
            if isinstance(value, np.ndarray)
            else (got == value)
        )


def test_what_is_no_plain_data_is_known_by_its_name_only():
    class Evil:
        def __reduce__(self):
            return os.system, ("echo bad",)

    got = Unpacker(()).unpack(Packer(()).pack([Evil(), print, {1, 2}]))
    assert [type(one).__name__ for one in got] == [
        "Evil",
        "builtin_function_or_method",
        "set",
    ]


def test_changes_gradients_and_shared_memory_cross():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    layer, given = nn.Linear(2, 2), [torch.zeros(2)]
    arguments = (weight, layer, given)
    there = copy.deepcopy(arguments)
    packer = Packer(there)
    loss = (there[0] * 3).sum()
    there[2][0].add_(5)
    there[1].weight.data.fill_(7)
    packed = packer.pack((loss, there[1], there[0].detach()))
    left = [packer.left(one) for one in there]
    taker = Unpacker(arguments)
    for one, after in zip(arguments, left, strict=True):
        taker.put_back(one, after)
    got, same, shared = taker.unpack(packed)
    assert same is layer and (layer.weight == 7).all() and given[0].tolist() == [5, 5]
    assert shared.data_ptr() == weight.data_ptr()
    [gradient] = torch.autograd.grad(got, weight)
    assert gradient.tolist() == [3, 3]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["kind", "parts", "data", "shape", "dtype", "number"]),
                inner
                | st.sampled_from(["tensor", "list", "module", "dataclass", "given"]),
            )
        ),
        max_leaves=15,
    )
)
def test_whatever_is_sent_gives_a_value_or_a_valueerror(packed):
    arguments = (torch.zeros(2), [1], {"a": 1})
    taker = Unpacker(arguments)
    try:
        taker.unpack(packed)
        for one in arguments:
            taker.put_back(one, packed)
    except ValueError:
        pass


# ---------------------------------------------------------------------------- to judge


def verdict(name: str, source: str) -> dict:
    """The verdict on an answer that is one function."""
    found = reading.read([[source]], [name], set(listed()))["found"][name]
    return judge.judge_exercise(name, found, listed()[name], JOB)


# a training in it, of some 20 s
QUICK = [name for name in listed() if name != "my_pipeline"]


@pytest.mark.parametrize("name", QUICK)
def test_a_reference_has_all_points_by_way_of_the_cage(name, monkeypatch):
    monkeypatch.setattr(judge, "seconds_for", lambda name: find(name).seconds)
    source = next(iter(find(name).also_right.values()))
    found = verdict(name, textwrap.dedent(source))
    assert found["share"] == 1, found["said"]


class Here(judge.Away):
    """The function in this process, but for the data, which cross as from a cage."""

    def __init__(self, name, function):
        super().__init__(name, [], 100, False, listed()[name])
        self.own = function

    def call(self, given):
        there = copy.deepcopy(given)
        for old, new in zip(given, there, strict=True):
            if isinstance(old, torch.Tensor) and old.grad is not None:
                new.grad = old.grad.clone()
        packer = Packer(there)
        try:
            got = self.own(*there)
            answer = {
                "got": packer.pack(got),
                "left": [packer.left(one) for one in there],
            }
        except Exception as error:
            answer = {"stopped": [type(error).__name__, str(error)]}
        return self._taken(given, answer)


MISTAKES = {
    f"{name}: {reason}"[:70] + f" ({number})": (name, reason, function)
    for name in QUICK
    for number, (reason, function) in enumerate(find(name).known_mistakes())
}


@pytest.mark.parametrize(
    ("name", "reason", "function"), MISTAKES.values(), ids=MISTAKES
)
def test_each_mistake_is_told_its_own_reason(name, reason, function):
    exercise = find(name)
    away = Here(name, function)
    found = judge.judge(exercise, away, "a")
    assert found["share"] == 0
    told = [each for each in exercise.mistakes if each in found["said"]]
    assert told and max(told, key=len) == reason, found["said"]


@pytest.mark.parametrize("lesson", sorted(set(listed().values())))
def test_a_stub_has_no_points(lesson):
    for name in lesson_exercises(lesson):
        found = verdict(name, f"def {name}(*arguments):\n    'Doc.'\n    ...")
        assert (found["share"], found["said"]) == (0, f"{name}: not written yet.")


HOSTILE = {
    "exit": ("import os\n    os._exit(0)", "its process ended at once (code 0)"),
    "system exit": ("raise SystemExit(0)", "stopped with SystemExit"),
    "interrupt": ("raise KeyboardInterrupt", "stopped with KeyboardInterrupt"),
    "fork": ("import os\n    os.fork()", "PermissionError: [Errno 1]"),
    "memory": ("return bytearray(30_000_000_000)", "stopped with MemoryError"),
    "input": ("return input()", "stopped with EOFError"),
    "printing": ("print('x' * 10_000_000)\n    return 1", "it returns 1; it must be"),
    "torch": (
        "torch.equal = torch.allclose = lambda *a, **k: True\n    return 1",
        "it returns 1; it must be",
    ),
    "check": (
        "import utils.exercises as e\n    e.Exercise.test = lambda *a: None\n"
        "    e.close = e.fits = lambda *a: True\n    return 1",
        "it returns 1; it must be",
    ),
    "frames": (
        "import gc\n    for o in gc.get_objects():\n"
        "        if type(o).__name__ == 'Away': o.left = 1e9\n    return 1",
        "it returns 1; it must be",
    ),
    "own class": (
        "class A(int):\n        __eq__ = lambda *a: True\n"
        "        __hash__ = int.__hash__\n    return A(1)",
        "it returns",
    ),
    "pipe": (
        "import os, json\n    for fd in range(3, 64):\n        try:\n"
        '            os.write(fd, b\'{"share": 1.0, "got": 9204, "left": [0, 0]}\')\n'
        "        except OSError: pass\n    os._exit(0)",
        "",
    ),
}


@pytest.mark.parametrize(("body", "said"), HOSTILE.values(), ids=HOSTILE)
def test_what_a_hostile_answer_does_costs_its_own_points(body, said):
    assert verdict("csr_bytes", f"def csr_bytes(rows, kept):\n    {body}")["share"] == 0
    found = verdict("csr_bytes", f"def csr_bytes(rows, kept):\n    {body}")
    assert said in found["said"]
    right = textwrap.dedent(next(iter(find("csr_bytes").also_right.values())))
    assert verdict("csr_bytes", right)["share"] == 1


def test_an_endless_answer_is_told_so(monkeypatch):
    monkeypatch.setattr(judge, "seconds_for", lambda _: 0.5)
    found = verdict("csr_bytes", "def csr_bytes(a, b):\n    while True: pass")
    assert "has not ended after 0.5 s. Is there a loop" in found["said"]


def test_an_answer_may_use_another_exercises():
    source = (
        "def csr_bytes(rows, kept):\n    magnitude_mask\n    return 8*kept+4*rows+4"
    )
    assert verdict("csr_bytes", source)["share"] == 1


TASK = "11_generalization"


@pytest.mark.parametrize(
    ("choice", "share", "said"),
    [
        ("{'Bag': 1, 'Nonsense': 2}", 0, "Nonsense"),
        ("1 / 0", 0, "ZeroDivisionError"),
        ("__import__('os')._exit(0)", 0, "ended at once"),
        (f"exercises.load({TASK!r}, 'task').TASK.reference", 1, "goals are met"),
    ],
)
def test_a_choice_is_measured(choice, share, said):
    cells = ["from utils import exercises", f"my_choice = {choice}"]
    found = reading.read([cells], [], set())["found"]["my_choice"]
    judged = judge.judge_task(TASK, found, JOB)
    assert judged["share"] == share and said in judged["said"]


def test_a_notebook_that_cannot_be_read_is_a_problem_and_no_more(tmp_path):
    bad, good = tmp_path / "bad.ipynb", tmp_path / "good.ipynb"
    bad.write_text("{")
    name = "largest_safe_sparsity"
    cell = {"cell_type": "code", "source": grading.solutions("00_start_here")[name]}
    good.write_text(__import__("json").dumps({"cells": [cell]}))
    job = JOB | {"lesson": "00_start_here", "notebooks": [str(bad), str(good)]}
    found = judge.submission(job)
    assert [one["share"] for one in found["verdicts"]] == [1]
    assert "damaged" in found["problems"][0]


def test_every_lesson_has_a_solution_of_its_own_for_the_teachers_version():
    for name in listed():
        assert ast.parse(textwrap.dedent(next(iter(find(name).also_right.values()))))
    assert exercises.find("csr_bytes")
