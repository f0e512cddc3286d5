"""`make hub`, for real: two learners, each in their place; nobody gets where they do
not belong, a runaway harms nobody else, and a killed hub comes back."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

if os.name == "nt":
    pytest.skip("JupyterHub does not run on Windows", allow_module_level=True)

from tools.classroom import hub as hubs
from tools.classroom import seat
from tools.classroom.client import Learner
from tools.kernels import Kernel
from tools.start.files import StartError

ROOT = Path(__file__).parents[1]
AS_ROOT = os.geteuid() == 0
APART = pytest.mark.skipif(not AS_ROOT, reason="only root can give out user ids")
SECRET = "what ada wrote"


@dataclass
class Running:
    """A hub that runs, and can be started again."""

    folder: Path
    process: subprocess.Popen
    known: dict

    @classmethod
    def start(cls, folder: Path) -> "Running":
        command = ["-m", "tools.classroom.hub", "ada", "ben", "--folder", str(folder)]
        limits = ["--memory", "1", "--processes", "150"]
        with open(folder.with_suffix(".log"), "ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command, *limits],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + 60
        while not (folder / "hub.json").exists() and time.monotonic() < end:
            assert process.poll() is None, folder.with_suffix(".log").read_text()
            time.sleep(0.1)
        return cls(folder, process, json.loads((folder / "hub.json").read_text()))

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.known['port']}"

    def stop(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.wait(60)

    def learner(self, name: str, password: str | None = None) -> Learner:
        own = self.known["learners"].get(name, {}).get("password", "")
        return Learner(self.base, name, own if password is None else password)

    @contextlib.asynccontextmanager
    async def inside(self, name: str) -> AsyncIterator[Learner]:
        """A learner who has logged in and whose server runs."""
        async with self.learner(name) as learner:
            assert await learner.login()
            await learner.server()
            yield learner


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Iterator[Running]:
    running = Running.start(tmp_path_factory.mktemp("hub") / "hub")
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop(signal.SIGINT)
        for each in running.known[
            "learners"
        ].values():  # of a hub that did not come back
            if each["uid"] > 0:
                seat.end_all(each["uid"])


@contextlib.asynccontextmanager
async def kernel_of(learner: Learner, *, kept: bool = False) -> AsyncIterator[Kernel]:
    """A kernel, ended afterwards unless it is `kept`."""
    kernel = await learner.kernel()
    try:
        yield kernel
    finally:
        await kernel.close()
        if not kept:
            await learner.end(kernel.number)


async def said(kernel: Kernel, code: str, patience: float = 100) -> str:
    outcome = await kernel.run(code, patience)
    assert not outcome.error, outcome.error
    return outcome.text.strip()


# --------------------------------------------------------------------- what it is asked


@pytest.mark.parametrize("ip", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_it_listens_to_this_machine_alone(ip, capsys):
    with pytest.raises(SystemExit, match=r"listens on this machine alone"):
        hubs.main(["--ip", ip])


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (["Ada"], r"'Ada' is no name for a learner"),
        (["../ben"], r"'\.\./ben' is no name"),
        (["ada", "x" * 40], "is no name"),
        (["--memory", "0.1"], r"--memory=0\.1: give a number from 0\.5 to 64"),
        (["--memory", "nan"], "--memory=nan"),
        (["--count", "0"], "--count=0: give a number from 1 to 300"),
        (["--threads", "0"], "--threads=0"),
        (["--port", "80"], "'80' is no port"),
        (["--port", "http"], "'http' is no port"),
    ],
)
def test_what_makes_no_sense_is_refused(asked, sentence, tmp_path):
    with pytest.raises(SystemExit, match=sentence):
        hubs.main([*asked, "--folder", str(tmp_path / "hub")])
    assert not (tmp_path / "hub" / "hub.json").exists()


def test_two_hubs_never_share_a_folder(tmp_path):
    folder = hubs.make_folder(str(tmp_path / "hub"))
    with hubs.hold(folder), pytest.raises(StartError, match=r"runs in .* already"):
        hubs.hold(folder)


def test_a_learner_keeps_password_and_number_and_new_ones_get_their_own(tmp_path):
    folder = hubs.make_folder(str(tmp_path / "hub"))
    first = hubs.plan(hubs.read_options(["ada", "ben"]), folder)
    hubs.keep(first)
    again = hubs.plan(hubs.read_options(["ada", "ben", "cleo"]), folder)
    assert again.learners["ada"] == first.learners["ada"]
    assert [again.port, again.hub_port, again.proxy_port] == [
        first.port,
        first.hub_port,
        first.proxy_port,
    ]
    assert len({each["password"] for each in again.learners.values()}) == 3
    numbers = [each["uid"] for each in again.learners.values()]
    assert len(set(numbers)) == (3 if AS_ROOT else 1) and 0 not in numbers
    assert (folder / "hub.json").stat().st_mode & 0o777 == 0o600


def test_groups_of_both_kinds_get_their_limits(tmp_path):
    place = seat.Place("ada", "/home", "/hub", 20001, 10**9, 150)
    (tmp_path / "cgroup.controllers").touch()
    assert seat.join_groups(place, tmp_path)
    own = tmp_path / seat.PARENT / place.group
    assert (own / "memory.max").read_text() == "1000000000"
    assert (own / "pids.max").read_text() == "150"
    assert (own / "cgroup.procs").read_text() == str(os.getpid())
    old = tmp_path / "old"
    (old / "memory").mkdir(parents=True)
    assert seat.join_groups(place, old)
    own = old / "memory" / seat.PARENT / place.group
    assert (own / "memory.limit_in_bytes").read_text() == "1000000000"
    assert seat.members(place.group, old) == {os.getpid()}
    assert not seat.join_groups(place, tmp_path / "none"), "there is nothing to join"


def test_what_the_learner_could_not_pass_is_covered(tmp_path):
    closed = tmp_path / "closed"
    (closed / "python").mkdir(parents=True)
    closed.chmod(0o700)
    tmp_path.chmod(0o755)
    covered = seat.covers([closed / "python"], tmp_path / "hub")
    assert tmp_path / "hub" in covered and Path("/tmp") in covered
    first = next(
        p for p in [*reversed(closed.parents), closed] if not p.stat().st_mode & 1
    )
    assert first in covered


# ------------------------------------------------------------------ two learners, a day


def test_each_has_notebooks_a_kernel_and_a_number_of_their_own(hub):
    async def day() -> None:
        for name in ("ada", "ben"):
            async with hub.inside(name) as learner, kernel_of(learner) as kernel:
                code = (
                    "import os; from pathlib import Path; import json\n"
                    f"Path('{name}.txt').write_text('what {name} wrote')\n"
                    "print(json.dumps([os.getuid(), os.getcwd(), os.environ['HOME'],"
                    "  sorted(p.name for p in Path().glob('0*.ipynb'))[0],"
                    "  os.environ['OMP_NUM_THREADS'], os.environ['OMP_WAIT_POLICY']]))"
                )
                uid, where, home, first, threads, waiting = json.loads(
                    await said(kernel, code)
                )
                assert where == f"{home}/workspace"
                assert Path(home) == hub.folder / "learners" / name
                assert first == "00_start_here.ipynb"
                assert (threads, waiting) == ("1", "PASSIVE")
                if AS_ROOT:
                    assert uid == hub.known["learners"][name]["uid"] != 0
                    assert Path(home).stat().st_mode & 0o777 == 0o700

    asyncio.run(day())


def test_the_proxy_lets_both_ends_agree_on_bytes_and_passes_them_on(hub):
    """JupyterLab asks for this form of message, and for nothing else once it has it."""
    wanted = "v1.kernel.websocket.jupyter.org"
    header = {"msg_id": "1", "msg_type": "kernel_info_request", "session": "s"}
    header |= {"username": "", "version": "5.4"}
    parts = [b"shell", json.dumps(header).encode(), b"{}", b"{}", b"{}"]
    ends = [8 * (len(parts) + 2)]
    for part in parts:
        ends.append(ends[-1] + len(part))
    numbers = [len(ends), *ends]
    message = b"".join([*(n.to_bytes(8, "little") for n in numbers), *parts])

    async def day() -> None:
        async with hub.inside("ben") as ben, kernel_of(ben) as kernel:
            second = await ben.connected(kernel.number, protocols=[wanted])
            assert second.socket.subprotocol == wanted
            await second.socket.send(message)
            while b"kernel_info_reply" not in (
                answer := await asyncio.wait_for(second.socket.recv(), 60)
            ):
                assert isinstance(answer, bytes)
            await second.close()

    asyncio.run(day())


def test_who_has_no_password_stays_outside(hub):
    async def day() -> None:
        ben = hub.known["learners"]["ben"]["password"]
        for name, password in [
            ("ada", "wrong"),
            ("ada", ""),
            ("ada", ben),
            ("nobody", ""),
            ("nobody", ben),
            ("ADA", "wrong"),
            ("root", ben),
        ]:
            async with hub.learner(name, password) as learner:
                assert not await learner.login(), (name, password)
                for path in ("/user/ada/lab", "/user/ada/api/contents", "/hub/home"):
                    page = await learner.browser.get(path)
                    inside = page.status_code == 200 and page.url.path == path
                    assert not inside, (name, path)

    asyncio.run(day())


def test_no_address_leads_to_another_learner(hub):
    ada_file = "/workspace/ada.txt"
    paths = [
        "/user/ada/lab",
        "/user/ada/api/status",
        "/user/ada/api/kernels",
        "/user/ada/api/contents/ada.txt",
        "/user/ada/files/ada.txt",
        "/user/ada/voila/render/explorer.ipynb",
        "/user/ben/../ada/files/ada.txt",
        "/user/ben/%2e%2e/ada/files/ada.txt",
        "/user/ben/files/../../ada" + ada_file,
        "/user/ben/files/..%2f..%2fada" + ada_file.replace("/", "%2f"),
        "/user/ben/files/%2e%2e/%2e%2e/ada" + ada_file,
        "/user/ben/api/contents/..%2f..%2fada" + ada_file,
        "/user/ben/voila/files/..%2f..%2fada" + ada_file,
        "/user/ben/voila/static/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/user/ben/files/link/ada.txt",
        "/user/ben/files/link.txt",
        "/hub/admin",
        "/hub/api/users",
        "/hub/api/users/ada",
        "/hub/api/proxy",
        "/hub/spawn/ada",
        "/hub/token/ada",
        "/services/",
    ]

    async def day() -> None:
        async with hub.inside("ada") as ada, hub.inside("ben") as ben:
            async with kernel_of(ben) as kernel:
                home = hub.folder / "learners" / "ada" / "workspace"
                await said(
                    kernel,
                    "import os\nfor n, t in [('link', ''), ('link.txt', '/ada.txt')]:\n"
                    "    if not os.path.islink(n):"
                    f" os.symlink({str(home)!r} + t, n)",
                )
            for path in paths:
                page = await ben.browser.get(path)
                assert SECRET not in page.text and "root:x:" not in page.text, path
                elsewhere = page.url.path.startswith("/user/ada")
                allowed = page.status_code == 200 and elsewhere
                assert not allowed, (path, str(page.url))
            for method, path in [
                ("POST", "/hub/api/users/ada/server"),
                ("DELETE", "/hub/api/users/ada/server"),
                ("POST", "/hub/api/users/ada/tokens"),
                ("POST", "/hub/api/shutdown"),
                ("POST", "/hub/api/users/eve"),
            ]:
                token = ben.cookies("/hub/").get("_xsrf", "")
                answer = await ben.browser.request(
                    method, path, headers={"X-XSRFToken": token}, json={}
                )
                assert answer.status_code in (403, 404), (path, answer.text)
            async with kernel_of(ada) as kernel:
                with pytest.raises(InvalidStatus):
                    await ben.connected(kernel.number, "ada")
            answer = await ada.browser.post("/user/ada/api/kernels", json={})
            assert answer.status_code == 403, "another site's form is no learner"

    if not AS_ROOT:  # one user id: the links lead where they say
        paths = [path for path in paths if "/link" not in path]
    asyncio.run(day())


PROBE = """
import json, os, resource, socket, subprocess, urllib.request
from pathlib import Path
tried = {}
for what, expression in %s.items():
    try:
        tried[what] = "done: " + repr(eval(expression))[:80]
    except BaseException as error:
        tried[what] = type(error).__name__
