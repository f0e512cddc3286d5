"""`make hub`: JupyterHub on this machine, for trying out what a class would have.

    make hub                              three learners
    make hub ARGS="ada ben --memory 2"    these two, 2 GB each
    make hub ARGS=--count=30              learner01 to learner30

Each learner gets a password of their own, the notebooks in a folder of their own, and
the explorer as a page without code. It listens on this machine only, and says so when
asked for more: deploy/ has what a real installation takes.

Started as root, each learner's server runs under a user id of its own, with limits of
memory and processes, and sees neither the other learners' folders nor root's. Started
as anybody else, all servers run under that one user id: enough to try it, not enough
to keep learners apart.
"""

import argparse
import contextlib
import hashlib
import ipaddress
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import BinaryIO

from tools.running import run
from tools.start.environment import environment
from tools.start.files import ROOT, StartError, read_json, try_lock
from tools.start.serving import become, choose_port, is_free
from utils.files import folder_named, write_atomically

NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
MOST = 300  # learners
FIRST_UID = 1_000_001
FIRST_PORT = 8000
TRIAL = 200  # seconds
WHAT_IT_USES = "import jupyterhub, utils.data"
HERE_ONLY = (
    "make hub is for trying out and listens on this machine alone, so --ip {ip} is"
    " refused: deploy/README.md has what a real installation takes."
)


@dataclass
class Hub:
    """What is written down in the hub's folder, so that a killed hub comes back as it
    was. learners: name -> password and uid (-1: the hub's own)."""

    folder: str
    port: int = 0
    hub_port: int = 0
    proxy_port: int = 0
    memory: int = 2_000_000_000  # bytes a learner
    processes: int = 600  # a learner, threads counted
    threads: int = 1  # of torch, a learner
    debug: bool = False
    learners: dict[str, dict] = field(default_factory=dict)


def main(arguments: list[str] | None = None) -> int:
    """Serve; what goes wrong in a known way is one sentence."""
    options = read_options(arguments)
    os.umask(0o077)
    return run(lambda: serve(options))


def serve(options: argparse.Namespace) -> int:
    """Write down what is asked, then become JupyterHub."""
    if os.name == "nt":
        raise StartError("JupyterHub does not run on Windows: use WSL or Linux.")
    check_address(options.ip)
    folder = make_folder(options.folder)
    with hold(folder):
        hub = plan(options, folder)
        share_pictures()
        if os.geteuid() == 0:
            try_a_place(hub)
        path = keep(hub)
        print(welcome(hub), flush=True)
        os.chdir(ROOT)
        return become(command(), environment(ROOT) | {"PRUNING_HUB": str(path)})


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="make hub",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("learners", nargs="*", metavar="name", help="of a learner")
    parser.add_argument("--count", type=int, default=3, help="learner01 ... instead")
    parser.add_argument("--port", default="", help="default: a free one")
    parser.add_argument("--ip", default="127.0.0.1", help=argparse.SUPPRESS)
    parser.add_argument("--memory", type=float, default=2.0, help="GB a learner")
    parser.add_argument(
        "--processes", type=int, default=600, help="a learner, threads counted"
    )
    parser.add_argument("--threads", type=int, default=1, help="a learner; default 1")
    parser.add_argument(
        "--folder", default=str(ROOT / "hub"), help="of the hub; default: hub/"
    )
    parser.add_argument("--debug", action="store_true", help="say all that happens")
    return parser.parse_args(arguments)


def check_address(ip: str) -> None:
    """Refuse what is not this machine."""
    local = ip == "localhost"
    with contextlib.suppress(ValueError):
        local = local or ipaddress.ip_address(ip).is_loopback
    if not local:
        raise StartError(HERE_ONLY.format(ip=ip))


def make_folder(named: str) -> Path:
    """The hub's folder; others may pass through it, and read nothing."""
    folder = folder_named("--folder", named)
    for path in (folder, folder / "learners"):
        path.mkdir(parents=True, exist_ok=True)
        if path.stat().st_uid != os.geteuid():
            raise StartError(f"{path} is somebody else's: name another with --folder.")
        path.chmod(0o711)
    return folder


def hold(folder: Path) -> BinaryIO:
    """Note that a hub runs in this folder, as long as the returned file is open, in
    this process or in the one it becomes."""
    file = open(folder / "lock", "a+b", buffering=0)  # noqa: SIM115 - kept open
    if not try_lock(file):
        file.close()
        raise StartError(
            f"A hub runs in {folder} already: stop it, or name another --folder."
        )
    os.set_inheritable(file.fileno(), True)
    return file


# ------------------------------------------------------------------------------- a plan


def plan(options: argparse.Namespace, folder: Path) -> Hub:
    """What this hub will be: as it was, where the folder holds one, with what is asked
    for now."""
    before = read_json(folder / "hub.json")
    known = before.get("learners", {})
    hub = Hub(str(folder), learners=roll(names(options, known), known, folder))
    hub.memory = in_range("--memory", options.memory, 0.5, 64, 10**9)
    hub.processes = in_range("--processes", options.processes, 100, 10_000)
    hub.threads = in_range("--threads", options.threads, 1, 64)
    hub.debug = options.debug
    ports = [before.get(key, 0) for key in ("port", "hub_port", "proxy_port")]
    # servers that survived a killed hub know its ports
    hub.port, hub.hub_port, hub.proxy_port = ports if all(ports) else free_ports()
    if options.port and options.port != str(hub.port):
        hub.port = choose_port(options.port)
    return hub


