"""Work that several processes share: what they find, what happens when one of them
dies, who is let in, and that nobody is left behind.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from distributed import Client, LocalCluster, Security

from tools import cluster
from tools import studies as tool
from tools.cluster import WorkError, connected, results_of
from tools.start.files import StartError
from utils import studies
from utils.data import Data, Split
from utils.schedules import Cubic
from utils.studies import Run, Study, Train, Untrained, Work
from utils.training import Recipe

PROJECT = Path(__file__).parents[1]
LONG = 200  # seconds that anything here may take on a busy machine


@pytest.fixture(scope="module")
def client():
    """Two workers, for all tests."""
    with connected(2) as found:
        yield found


# --------------------------------------------------------------- what the workers do


def squared(number: int) -> tuple[int, int]:
    return number**2, torch.get_num_threads()


def refuses_three(number: int) -> int:
    if number == 3:
        raise ValueError("three is too many")
    return number


def dies(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Some:
    """A few training pictures."""

    def of(self, data: Data) -> Split:
        return data.train[:200]


@dataclass(frozen=True)
class Marks:
    """Leaves a file when a run, which is no probe, comes here."""

    folder: str
    name: str

    def carry_out(self, work: Work) -> None:
        if self._is_run(work):
            Path(self.folder, self.name).touch()

    @staticmethod
    def _is_run(work: Work) -> bool:
        return len(work.data.train.labels) > studies.SMALL


@dataclass(frozen=True)
class DiesOnce(Marks):
    """The first time a run is here, its process is killed."""

    def carry_out(self, work: Work) -> None:
        if self._is_run(work) and not Path(self.folder, self.name).exists():
            super().carry_out(work)
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Waits(Marks):
    """A run stays here until it may go on."""

    def carry_out(self, work: Work) -> None:
        super().carry_out(work)
        while self._is_run(work) and not Path(self.folder, "go on").exists():
            time.sleep(0.05)


def lenets(folder: Path, step: Marks, at: int = 1, name: str = "lenets") -> Study:
    """Four short trainings, of which one has that step."""

    def due():
        for seed in range(4):
            recipe = Recipe(epochs=2, batch_size=40)
            steps = (
                Train(recipe, seed, Cubic(0.9, updates=4)),
                Marks(str(folder), f"{seed}"),
            )
            first = (step,) if seed == at else ()
            yield Run(
                {"seed": seed}, Untrained("lenet300", seed), (*first, *steps), Some()
            )

    return Study(
        name, "Short ones.", due, folder / "00_some" / "results" / f"{name}.json"
    )


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where the studies of these tests lie, and their marks."""
    monkeypatch.setattr(studies, "LESSONS", tmp_path)
    return tmp_path


def found_by(name: str) -> list[dict]:
    """What is recorded, without what a machine or a busy minute makes of it."""
    return [
        {key: value for key, value in run.items() if key not in ("seconds", "identity")}
        for run in studies.runs(name)
    ]


# ----------------------------------------------------------------------- what they find


def test_each_result_comes_once_with_its_place(client):
    found = sorted(results_of(client, squared, [3, 1, 2, 5, 4], threads=2))
    assert found == [(0, (9, 2)), (1, (1, 2)), (2, (4, 2)), (3, (25, 2)), (4, (16, 2))]
    assert dict(results_of(client, squared, [7])) == {0: (49, 1)}
    assert list(results_of(client, squared, [])) == []


def test_an_item_may_depend_on_the_results_before(client):
    seen: list[int] = []

    def items():
        """Asked for only when a worker is free: never more than two ahead."""
        for number in range(6):
            assert number - len(seen) < 2
            yield number

    for _, (square, _) in results_of(client, squared, items()):
        seen.append(square)
    assert sorted(seen) == [0, 1, 4, 9, 16, 25]


def test_what_fails_is_told_after_all_others_are_done(client):
    found = []
    with pytest.raises(WorkError) as caught:
        for place, result in results_of(client, refuses_three, [3, 1, 2]):
            found.append((place, result))
    assert sorted(found) == [(1, 1), (2, 2)]
    assert str(caught.value) == "3 could not be done: ValueError: three is too many"


def test_work_goes_on_when_a_worker_is_killed_and_finds_the_same(client, folder):
    with tool.Crew(workers=2, client=client) as crew:
        tool.bring_up_to_date([lenets(folder, DiesOnce(str(folder), "died"))], crew)
    assert (folder / "died").exists()
    # the file is there now, and nobody dies
    alone = lenets(folder, DiesOnce(str(folder), "died"), name="alone")
    tool.bring_up_to_date([alone])
    assert found_by("lenets") == found_by("alone") and len(found_by("alone")) == 4
    assert len({run["validation_accuracy"] for run in found_by("alone")}) > 1


