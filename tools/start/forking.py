"""Kernels that share what they have read: forked from one process (warm.py) that the
explorer's page keeps for it. Linux only; elsewhere, and whenever the process does not
answer, each kernel is started by itself.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

WARM = Path(__file__).with_name("warm.py")
NAME = "explorer-forks"
PATIENCE = 120  # seconds until a kernel is there; the first waits for the imports
NO_KERNEL = (OSError, TimeoutError, LookupError, ValueError)  # no answer, or no id
ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER of <linux/prctl.h>
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)


class NotForkedError(Exception):
    """No kernel was forked; says why."""


class Warm:
    """The process that kernels are forked of. Where it ends, another one takes its
    place, once for each kernel that it owes.

    Args:
        module: what it imports and prepares.
    Raises:
        OSError: it cannot be started, or this process may not look after its kernels.
    """

    def __init__(self, module: str) -> None:
        if ctypes.CDLL(None, use_errno=True).prctl(ADOPT_ORPHANS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "this process cannot adopt kernels")
        self.module, self.works = module, True
        self._turn = asyncio.Lock()
        self._start()

    def _start(self) -> None:
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        with theirs:
            descriptor = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(WARM), str(descriptor), self.module],
                env={**os.environ, **ONE_THREAD},
                stdin=subprocess.DEVNULL,
                pass_fds=[descriptor],
                start_new_session=True,  # Ctrl+C is the server's
            )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    async def fork(self, request: dict[str, Any]) -> "Fork":
        """A kernel with these `argv`, `cwd` and `env`.

        Raises:
            NotForkedError: no process answers; none is asked again.
        """
        async with self._turn:
            for start_again in (True, False):
                if not self.works:
                    break
                with contextlib.suppress(
                    OSError, TimeoutError, LookupError, ValueError
                ):
                    line = await asyncio.wait_for(self._ask(request), PATIENCE)
                    return Fork(int(json.loads(line)["pid"]))
                self.close()  # a late answer would be taken for the next one
                if start_again:
                    self._start()
            self.works = False
        raise NotForkedError(f"the process that prepares {self.module} has ended")

    async def _ask(self, request: dict[str, Any]) -> bytes:
        loop, line = asyncio.get_running_loop(), b""
        await loop.sock_sendall(self._channel, json.dumps(request).encode() + b"\n")
        while not line.endswith(b"\n"):
            if not (more := await loop.sock_recv(self._channel, 4096)):
                break
            line += more
        return line

    def close(self) -> None:
        """End the process; its kernels go on."""
        self._channel.close()
        self._process.kill()
        self._process.wait()


class Fork:
    """A forked kernel, as much of a `subprocess.Popen` as Jupyter needs. It is a child
    of this process: the one between them has left."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid, self.returncode = pid, None

    def poll(self) -> int | None:
        """How it ended; None while it runs."""
        if self.returncode is None:
            with contextlib.suppress(ChildProcessError):  # not adopted yet
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self) -> int | None:
        """The same; called when it has ended."""
        return self.poll()

    def send_signal(self, number: int) -> None:
        """Send it a signal, as long as its id is its own."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


class ForkingProvisioner(LocalProvisioner):
    """Starts a kernel as a fork of the warm process, or else by itself."""

    warm: Warm | None = None

    async def launch_kernel(
        self, cmd: list[str], **kwargs: Any
    ) -> KernelConnectionInfo:
        """Launch a kernel with Jupyter's command for it."""
        if self.warm is not None:
            try:
                return await self._fork(self.warm, cmd, **kwargs)
            except NotForkedError as error:
                self.log.warning("A kernel starts by itself: %s.", error)
        return await super().launch_kernel(cmd, **kwargs)

    async def _fork(
        self, warm: Warm, cmd: list[str], **kwargs: Any
    ) -> KernelConnectionInfo:
        request = {
            "argv": cmd[cmd.index("ipykernel_launcher") + 1 :],
            "cwd": kwargs.get("cwd"),
            "env": kwargs.get("env", dict(os.environ)),
        }
        self.process: Any = await warm.fork(request)
        self.pid = self.pgid = self.process.pid  # its group is its own
        self.cwd = request["cwd"] or Path.cwd()
        return self.connection_info


def use(warm: Warm | None) -> None:
    """Let this process's kernels be forks of `warm`."""
    ForkingProvisioner.warm = warm
    factory = KernelProvisionerFactory.instance()
    where = f"{__name__}:{ForkingProvisioner.__name__}"
    factory.provisioners[NAME] = EntryPoint(NAME, where, factory.GROUP_NAME)
    factory.default_provisioner_name = NAME