def in_range(name: str, value: float, least: float, most: float, unit: int = 1) -> int:
    """`value` in units, refused outside least..most."""
    if not least <= value <= most:
        raise StartError(f"{name}={value:g}: give a number from {least} to {most}.")
    return round(value * unit)


def names(options: argparse.Namespace, known: dict) -> list[str]:
    """Who may come in: those named, else those of before, else so many."""
    count = in_range("--count", options.count, 1, MOST)
    found = options.learners or list(known)
    found = found or [f"learner{number:02}" for number in range(1, count + 1)]
    for name in found:
        if not NAME.fullmatch(name):
            raise StartError(
                f"{name!r} is no name for a learner: give small letters, digits, - and"
                " _, a letter first, 31 at most."
            )
    return sorted(set(found))


def roll(wanted: list[str], known: dict, folder: Path) -> dict[str, dict]:
    """Name -> password and user id: as before for those who were there."""
    taken = {each["uid"] for each in known.values()}
    numbers = free_uids(taken, str(folder))
    return {
        name: known.get(name)
        or {
            "password": secrets.token_urlsafe(9),
            "uid": next(numbers) if os.geteuid() == 0 else -1,
        }
        for name in wanted
    }


def free_uids(taken: set[int], folder: str) -> Iterator[int]:
    """User ids that nobody of this machine has, nor the hub of another folder: what is
    ended here by its number is nobody else's."""
    import pwd  # not on Windows, where --help still works

    taken = taken | {each.pw_uid for each in pwd.getpwall()}
    number = int(hashlib.sha256(folder.encode()).hexdigest()[:5], 16)
    first = FIRST_UID + 2 * MOST * number
    return (uid for uid in count(first) if uid not in taken)


def free_ports() -> list[int]:
    """Three ports: for browsers, for the hub, for the proxy's orders."""
    return list(islice(filter(is_free, count(FIRST_PORT)), 3))


def keep(hub: Hub) -> Path:
    """Write the plan down, for nobody but the hub: it holds the passwords."""
    path = Path(hub.folder, "hub.json")
    write_atomically(path, json.dumps(asdict(hub), indent=1).encode() + b"\n")
    path.chmod(0o600)
    return path


# ---------------------------------------------------------------------------- the start


def share_pictures() -> None:
    """Lay the pictures where all learners have one copy of them, if that can be."""
    from utils import data  # and torch, which --help does not need

    try:
        data.lay_shared()
    except OSError as error:
        print(f"Each learner takes 0.2 GB more: {error}.", file=sys.stderr)


def try_a_place(hub: Hub) -> None:
    """Sit down where a learner will, and import what they will.

    Raises:
        StartError: that does not work; says what a learner's process said last.
    """
    from tools.classroom import seat  # not on Windows either

    home = Path(hub.folder, "learners", ".trial")
    home.mkdir(exist_ok=True)
    # one more, whom nothing limits yet
    uid = next(free_uids({each["uid"] for each in hub.learners.values()}, hub.folder))
    os.chown(home, uid, uid)
    place = seat.Place(".trial", str(home), hub.folder, uid, hub.memory, hub.processes)
    variables = environment(ROOT) | {"HOME": str(home)}
    try:
        tried = subprocess.run(
            [sys.executable, "-P", seat.__file__, place.text(), "-c", WHAT_IT_USES],
            env=variables,
            capture_output=True,
            text=True,
            timeout=TRIAL,
        )
        failed, said = tried.returncode, tried.stderr.strip()
    except subprocess.TimeoutExpired:
        failed, said = 1, f"it took more than {TRIAL} s"
    seat.remove_groups(place.group)
    if failed:
        raise StartError(
            f"A learner's process, user {uid}, cannot use the course in {ROOT}"
            f" ({said.rpartition(chr(10))[2]}): put the course and its Python where"
            " everybody may read, or start make hub as a user who is not root."
        )


def command() -> list[str]:
    """JupyterHub with the configuration beside this file."""
    config = Path(__file__).with_name("jupyterhub_config.py")
    return [sys.executable, "-m", "jupyterhub", "--config", str(config)]


def welcome(hub: Hub) -> str:
    """What the teacher reads: the addresses, and who comes in with what."""
    base = f"http://127.0.0.1:{hub.port}"
    apart = (
        "Each learner's server runs under a user id of its own."
        if os.geteuid() == 0
        else "All servers run under your own user id: whoever runs code here can read"
        " the files of all learners. To keep them apart, start as root, or see deploy/."
    )
    width = max(map(len, hub.learners))
    lines = [
        f"JupyterHub: {base}",
        f"The explorer without code: {base}/hub/user-redirect/voila/render/"
        "explorer.ipynb",
        f"{apart} The learners' files are in {hub.folder}/learners.",
        "",
        *(
            f"  {name:{width}}  {each['password']}"
            for name, each in hub.learners.items()
        ),
        "",
        "Stop with Ctrl+C; the same command goes on from here.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