print(json.dumps(tried))
"""


def attempts(hub: Running, pid: str, server: str, port: int | None) -> dict[str, str]:
    """What ben may try on ada (her kernel's and her server's number, its port), on the
    hub, the course and the system: a name, an expression."""
    ada, known = hub.folder / "learners" / "ada", hub.known
    here = "urllib.request.urlopen('http://127.0.0.1:{}')"
    asked = (
        "urllib.request.urlopen(urllib.request.Request('http://127.0.0.1:{}', headers="
        "dict(Authorization='token ' + os.environ['JUPYTERHUB_API_TOKEN'])))"
    )
    return {
        "read a file": f"open({str(ada / 'workspace/ada.txt')!r})",
        "list a folder": f"os.listdir({str(ada)!r})",
        "read passwords": f"open({str(hub.folder / 'hub.json')!r})",
        "read the cookies' secret": f"open({str(hub.folder / 'cookie_secret')!r})",
        "read the hub's tokens": f"open({str(hub.folder / 'hub.sqlite')!r})",
        "a server's tokens": f"open('/proc/{server}/environ').read()",
        "a kernel's memory": f"open('/proc/{pid}/mem')",
        "a server's files": f"os.listdir('/proc/{server}/root/')",
        "the proxy's token": f"open('/proc/{hub.process.pid}/environ').read()",
        "end a kernel": f"os.kill({pid}, 9)",
        "end the hub": f"os.kill({hub.process.pid}, 9)",
        "a shared /tmp": "os.stat('/tmp/a')",
        "shared memory": "os.stat('/dev/shm/a')",
        "root's folder": "os.listdir('/root/.ssh')",
        "write to the course": f"open({str(ROOT / 'utils/__init__.py')!r}, 'a')",
        "a new file there": f"open({str(ROOT / 'utils/own.py')!r}, 'x')",
        "write to its data": f"os.mkdir({str(ROOT / 'data/own')!r})",
        "become root": "os.setuid(0)",
        "become ada": f"os.setuid({known['learners']['ada']['uid']})",
        "more processes": "resource.setrlimit(resource.RLIMIT_NPROC, (9999, 9999))",
        "the proxy's routes": here.format(f"{known['proxy_port']}/api/routes"),
        "ada's server": here.format(f"{port}/user/ada/api/contents"),
        "ada's server, own token": asked.format(f"{port}/user/ada/api/contents"),
        "ada at the hub": asked.format(f"{known['hub_port']}/hub/api/users/ada"),
        "all at the hub": asked.format(f"{known['hub_port']}/hub/api/users"),
        **{
            f"more memory, {limit.parent.name}": f"open({str(limit)!r}, 'w')"
            for limit in seat.GROUPS.glob(f"**/{seat.PARENT}/*/memory.limit_in_bytes")
        },
    }


@APART
def test_no_kernel_reaches_what_is_not_its_own(hub):
    async def day() -> None:
        async with (
            hub.inside("ada") as ada,
            hub.inside("ben") as ben,
            kernel_of(ada) as kernel,
            kernel_of(ben) as other,
        ):
            code = (
                "import os; from pathlib import Path; Path('/tmp/a').touch()\n"
                "Path('/dev/shm/a').touch()\n"
                "print(os.getpid(), os.getppid(), os.environ['JUPYTERHUB_SERVICE_URL'])"
            )
            pid, server, address = (await said(kernel, code)).split()
            port = urllib.parse.urlsplit(address).port
            probe = PROBE % repr(attempts(hub, pid, server, port))
            tried = json.loads(await said(other, probe))
            assert not {what: how for what, how in tried.items() if "done" in how}
            seen = "print(len([p for p in os.listdir('/proc') if p.isdigit()]))"
            assert int(await said(other, seen)) < 12, "others' processes are seen"
            assert await said(kernel, "print(6 * 7)") == "42", "ada works on"

    asyncio.run(day())
    kept = hub.folder / "learners/ada/workspace/ada.txt"
    assert kept.read_text() == SECRET


RUNAWAYS = {
    "an endless loop in many threads": """
