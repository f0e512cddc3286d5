"""Fill an environment with packages: by uv where there is one, else by pip. Standard
library only."""

import ast
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

from tools.start.files import DISK_FULL, StartError
from tools.start.installed import requirement_lines

LOG = ".venv.log"
LOG_TAIL = 50_000  # bytes of pip's log that are searched for what went wrong
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CPU_INDEX_WAIT = 3  # seconds
OWN_INDEX = ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_NO_INDEX", "UV_TORCH_BACKEND")
# uv does not read pip's settings: pip's name, uv's, what separates several
SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "constraint": ("UV_CONSTRAINT", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
}
NETWORK_LOST = (  # what pip's log says then
    "NewConnectionError",
    "ConnectTimeout",
    "ReadTimeout",
    "Read timed out",
    "NameResolutionError",
    "ProxyError",
    "SSLError",
    "Connection aborted",
    "Network is unreachable",
)


def install_packages(python: Path, root: Path, requirements: str) -> None:
    """Install a requirement file of the project into the environment of `python`.

    Raises:
        StartError: says what to do; what pip said stays in .venv.log.
    """
    print(
        "Installing the packages of the course into .venv. This happens once and takes"
        " some minutes.",
        flush=True,
    )
    log = root / LOG
    log.unlink(missing_ok=True)
    with_pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    with_pip += ["--log", str(log)]
    with_uv = uv_command(python)
    settings = uv_settings(python) if with_uv else {}
    cpu = cpu_wheels(requirement_lines(root / requirements))
    for command in filter(None, (with_uv, with_pip)):
        # without the CPU wheels the step after it takes the usual ones
        if cpu:
            run([*command, "--index-url", CPU_INDEX, "--no-deps", *cpu], root, settings)
        if run([*command, "-r", requirements], root, settings):
            log.unlink(missing_ok=True)
            return
    said = (
        log.read_bytes()[-LOG_TAIL:].decode("utf-8", "replace") if log.exists() else ""
    )
    raise StartError(pip_problem(said, log, shutil.disk_usage(root).free))


def run(command: list[str], root: Path, settings: dict[str, str]) -> bool:
    """Whether a command of an installer succeeds."""
    hidden = ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV")
    kept = {k: v for k, v in os.environ.items() if k not in hidden}
    env = {**settings, **kept, "PIP_USER": "0"}
    return subprocess.run(command, cwd=root, env=env).returncode == 0


def uv_command(python: Path) -> list[str]:
    """`uv pip install ...`: the machine's uv, else one fetched into the environment;
    empty without either."""
    found = shutil.which("uv")
    if not found:
        fetch = [str(python), "-m", "pip", "install", "--quiet", "uv"]
        fetch += ["--disable-pip-version-check", "--retries", "0"]
        if subprocess.run(fetch, capture_output=True).returncode:
            return []
    start = [found] if found else [str(python), "-m", "uv"]
    # as pip does: else whoever may not write there compiles at each start
    compiled = "--compile-bytecode"
    return [*start, "pip", "install", "--python", str(python), compiled]


def uv_settings(python: Path) -> dict[str, str]:
    """What pip is told on this machine, in uv's words."""
    listed = subprocess.run(
        [str(python), "-m", "pip", "config", "list"], capture_output=True, text=True
    )
    settings = {"UV_INDEX_STRATEGY": "unsafe-best-match"}  # as pip chooses
    for line in listed.stdout.splitlines():  # global.find-links='/wheels'
        name, _, value = line.partition("=")
        name = name.rpartition(".")[2]
        if name in SETTINGS:
            variable, separator = SETTINGS[name]
            settings[variable] = separator.join(ast.literal_eval(value).split())
    return settings


def cpu_wheels(lines: list[str]) -> list[str]:
    """The lines for torch and torchvision when they shall come from the index of CPU
    wheels: on Linux, the usual ones bring several GB of CUDA packages.
    PRUNING_TORCH=cuda or an index of the learner's own says otherwise."""
    wish = os.environ.get("PRUNING_TORCH", "")
    if wish not in ("", "cpu", "cuda"):
        raise StartError(
            f"PRUNING_TORCH={wish} is unknown: give cpu or cuda, or nothing."
        )
    own = any(os.environ.get(name) for name in OWN_INDEX)
    if sys.platform != "linux" or wish == "cuda" or (own and not wish):
        return []
    if not answers(CPU_INDEX + "/torch/"):
        print(
            f"{CPU_INDEX} does not answer, so torch comes from where the other packages"
            " do, which may bring CUDA packages of several GB.",
            flush=True,
        )
        return []
    return [line for line in lines if line.startswith(("torch==", "torchvision=="))]


def answers(address: str) -> bool:
    """Whether a page is there within a few seconds."""
    try:
        with urllib.request.urlopen(address, timeout=CPU_INDEX_WAIT):
            return True
    except (OSError, ValueError):
        return False


def pip_problem(said: str, log: Path, free: float) -> str:
    """One sentence for an install that failed, from what pip `said` and the `free`
    bytes left."""
    if "No space left" in said or "Errno 28" in said or free < 1e8:
        return DISK_FULL
    if any(word in said for word in NETWORK_LOST):
        return (
            "The packages could not be fetched: check the network connection, then"
            f" start again (details: {log})."
        )
    if "No matching distribution found" in said:
        version = ".".join(str(part) for part in sys.version_info[:2])
        return (
            f"A package does not exist for Python {version} on this machine: try Python"
            f" 3.12 (details: {log})."
        )
    return (
        f"The packages could not be installed: read the last lines of {log}, then start"
        " again."
    )