# --------------------------------------------------------------------- who is let in


def listening(process: psutil.Process) -> list[str]:
    connections = process.net_connections("inet")
    return [each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN]


def test_nobody_from_outside_reaches_the_workers(client):
    me = psutil.Process()
    everybody = [me, *me.children(recursive=True)]
    places = [ip for process in everybody for ip in listening(process)]
    assert len(places) >= 3 and set(places) == {"127.0.0.1"}


@pytest.mark.parametrize("keys", [None, "others"])
def test_another_user_of_the_machine_is_not_answered(client, keys):
    """Without keys, and with keys of one's own making."""
    address = client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    security = Security.temporary() if keys else None
    address = address if keys else address.replace("tls", "tcp")
    with pytest.raises(OSError):
        Client(address, timeout=2, security=security)


def test_a_worker_with_other_code_gets_no_work(client, monkeypatch, capsys):
    own = cluster.own_fingerprint()
    monkeypatch.setattr(cluster, "fingerprint", lambda: own | {"code": "new"})
    cluster.own_fingerprint.cache_clear()
    try:
        with pytest.raises(StartError, match="No worker is like this client"):
            list(results_of(client, squared, [1]))
    finally:
        cluster.own_fingerprint.cache_clear()
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(client.nthreads()) >= 1  # one may not be back yet
    assert f"gets no work: code {own['code']} instead of new." in told[0]


def test_a_worker_looks_again_before_it_works():
    own = cluster.own_fingerprint()
    assert cluster.checked(own, 1, squared, 3) == (9, 1)
    with pytest.raises(cluster.OtherWorkerError, match=r"data .* instead of old"):
        cluster.checked(own | {"data": "old"}, 1, squared, 3)


def test_a_fingerprint_is_of_all_that_a_run_depends_on(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "ROOT", tmp_path)
    monkeypatch.setenv("PRUNING_DATA", str(tmp_path / "data"))
    paths = {
        "code": ["utils/a.py", "utils/deep/b.py", "lessons/01/study.py", "tools/c.py"],
        "data": ["data/austen/pieces.json", "data/baselines/lenet300.safetensors"],
    }
    same = ["lessons/01/lab.py", "utils/a.txt", "data/explorer/x.bin", "utils/.b.py"]
    for path in itertools.chain(*paths.values(), same):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("one")
    before = cluster.fingerprint()
    assert before["PyTorch"] == torch.__version__
    for path in same:
        (tmp_path / path).write_text("two")
    assert cluster.fingerprint() == before
    for part, path in [(part, path) for part, those in paths.items() for path in those]:
        (tmp_path / path).write_text("two")
        after = cluster.fingerprint()
        assert cluster.difference(before, after).startswith(f"{part} "), path
        (tmp_path / path).write_text("one")
    (tmp_path / "utils/a.py").rename(tmp_path / "utils/z.py")
    assert cluster.fingerprint()["code"] != before["code"]


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nowhere",
        "tls://",
        "tcp://127.0.0.1",
        "http://127.0.0.1:1",
        "tcp://a:b",
        "tls://[:1",
    ],
)
def test_what_is_no_address_is_refused_in_a_sentence(address):
    with pytest.raises(StartError, match=r"is no address of a scheduler: give tls://"):
        cluster.check_address(address)


def test_an_open_line_needs_the_word_of_its_user():
    for address in ("tcp://127.0.0.1:8786", "tcp://[::1]:1", "tcp://localhost:1"):
        cluster.check_address(address)
    cluster.check_address("tls://10.0.0.1:8786")
    cluster.check_address("tcp://10.0.0.1:8786", trusted=True)
    for address in ("tcp://10.0.0.1:8786", "tcp://cluster:1", "tcp://0.0.0.0:1"):
        with pytest.raises(StartError, match=r"is open: .* --trusted-network"):
            cluster.check_address(address)


def test_a_scheduler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    with (
        pytest.raises(
            StartError, match=r"SCHEDULER=tcp://127\.0\.0\.1:9 does not answer"
        ),
        connected(1, "tcp://127.0.0.1:9"),
    ):
        pass


