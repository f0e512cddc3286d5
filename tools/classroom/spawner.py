"""What JupyterHub needs to know of a class: who may come in, and how their servers
start. Named in jupyterhub_config.py."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from secrets import compare_digest

from jupyterhub.auth import Authenticator
from jupyterhub.spawner import LocalProcessSpawner
from traitlets import Dict, Integer, Unicode

from tools.classroom import seat
from tools.classroom.seat import Place

SEAT = Path(seat.__file__)


class ClassList(Authenticator):
    """The learners of a list, each with the password that `make hub` printed."""

    passwords = Dict(help="Name -> password.").tag(config=True)

    async def authenticate(self, _handler: object, data: dict) -> str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The learner's name, or None. As long for an unknown name as for a known."""
        name = self.normalize_username(data.get("username", ""))
        right = self.passwords.get(name, "")
        given = data.get("password", "")
        fits = compare_digest(given.encode(), right.encode())
        return name if right and fits else None


class SeatSpawner(LocalProcessSpawner):
    """A learner's server, in a place of its own: see seat.py."""

    folder = Unicode(help="The hub's folder.").tag(config=True)
    uids = Dict(help="Name -> user id, -1 for the hub's own.").tag(config=True)
    memory = Integer(help="Bytes a learner, all processes together.").tag(config=True)
    processes = Integer(help="Processes and threads a learner.").tag(config=True)

    @property
    def home(self) -> Path:
        """The learner's folder."""
        return Path(self.folder, "learners", self.user.name)

    def place(self) -> Place:
        """What seat.py is told."""
        name, uid = self.user.name, self.uids[self.user.name]
        limits = (self.memory, self.processes)
        return Place(name, str(self.home), self.folder, uid, *limits)

    def make_preexec_fn(self, name: str) -> Callable[[], None]:  # noqa: ARG002
        """Nothing between fork and exec: seat.py does it, in a process of its own."""
        return lambda: None

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """Where a learner's files are, of Jupyter's too."""
        workspace = self.home / "workspace"
        return env | {
            "USER": self.user.name,
            "HOME": str(self.home),
            "PRUNING_WORKSPACE": str(workspace),
            "JUPYTER_CONFIG_PATH": str(SEAT.with_name("server")),
            "JUPYTER_CONFIG_DIR": str(self.home / ".jupyter"),
            "JUPYTERLAB_SETTINGS_DIR": str(self.home / ".jupyter/lab/user-settings"),
        }

    def lay_home(self) -> None:
        """Make the learner's folder, for nobody but them."""
        self.home.mkdir(mode=0o700, exist_ok=True)
        uid = self.uids[self.user.name]
        if uid >= 0 and self.home.stat().st_uid != uid:
            os.chown(self.home, uid, uid, follow_symlinks=False)

    async def start(self) -> tuple[str, int]:
        """Start the server in the learner's place."""
        self.lay_home()
        self.notebook_dir = str(self.home / "workspace")
        self.cmd = [sys.executable, "-P", str(SEAT), self.place().text()]
        self.cmd += ["-m", "jupyterhub.singleuser"]
        return await super().start()

    async def stop(self, now: bool = False) -> None:
        """Stop the server, and whatever else runs in the place."""
        pid = self.pid
        await super().stop(now)
        with contextlib.suppress(OSError):  # its session: it has a number of its own
            if pid:
                os.killpg(pid, signal.SIGKILL)
        await asyncio.to_thread(self.sweep)

    def sweep(self) -> None:
        """End what is left in the place: a kernel that listens to nobody, a bomb."""
        place = self.place()
        if place.uid > 0 and not seat.end_all(place.uid):
            self.log.error("Processes of %s do not end.", place.name)
        seat.remove_groups(place.group)
