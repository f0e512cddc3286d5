"""Run the studies that take too long for a lab. `make results`; some only: `make
results ARGS=dynamic`.

Runs what is stale and nothing else: a recorded run stands while its identity, and what
the code makes of it on very few pictures, are what they were. Each run is written as
soon as it is done, so that an interrupted command goes on from there. Choices rest on
validation data; studies of the course's targets also look, once, at the test set.
"""

import argparse
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

import torch

from utils import files, studies
from utils.studies import Run, Study

Record = dict[str, Any]


def bring_up_to_date(study: Study, workers: int = 1) -> None:
    """Carry out the stale runs of a study; write its file after each."""
    due = list(study.runs())
    known, probes = recorded(study, due), expected(due)
    stale = [
        place
        for place, run in enumerate(due)
        if not is_fresh(known[place], run, probes[place])
    ]
    write(study, known)
    for place, found in carried_out([(place, due[place]) for place in stale], workers):
        run = due[place]
        known[place] = found | {
            "identity": studies.identity(run),
            "probe": probes[place],
        }
        write(study, known)
        print(
            f"{study.name}: {dict(run.settings)}: {result(found)},"
            f" {found['seconds']} s",
            flush=True,
        )


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


def expected(due: list[Run]) -> list[list[float]]:
    """What today's code makes of each run: the probe of its setting, by the first
    seed."""
    settings: list[dict] = []
    small: list[Run] = []
    for run in due:
        if run.setting not in settings:
            settings.append(run.setting)
            small.append(studies.small(run))
    # settings that differ in scale only share a probe
    probes = {studies.identity(run): run for run in small}
    numbers = {key: studies.probe(run) for key, run in probes.items()}
    firsts = [small[settings.index(run.setting)] for run in due]
    return [numbers[studies.identity(run)] for run in firsts]


def is_fresh(record: Record | None, run: Run, probe: list[float]) -> bool:
    """Whether a recorded run is what would come out today."""
    if record is None or record.get("identity") != studies.identity(run):
        return False
    return studies.agree(record.get("probe", []), probe)


def carried_out(
    todo: list[tuple[int, Run]], workers: int
) -> Iterator[tuple[int, Record]]:
    """What came of each run, with its place, as soon as it is there."""
    if workers == 1:
        yield from ((place, record(run)) for place, run in todo)
        return
    with ProcessPoolExecutor(
        workers, get_context("spawn"), torch.set_num_threads, (torch.get_num_threads(),)
    ) as pool:
        places = {pool.submit(record, run): place for place, run in todo}
        try:
            for future in as_completed(places):
                yield places[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


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
    """Bring all studies, or the named ones, up to date."""
    known = studies.find()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="study",
        help=f"of: {', '.join(known)}; default: all",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="runs at the same time"
    )
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(known):
        parser.error(
            f"no such study: {', '.join(sorted(unknown))}. Known: {', '.join(known)}."
        )
    torch.set_num_threads(options.threads)
    for name in options.names or known:
        bring_up_to_date(known[name], options.workers)


if __name__ == "__main__":
    main()
