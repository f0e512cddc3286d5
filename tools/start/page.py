"""The explorer as one page, served by Voila: started by tools/start/serving.py, with
the Python of .venv.

Voila leaves some things open that are closed here. Its browser window gets the address
with the token; the Host of a request must be this machine; the page asks no other
machine for anything; and a user's own configuration of Jupyter is not read, so it can
not take the token away. Visitors are let in as the machine has room, and start in turn.
Each has a kernel of their own. On Linux it is a fork of a process that has read the
pictures and networks (forking.py), and they share what was read; elsewhere it reads
them itself, which costs half a gigabyte and about 9 s of one core. `make bench
ARGS=visitors` measures both. One kernel waits ready, so that a visitor who comes alone
sees the panel at once.
"""

import asyncio
import html
import os
import re
import secrets
import sys
import tempfile
import threading
import time
import webbrowser
from pathlib import Path
from typing import Any

import psutil
from tornado import web
from traitlets import Integer, Unicode
from traitlets.config import Config
from voila.app import Voila
from voila.tornado.handler import TornadoVoilaHandler

from tools.start import forking

NOTEBOOK = Path(__file__).with_name("explorer.ipynb")
A_VISITOR = 0.15e9  # bytes of memory, beside what is shared
ALONE = 0.6e9  # bytes, of a visitor whose kernel shares nothing
SHARED = 1.2e9  # bytes
KEPT_FREE = 1.5e9  # bytes, for the browser and the system
CORES = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
STARTS = 2 * CORES  # visitors whose kernels may start at the same time
HELD = 10  # seconds that a request waits for its turn before the page says so
PATIENCE = 300  # seconds after which a kernel that has shown nothing is given up
LONGEST_SOCKET = 40  # characters of the folder; the system allows about 100 in all

# of the extensions of JupyterLab, those that show the panel
WIDGETS = [
    "@jupyter-widgets/jupyterlab-manager",
    "@voila-dashboards/widgets-manager8",
    "anywidget",
]

# what a page may ask for: of this server alone
POLICY = "; ".join(
    [
        "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:",
        "connect-src 'self' ws://127.0.0.1:* ws://localhost:*",
        "frame-ancestors 'self'",
    ]
)
FOREIGN = re.compile(r'\s*<link [^>]*href="https?://[^>]*>')
REDIRECT = '<meta charset="utf-8"><meta http-equiv="refresh" content="0; url={}">'
WAITING = """<!DOCTYPE html><html lang="en"><meta charset="utf-8">
<meta http-equiv="refresh" content="{seconds}"><title>The pruning explorer</title>
<body style="font: 18px sans-serif; margin: 4em auto; max-width: 34em"><p>{sentence}
This page tries again by itself.</p></body></html>"""
FULL = (
    "The explorer is full: this machine has room for {visitors} at once. A place is"
    " free soon after somebody closes the page; try again in a minute."
)
NOT_YET = "Others came just before you, and the explorer opens for them first."
GAVE_UP = (
    "<script>window.update_loading_text(0, 0, 'The explorer did not start: reload this"
    " page. If that does not help, look at what the terminal says.')</script>"
)
SAID_OF_ERRORS = "Reload this page; what went wrong stands in the terminal."


class Visit(TornadoVoilaHandler):
    """One visitor's request: let in when there is room, and in turn."""

    @property
    def content_security_policy(self) -> str:
        return POLICY

    @web.authenticated
    async def get(self, path: str | None = None) -> None:
        page: ExplorerPage = self.settings["voila"]
        if page.visitors_now() >= page.room:
            # a kernel that is still starting may be the one that will wait ready
            if page.starts_one():
                self.tell(NOT_YET, 1)
            else:
                self.tell(FULL.format(visitors=page.room), 60)
            return
        try:
            await asyncio.wait_for(page.turns.acquire(), HELD)
        except TimeoutError:
            self.tell(NOT_YET, 1)
            return
        try:
            await self.let_in(page, path)
        finally:
            page.turns.release()

    async def let_in(self, page: "ExplorerPage", path: str | None) -> None:
        """Send the panel's page as it grows."""
        if page.visitors_now() + page.coming >= page.room:
            self.tell(NOT_YET, 1)  # until those who are coming are counted
            return
        page.coming += 1
        begun = time.monotonic()
        try:
            async for part in self.get_generator(path=path):
                self.write(FOREIGN.sub("", part))
                if "voila_heartbeat()" in part and time.monotonic() - begun > PATIENCE:
                    self.write(GAVE_UP)
                    break
                self.flush()
        finally:
            page.coming -= 1

    def tell(self, sentence: str, seconds: int) -> None:
        """A page of one sentence that is loaded again after so many seconds."""
        self.set_status(503)
        self.set_header("Retry-After", str(seconds))
        self.finish(WAITING.format(sentence=sentence, seconds=seconds))


