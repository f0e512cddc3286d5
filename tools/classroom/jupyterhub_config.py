"""JupyterHub's configuration, from what `hub.py` wrote down. This machine only."""

import json
import os
import sys
from pathlib import Path

from tools.classroom.hub import Hub
from tools.classroom.spawner import ClassList, SeatSpawner
from tools.start import serving

hub = Hub(**json.loads(Path(os.environ["PRUNING_HUB"]).read_text("utf-8")))
folder = Path(hub.folder)
c = get_config()  # noqa: F821  # pyright: ignore[reportUndefinedVariable]

c.JupyterHub.bind_url = f"http://127.0.0.1:{hub.port}"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{hub.hub_port}"
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{hub.proxy_port}"
c.ConfigurableHTTPProxy.command = [sys.executable, "-m", "tools.classroom.proxy"]
c.ConfigurableHTTPProxy.pid_file = str(folder / "proxy.pid")
c.JupyterHub.db_url = f"sqlite:///{folder / 'hub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(folder / "cookie_secret")
c.JupyterHub.log_level = "DEBUG" if hub.debug else "WARN"
c.Spawner.debug = hub.debug

c.JupyterHub.authenticator_class = ClassList
c.ClassList.passwords = {name: each["password"] for name, each in hub.learners.items()}
c.Authenticator.allowed_users = set(hub.learners)
c.JupyterHub.load_roles = [
    # what a learner may ask of the hub: nothing but their own server
    {"name": "user", "scopes": ["self"]},
]

c.JupyterHub.spawner_class = SeatSpawner
c.SeatSpawner.folder = hub.folder
c.SeatSpawner.uids = {name: each["uid"] for name, each in hub.learners.items()}
c.SeatSpawner.memory, c.SeatSpawner.processes = hub.memory, hub.processes
c.Spawner.env_keep = [
    "PATH",
    "LANG",
    "LC_ALL",
    "VIRTUAL_ENV",
    "JUPYTER_PREFER_ENV_PATH",
]
# one thread a learner, waiting passively: startup.py sees to the second
c.Spawner.environment = {
    "OMP_NUM_THREADS": str(hub.threads),
    "OPENBLAS_NUM_THREADS": str(hub.threads),
}
c.Spawner.default_url = f"/lab/tree/{serving.FIRST_NOTEBOOK}"
if hub.debug:  # the tests ask the page about its notebook
    c.Spawner.args = ["--LabApp.expose_app_in_browser=True"]
# thirty that come at once wait for each other
c.Spawner.start_timeout = c.Spawner.http_timeout = 300
c.SeatSpawner.interrupt_timeout = c.SeatSpawner.term_timeout = 10