import threading
def spin():
    while True: sum(range(10**6))
for _ in range(20): threading.Thread(target=spin).start()
while True: pass""",
    "all memory there is": """
held = []
while True: held.append(b"x" * 50_000_000)""",
    "a bomb of processes": """
import os, time
while True:
    try: os.fork()
    except OSError: time.sleep(1)""",
}


@APART
@pytest.mark.parametrize("name", RUNAWAYS)
def test_a_runaway_stops_nobody_else_and_can_be_stopped(hub, name):
    async def day() -> None:
        async with hub.inside("ben") as ben, kernel_of(ben) as kernel:
            await said(kernel, "x = 41")
            async with hub.inside("ada") as ada:
                bad = await ada.kernel()
                content = {"code": RUNAWAYS[name], "silent": False}
                await bad.send("execute_request", content)
                await asyncio.sleep(2)
                assert await said(kernel, "print(x + 1)", 60) == "42"
                async with kernel_of(ben) as another:
                    assert await said(another, "print(6 * 7)", 100) == "42"
                await bad.close()
                await ada.stop()
                await gone("ada")

    async def gone(learner: str) -> None:
        place = seat.Place(learner, "", str(hub.folder), -1, 0, 0)
        end = time.monotonic() + 60
        while seat.members(place.group) and time.monotonic() < end:
            await asyncio.sleep(0.2)
        assert not seat.members(place.group)
        uid = hub.known["learners"][learner]["uid"]
        assert not seat.owned(uid)

    asyncio.run(day())


def test_a_killed_hub_comes_back_with_files_servers_and_kernels(hub):
    async def before() -> tuple[str, str]:
        async with (
            hub.inside("ben") as ben,
            kernel_of(ben, kept=True) as kernel,
        ):
            server = await said(
                kernel, "import os; kept = 'in memory'; print(os.getppid())"
            )
            hub.stop(signal.SIGKILL)
            assert await said(kernel, "print(kept)") == "in memory", "no hub is needed"
            return kernel.number, server

    async def after(number: str, server: str) -> None:
        async with hub.inside("ben") as ben:
            kernel = await ben.connected(number)
            assert await said(kernel, "print(kept, os.getppid())") == (
                f"in memory {server}"
            )
            await kernel.close()
            answer = await ben.ask("GET", "/api/contents/ben.txt")
            assert answer.json()["content"] == "what ben wrote"

    number, server = asyncio.run(before())
    again = Running.start(hub.folder)
    assert again.known == hub.known
    hub.process = again.process
    asyncio.run(after(number, server))


def test_a_stopped_hub_leaves_nothing_running(hub):
    hub.stop(signal.SIGINT)
    end = time.monotonic() + 30
    while (left := processes_of(hub)) and time.monotonic() < end:
        time.sleep(0.2)
    assert not left
    for name in ("ada", "ben", ".trial"):
        place = seat.Place(name, "", str(hub.folder), -1, 0, 0)
        assert not list(seat.GROUPS.glob(f"**/{seat.PARENT}/{place.group}"))
    assert (hub.folder / "learners/ada/workspace/ada.txt").read_text() == SECRET


def processes_of(hub: Running) -> list[str]:
    """Command lines that name the hub's folder, or run under a learner's number."""
    numbers = {each["uid"] for each in hub.known["learners"].values()} - {-1}
    owned = {pid for uid in numbers for pid in seat.owned(uid)}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_text("utf-8", "replace")
            if str(hub.folder) in command or int(process.name) in owned:
                found.append(command.replace("\0", " "))
    return found