class ExplorerPage(Voila):
    """Voila for one notebook, closed where Voila is open."""

    visitors = Integer(
        help="How many are let in at once; 0: as many as there is memory for."
    ).tag(config=True)
    warms = Unicode(
        "utils.explorer.visit" if sys.platform == "linux" else "",
        help="The module whose `warming` the kernels share; empty: they share nothing.",
    ).tag(config=True)

    def load_config_file(self, *_: object, **__: object) -> None:
        """Nothing: what the user has configured for other servers is no matter here."""

    def initialize(self, argv: list[str] | None = None) -> None:
        super().initialize(argv)
        self.coming = 0
        self.turns = asyncio.Semaphore(STARTS)
        self.token = self.token or secrets.token_hex(24)
        self.free = psutil.virtual_memory().available - KEPT_FREE
        self.warm = self._started()
        forking.use(self.warm)

    def _started(self) -> forking.Warm | None:
        """The process that kernels share; None where there can be none."""
        try:
            return forking.Warm(self.warms) if self.warms else None
        except OSError as error:
            self.log.warning("Kernels share nothing here: %s.", error)
            return None

    @property
    def room(self) -> int:
        """How many visitors are let in at once; one more kernel waits ready."""
        if self.visitors:
            return self.visitors
        if self.warm is not None and self.warm.works:
            return max(1, int((self.free - SHARED) / A_VISITOR) - 1)
        return max(1, int(self.free / ALONE) - 1)

    @property
    def display_url(self) -> str:
        return f"{self.connection_url}?token={self.token}"

    def visitors_now(self) -> int:
        """Kernels that are somebody's: all but the one that waits ready."""
        ready = sum(task.done() for task in self._waiting())
        return len(self.kernel_manager.list_kernel_ids()) - ready

    def starts_one(self) -> bool:
        """Whether a kernel that nobody has yet is on its way."""
        return not all(task.done() for task in self._waiting())

    def _waiting(self) -> list[asyncio.Task]:
        pools = getattr(self.kernel_manager, "_pools", {}).values()
        return [task for pool in pools for task in pool]

    # Voila names its types by the traitlets that happen to be called Dict and List
    def init_settings(self):  # pyright: ignore[reportIncompatibleMethodOverride]
        settings: Any = super().init_settings()
        return {
            **settings,
            "allow_remote_access": False,
            "local_hostnames": ["localhost"],
        }

    def init_handlers(self):  # pyright: ignore[reportIncompatibleMethodOverride]
        handlers: Any = super().init_handlers()
        return [
            (route, Visit if handler is TornadoVoilaHandler else handler, *rest)
            for route, handler, *rest in handlers
        ]

    def launch_browser(self) -> None:
        """Open the address by way of a file that only its owner can read: a command
        line, where the token would stand otherwise, is seen by all."""
        descriptor, name = tempfile.mkstemp(suffix=".html", dir=self.connection_dir)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(REDIRECT.format(html.escape(self.display_url)))
        threading.Thread(
            target=webbrowser.open, args=(Path(name).as_uri(),), daemon=True
        ).start()


def settings() -> Config:
    """How Voila runs here; the command line may say otherwise."""
    config = Config()
    config.Voila.ip = "127.0.0.1"
    config.VoilaConfiguration.preheat_kernel = True
    config.VoilaConfiguration.extension_allowlist = WIDGETS
    # a busy machine is slow to answer, which is no error
    config.VoilaExecutor.iopub_timeout = config.VoilaExecutor.startup_timeout = 240
    config.VoilaExecutor.cell_error_instruction = SAID_OF_ERRORS
    # a visitor whose page did not say goodbye, as when a laptop is closed
    config.MappingKernelManager.cull_idle_timeout = 300
    config.MappingKernelManager.cull_interval = 60
    # kernels that start together can take each other's ports, but not their files
    if sys.platform == "linux" and len(tempfile.gettempdir()) <= LONGEST_SOCKET:
        config.KernelManager.transport = "ipc"
    return config


if __name__ == "__main__":
    ExplorerPage.launch_instance([str(NOTEBOOK), *sys.argv[1:]], config=settings())
