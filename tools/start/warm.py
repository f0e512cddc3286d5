"""A process that has read everything once, and of which kernels are forked: started by
tools/start/forking.py, with the Python of .venv. Linux only.

    python -P warm.py DESCRIPTOR MODULE

It imports MODULE, goes through the slices of work of its `warming()` as long as nobody
asks for a kernel, and forks one for each line that comes through the socket DESCRIPTOR:
`{"argv": [...], "cwd": "...", "env": {...}}`, answered by its process id. The memory of
what was read is shared until someone writes to it. It ends when the socket does.

Only a process of one thread can be forked safely, so it never has a second one: PyTorch
and NumPy compute in one, here and in the kernels.
"""

import contextlib
import gc
import json
import os
import random
import select
import socket
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

KERNELS = (  # what each kernel would import when it starts
    "IPython.core.completer",
    "IPython.core.magics",
    "IPython.extensions.storemagic",
    "ipykernel.debugger",
    "ipykernel.kernelapp",
    "ipykernel.zmqshell",
    "ipywidgets",
    "matplotlib_inline.config",
    "pdb",
    "tornado.platform.asyncio",
    "tornado.queues",
)
QUIET = 3.0  # seconds without a request after which the slow work goes on
FEW = ["--HistoryManager.enabled=False"]  # one file of all the user's sessions
ADOPTED = 10  # seconds within which the server is the parent of a new kernel
Request = dict[str, Any]


def main(descriptor: int, module: str) -> None:
    """Fork a kernel at each request, until nobody can ask any more."""
    server = os.getppid()
    work = prepared(module)
    next(work, None)
    with socket.socket(fileno=descriptor) as channel:
        request = next_request(channel, work)
    if request is not None:
        run_kernel(request, server)


def prepared(module: str) -> Iterator[None]:
    """Import what kernels need and do the module's slow work, in slices; what every
    kernel needs is done after the first."""
    import torch
    from tqdm import tqdm

    # a page is not debugged, and the debugger would be a third of a kernel's own memory
    sys.modules["debugpy"] = None  # pyright: ignore[reportArgumentType] - cannot be imported
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0  # else a thread of its own looks after progress bars
    for name in (*KERNELS, module):
        import_module(name)
    yield from getattr(sys.modules[module], "warming", tuple)()


def next_request(channel: socket.socket, work: Iterator[None]) -> Request | None:
    """In a forked kernel what was asked for; in the process itself None, at the end of
    the socket."""
    lines, wait = channel.makefile("rb"), 0.0
    while True:
        while not select.select([channel], [], [], wait)[0]:
            wait = 0.0 if next(work, work) is None else None
        gc.freeze()  # a collection in a kernel would write to all that is shared
        if not (line := lines.readline()):
            return None
        kernel, answer = forked()
        if kernel:
            return json.loads(line)
        channel.sendall(answer)
        wait = QUIET


def forked() -> tuple[bool, bytes]:
    """Whether this is the new process; else what is to be answered, its id. Its parent
    leaves at once, so that the server becomes it: then the server sees how it ends, and
    the end of this process is none of the kernel's."""
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        return False, b'{"error": "the warm process has several threads"}\n'
    reader, writer = os.pipe()
    between = os.fork()
    if not between:
        os.close(reader)
        kernel = os.fork()
        if kernel:
            os.write(writer, b'{"pid": %d}\n' % kernel)
            os._exit(0)
        os.close(writer)
        return True, b""
    os.close(writer)
    with open(reader, "rb") as answer:
        os.waitpid(between, 0)
        return False, answer.read() or b'{"error": "no process could be forked"}\n'


def run_kernel(request: Request, server: int) -> None:
    """Be the kernel that was asked for, with nothing of this process but its memory."""
    os.setsid()
    os.environ.clear()
    os.environ.update(request["env"], JPY_PARENT_PID=str(server))
    os.chdir(request["cwd"] or Path.cwd())
    # a runaway is the first that a machine without memory ends
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    draw_anew()
    end = time.monotonic() + ADOPTED
    while os.getppid() != server:
        if time.monotonic() > end:
            sys.exit("the server of the explorer has gone")
        time.sleep(0.001)
    from ipykernel.kernelapp import IPKernelApp
    from ipywidgets import register_comm_target

    app = IPKernelApp.instance(parent_handle=server)
    app.initialize([*request["argv"], *FEW])
    register_comm_target()  # done by its import where a kernel is there already
    app.start()


def draw_anew() -> None:
    """Give this process random numbers of its own."""
    import numpy as np
    import torch

    random.seed()
    np.random.seed()  # noqa: NPY002 - the one that all of the process draw from
    torch.seed()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
