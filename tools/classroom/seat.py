"""A learner's place on a machine that others use too: `python seat.py PLACE ...` takes
the place (a `Place` as JSON; '' where a container is the place), lays the notebooks,
then becomes this Python with the other arguments.

As root, a place has a user id of its own, a group of processes with limits, and a view
of the disk in which neither other learners nor root's own folders occur. As anybody
else, it has only the limits that a process may set itself: see `hub.py`.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GROUPS = Path("/sys/fs/cgroup")
PARENT = "pruning-hub"  # the group of all places
SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")  # where everybody may write
SCRATCH_SIZE = "256m"
OWN_SOCKETS = "/tmp/jupyter"
LARGEST_FILE = 2 << 30  # bytes
NEW_VIEW = 0x20000  # CLONE_NEWNS
NO_SUID, NO_DEVICES, NO_PROGRAMS, BIND, ALL_BELOW, PRIVATE = (
    0x2,
    0x4,
    0x8,
    0x1000,
    0x4000,
    0x40000,
)
NO_NEW_RIGHTS = 38  # PR_SET_NO_NEW_PRIVS


@dataclass(frozen=True)
class Place:
    """What a learner has.

    home: their folder.  uid: their number, -1 for this process's own.  memory: bytes,
        all their processes together.  processes: how many, threads counted.  hub: the
        folder that nobody else's home is seen in.
    """

    name: str
    home: str
    hub: str
    uid: int
    memory: int
    processes: int

    def text(self) -> str:
        """As seat.py reads it."""
        return json.dumps(asdict(self))

    @property
    def group(self) -> str:
        """The name of its group of processes; two hubs may have learners of one
        name."""
        return f"{hashlib.sha256(self.hub.encode()).hexdigest()[:8]}-{self.name}"


# ------------------------------------------------------------------- group of processes


def group_files(place: Place, groups: Path = GROUPS) -> dict[Path, str]:
    """Files of the control groups, v2 or v1, and what is written there; empty where
    the system has none."""
    if (groups / "cgroup.controllers").is_file():
        top, own = groups / PARENT, groups / PARENT / place.group
        return {
            top / "cgroup.subtree_control": "+memory +pids +cpu",
            own / "memory.max": str(place.memory),
            own / "memory.swap.max": "0",
            own / "pids.max": str(place.processes),
        }
    v1 = {
        "memory/{}/memory.limit_in_bytes": place.memory,
        "pids/{}/pids.max": place.processes,
        "cpu/{}/cpu.shares": 1024,
    }
    return {
        groups / path.format(f"{PARENT}/{place.group}"): str(value)
        for path, value in v1.items()
        if (groups / path.split("/")[0]).is_dir()
    }


def join_groups(place: Place, groups: Path = GROUPS) -> bool:
    """Put this process into the place's groups. False where that is not possible; then
    nothing limits memory but what a process may set itself."""
    files = group_files(place, groups)
    try:
        for path, value in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(value)
        folders = {path.parent for path in files if path.parent.name == place.group}
        for folder in folders:
            (folder / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        return False
    return any(path.name.startswith("memory") for path in files)


def members(group: str, groups: Path = GROUPS) -> set[int]:
    """The processes of a place."""
    found = set()
    for listed in groups.glob(f"**/{PARENT}/{group}/cgroup.procs"):
        with contextlib.suppress(OSError):
            found |= set(map(int, listed.read_text().split()))
    return found


def end_all(uid: int, patience: float = 20) -> bool:
    """End every process of a user id, however fast they multiply; whether none is left.
    The system does it in one go for who has that very id, so a process takes it."""
    code = "import os, sys; u = int(sys.argv[1]); os.setresuid(u, u, u); os.kill(-1, 9)"
    end = time.monotonic() + patience
    while owned(uid) and time.monotonic() < end:
        subprocess.run([sys.executable, "-I", "-c", code, str(uid)], check=False)
    return not owned(uid)


def owned(uid: int) -> list[int]:
    """The processes of a user id that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == uid and (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def remove_groups(group: str, groups: Path = GROUPS, patience: float = 5) -> None:
    """Remove a place's groups, as soon as what ran in them has gone altogether."""
    end = time.monotonic() + patience
    folders = {each.parent for each in groups.glob(f"**/{PARENT}/{group}/cgroup.procs")}
    while folders and time.monotonic() < end:
        for folder in list(folders):
            with contextlib.suppress(OSError):
                folder.rmdir()
                folders.discard(folder)
                folder.parent.rmdir()  # the last one
        time.sleep(0.02 * bool(folders))


# ----------------------------------------------------------------------------- the view


def needed() -> list[Path]:
    """What a learner's Python reads: the course, its environment, Python itself."""
    prefixes = (sys.prefix, sys.base_prefix, sys.executable)
    real = [Path(each).resolve() for each in prefixes]
    return sorted({ROOT, real[0], real[1], real[2].parents[1]})


def covers(shown: Iterable[Path], hub: Path) -> list[Path]:
    """Folders to lay an empty one over: those that everybody writes to, the hub's, and
    the first on the way to each shown folder that the learner could not enter."""
    closed = [hub, *(Path(each) for each in SCRATCH if Path(each).is_dir())]
    for path in shown:
        way = [*reversed(path.parents)]
        closed += [each for each in way if not each.stat().st_mode & 0o001][:1]
    return sorted(set(closed))


def narrow(place: Place) -> bool:
    """Give this process a view of the disk of its own, in which folders that are not
    its business are empty, and of all processes only its own occur. False where the
    system does not let it, as in a container without that right.

    Raises:
        OSError: a part of it did not work.
    """
    os.umask(0o022)  # what leads to a shown folder can be passed
    home, hub = Path(place.home), Path(place.hub)
    shown = [*needed(), home]
    empty = covers(shown, hub)
    try:
        _checked(_libc().unshare(NEW_VIEW))
    except PermissionError:
        return False
    _mount("none", "/", "", ALL_BELOW | PRIVATE)
    handles = {path: os.open(path, os.O_PATH | os.O_DIRECTORY) for path in shown}
    for path in sorted({*empty, *shown}, key=lambda each: (len(each.parts), each)):
        hidden = any(each in path.parents for each in empty)
        if hidden:
            path.mkdir(parents=True, exist_ok=True)
        if path in empty:
            _lay_empty(path)
        elif hidden:
            _mount(f"/proc/self/fd/{handles[path]}", path, "", BIND)
    for handle in handles.values():
        os.close(handle)
    with contextlib.suppress(OSError):  # some containers keep theirs
        flags = NO_SUID | NO_DEVICES | NO_PROGRAMS
        _mount("proc", "/proc", "proc", flags, "hidepid=2")
    return True


def _lay_empty(path: Path) -> None:
    size, mode = (SCRATCH_SIZE, "1777") if str(path) in SCRATCH else ("1m", "755")
    flags = NO_SUID | NO_DEVICES
    _mount("tmpfs", path, "tmpfs", flags, f"size={size},mode={mode}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _mount(
    source: str, target: Path | str, kind: str, flags: int, data: str = ""
) -> None:
    texts = [os.fsencode(text) for text in (source, target, kind)]
    _checked(_libc().mount(*texts, ctypes.c_ulong(flags), os.fsencode(data)))


def _checked(code: int) -> None:
    if code:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# ------------------------------------------------------------------------------ limits


def limit(place: Place, grouped: bool) -> None:
    """The limits that the system keeps for each process, or for each user id."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, LARGEST_FILE)
    if place.uid >= 0:  # else it would count what else runs under this number
        _lower(resource.RLIMIT_NPROC, place.processes)
    if not grouped:  # of one process only, and what it asked for, not what it uses
        _lower(resource.RLIMIT_DATA, 2 * place.memory)


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def become_user(uid: int) -> None:
    """From now on, and for good, this process is of the user `uid` and of no group."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    _checked(_libc().prctl(NO_NEW_RIGHTS, 1, 0, 0, 0))


def take(place: Place) -> None:
    """Sit down: groups, view, limits, user id, folder; in this order, since each needs
    rights that the next ones take away."""
    root = os.geteuid() == 0
    if root and place.uid <= 0:
        sys.exit("seat.py: nobody's server runs as root: give the place a user id.")
    grouped = root and join_groups(place)
    if root and not narrow(place):
        said = "folders are kept apart by file permissions alone on this system"
        print(f"{place.name}: {said}.", file=sys.stderr)
    elif root:  # in a /tmp of one's own, kernels need no port that others reach
        os.environ["JUPYTER_RUNTIME_DIR"] = OWN_SOCKETS
    limit(place, grouped)
    if root:
        become_user(place.uid)
    os.umask(0o077)
    os.chdir(place.home)


def lay_workspace() -> None:
    """The notebooks, the pages and the explorer, as `make lab` lays them."""
    sys.path.insert(0, str(ROOT))
    from tools.start.workspace import lay_notebooks, lay_pages, workspace_folder

    workspace = workspace_folder()
    workspace.mkdir(parents=True, exist_ok=True)
    for line in lay_notebooks(ROOT / "notebooks", workspace):
        print(line)
    lay_notebooks(ROOT / "tools" / "start", workspace)  # the explorer
    lay_pages(ROOT / "lessons", workspace)


def main(arguments: list[str]) -> None:
    """Take the place, lay the workspace, become the server."""
    if arguments[0]:
        take(Place(**json.loads(arguments[0])))
    else:  # a container, or a system that has made the place already
        os.environ.setdefault("PRUNING_WORKSPACE", str(Path.home() / "workspace"))
    if "PRUNING_WORKSPACE" in os.environ:
        try:
            lay_workspace()
        except Exception as error:  # noqa: BLE001 - the learner's files open anyway
            print(f"The workspace was not laid: {error}", file=sys.stderr)
    sys.stdout.flush()
    command = [sys.executable, "-P", *arguments[1:]]
    if os.environ.get("JUPYTER_RUNTIME_DIR") == OWN_SOCKETS:
        command.append("--KernelManager.transport=ipc")
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main(sys.argv[1:])