def elsewhere(threads: int = 1, workers: int = 1) -> LocalCluster:
    """A scheduler that somebody else started; its workers are threads of this
    process."""
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=threads,
        processes=False,
        protocol="tcp",
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
    )


def test_a_scheduler_at_an_address_is_used(monkeypatch, capsys):
    with elsewhere() as other:
        with connected(1, other.scheduler_address) as client:
            assert dict(results_of(client, squared, [2, 3])) == {0: (4, 1), 1: (9, 1)}
        assert len(other.workers) == 1  # they are not ours to stop
    with elsewhere(threads=2) as other, connected(1, other.scheduler_address) as client:
        with pytest.raises(StartError, match="No worker is like"):
            list(results_of(client, squared, [2]))
        assert "would do 2 things at once" in capsys.readouterr().err


def test_a_scheduler_that_goes_away_is_told(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 2)
    with elsewhere() as other, connected(1, other.scheduler_address) as client:

        def items():
            yield 1
            other.close()
            yield 2

        with pytest.raises(StartError, match=r"The scheduler is gone\. What was done"):
            list(results_of(client, squared, items()))


# -------------------------------------------------------------- nobody is left behind

SCRIPT = """
if __name__ == "__main__":
    import sys
    from pathlib import Path
    from tests.test_cluster import Waits, lenets
    from tools import studies as tool
    from utils import studies
    folder = Path(sys.argv[1])
    studies.LESSONS, studies.find = folder, lambda: {
        "lenets": lenets(folder, Waits(str(folder), "waits"))
    }
    tool.main(["--workers", "2"])
"""


@pytest.fixture
def command(folder):
    """`make results` with two workers, in a session of its own; one of its runs waits,
    and the others are done."""
    (folder / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(folder / "script.py"), str(folder)],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    family: list[psutil.Process] = []
    try:
        for _ in until("three runs are written", process):
            if len(written(folder)) == 3 and (folder / "waits").exists():
                break
        family += psutil.Process(process.pid).children(recursive=True)
        yield process, family
    finally:
        for each in [*family, process]:
            if each.is_running() if isinstance(each, psutil.Process) else True:
                each.kill()
        process.communicate()


def until(what: str, process: subprocess.Popen):
    end = time.monotonic() + LONG
    while time.monotonic() < end and process.poll() is None:
        yield
        time.sleep(0.1)
    process.kill()
    raise AssertionError(f"never: {what}\n{process.communicate()}")


def written(folder: Path) -> list[int]:
    """The seeds in the file, which is whole whenever it is read."""
    path = folder / "00_some" / "results" / "lenets.json"
    return (
        [run["seed"] for run in json.loads(path.read_text())["runs"]]
        if path.exists()
        else []
    )


def goes_on(folder: Path) -> None:
    """The next call does what is missing, and nothing else."""
    before = found_by("lenets")
    marks = {path.name: path.stat().st_mtime_ns for path in folder.glob("[0-9]")}
    (folder / "go on").touch()
    tool.bring_up_to_date([lenets(folder, Waits(str(folder), "waits"))])
    assert [run["seed"] for run in found_by("lenets")] == [0, 1, 2, 3]
    assert [run for run in found_by("lenets") if run["seed"] != 1] == before
    assert (
        marks.items()
        <= {p.name: p.stat().st_mtime_ns for p in folder.glob("[0-9]")}.items()
    )


def test_a_killed_client_leaves_no_worker_and_what_was_written(command, folder):
    process, family = command
    assert len(family) >= 2
    process.kill()
    _, alive = psutil.wait_procs(family, timeout=LONG)
    assert not alive
    assert written(folder) == [0, 2, 3]
    goes_on(folder)


def test_ctrl_c_leaves_a_whole_file_and_no_worker(command, folder):
    process, family = command
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    output, errors = process.communicate(timeout=LONG)
    assert process.returncode == 130
    assert errors.strip() == "Stopped. The same command goes on from here."
    assert output.count("lenets: ") == 3
    _, alive = psutil.wait_procs(family, timeout=LONG)
    assert not alive
    goes_on(folder)


HANGS = """
import os, signal, time
from tools import cluster
cluster.CLOSING = 0.5
with cluster._ended_by_ctrl_c():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    except KeyboardInterrupt:
        time.sleep(1000)  # as what waits for ever
"""


def test_ctrl_c_ends_what_never_closes():
    done = subprocess.run(
        [sys.executable, "-c", HANGS],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert done.returncode == 130
    assert done.stderr.strip() == "Stopped. The same command goes on from here."
