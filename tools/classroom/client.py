"""A learner as a program: logs in at the hub, starts a server and a kernel, runs cells,
moves a slider, and sees what came back. What a browser does, less the drawing; for
tests and `make bench ARGS=hub`."""

import asyncio
import contextlib
import json
import re
import time
import uuid
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect

FORM_TOKEN = re.compile(r'name="_xsrf" value="([^"]+)"')
LARGEST = 1 << 28  # bytes of a message
PATIENCE = 300  # seconds


@dataclass
class Learner:
    """One session with the hub at `base`, `http://127.0.0.1:8000`."""

    base: str
    name: str
    password: str
    browser: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.browser = httpx.AsyncClient(
            base_url=self.base, follow_redirects=True, timeout=PATIENCE
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.browser.aclose()

    @property
    def own(self) -> str:
        """Where their server is."""
        return f"/user/{self.name}"

    async def hub(self, patience: float = 120) -> None:
        """Wait until the hub answers. Raises AssertionError where it does not."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                if (await self.browser.get("/hub/api/")).status_code == 200:
                    return
            await asyncio.sleep(0.2)
        raise AssertionError(f"no hub at {self.base}")

    async def login(self) -> bool:
        """Fill in the form; whether that let them in."""
        await self.hub()
        page = await self.browser.get("/hub/login")
        form = FORM_TOKEN.search(page.text)
        assert form, page.text
        answer = await self.browser.post(
            "/hub/login",
            data={
                "username": self.name,
                "password": self.password,
                "_xsrf": form[1],
            },
        )
        return answer.status_code == 200 and "/hub/login" not in str(answer.url)

    async def server(self, patience: float = PATIENCE) -> None:
        """Wait until the server that the login started serves JupyterLab.

        Raises:
            AssertionError: it does not within `patience` seconds; says what came.
        """
        end = time.monotonic() + patience
        while True:
            page = await self.browser.get(f"{self.own}/lab")
            if page.status_code == 200 and str(page.url.path).startswith(self.own):
                return
            if page.status_code == 424:  # it does not run, and nobody has asked for it
                await self.browser.get(f"/hub/spawn/{self.name}")
            assert time.monotonic() < end, (page.status_code, str(page.url))
            await asyncio.sleep(0.3)

    def cookies(self, path: str) -> dict[str, str]:
        """What a browser would send to `path`."""
        jar = self.browser.cookies.jar
        return {
            each.name: each.value or "" for each in jar if path.startswith(each.path)
        }

    async def ask(
        self, method: str, path: str, body: Any = None, user: str = ""
    ) -> httpx.Response:
        """Ask the learner's own server (or that of `user`) for something."""
        own = f"/user/{user or self.name}"
        token = self.cookies(f"{self.own}/").get("_xsrf", "")
        return await self.browser.request(
            method, own + path, json=body, headers={"X-XSRFToken": token}
        )

    async def stop(self) -> None:
        """Stop the learner's server, as the button of the hub's page does."""
        token = self.cookies("/hub/").get("_xsrf", "")
        answer = await self.browser.delete(
            f"/hub/api/users/{self.name}/server", headers={"X-XSRFToken": token}
        )
        assert answer.status_code in (202, 204), answer.text

    async def kernel(self) -> "Kernel":
        """A new kernel, connected."""
        made = await self.ask("POST", "/api/kernels", {"name": "python3", "path": ""})
        assert made.status_code == 201, made.text
        return await self.connected(made.json()["id"])

    async def end(self, number: str) -> None:
        """End a kernel."""
        answer = await self.ask("DELETE", f"/api/kernels/{number}")
        assert answer.status_code in (204, 404), answer.text

    async def connected(
        self, number: str, user: str = "", protocols: list[str] | None = None
    ) -> "Kernel":
        """A kernel that runs already. Raises InvalidStatus where that is refused."""
        path = f"/user/{user or self.name}/api/kernels/{number}/channels"
        path += f"?session_id={uuid.uuid4().hex}"
        pairs = [f"{k}={v}" for k, v in self.cookies(f"{self.own}/").items()]
        socket = await connect(
            f"ws{self.base.removeprefix('http')}{path}",
            additional_headers={"Cookie": "; ".join(pairs)},
            origin=self.base,  # pyright: ignore[reportArgumentType] - a str by another name
            subprotocols=protocols,  # pyright: ignore[reportArgumentType] - likewise
            max_size=LARGEST,
            open_timeout=PATIENCE,
            ping_interval=None,
        )
        return Kernel(number, socket)


@dataclass
class Kernel:
    """A kernel's web socket. widgets: comm id -> what is known of its state."""

    number: str
    socket: ClientConnection
    widgets: dict[str, dict] = field(default_factory=dict)
    session: str = field(default_factory=lambda: uuid.uuid4().hex)

    async def send(self, kind: str, content: dict, channel: str = "shell") -> str:
        """Send a message; gives its number."""
        number = uuid.uuid4().hex
        header = {
            "msg_id": number,
            "msg_type": kind,
            "session": self.session,
            "username": "",
            "version": "5.4",
        }
        message = {
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
            "channel": channel,
            "buffers": [],
        }
        await self.socket.send(json.dumps(message))
        return number

    async def receive(self, patience: float = PATIENCE) -> dict:
        """The next message; what it says of widgets is kept."""
        raw = await asyncio.wait_for(self.socket.recv(), patience)
        message = read_message(raw)
        content = message["content"]
        if message["msg_type"] == "comm_open":
            self.widgets[content["comm_id"]] = dict(content["data"].get("state", {}))
        elif message["msg_type"] == "comm_msg":
            state = content["data"].get("state", {})
            self.widgets.setdefault(content["comm_id"], {}).update(state)
        return message

    async def run(self, code: str, patience: float = PATIENCE) -> "Outcome":
        """Run a cell to its end."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        }
        number, outcome = await self.send("execute_request", content), Outcome()
        replied = idle = False
        while not (replied and idle):
            message = await self.receive(patience)
            if message["parent_header"].get("msg_id") != number:
                continue
            kind, said = message["msg_type"], message["content"]
            replied = replied or kind == "execute_reply"
            idle = idle or (kind == "status" and said["execution_state"] == "idle")
            outcome.add(kind, said)
        return outcome

    async def move(self, slider: str, index: int, patience: float = PATIENCE) -> float:
        """Move a slider as JupyterLab does; seconds until a picture that answers it has
        come. Returns when the kernel has done what it was asked."""
        started, drawn = time.perf_counter(), 0.0
        data = {"method": "update", "state": {"index": index}, "buffer_paths": []}
        number = await self.send("comm_msg", {"comm_id": slider, "data": data})
        while True:
            message = await self.receive(patience)
            if message["parent_header"].get("msg_id") != number:
                continue
            content = message["content"]
            changed = content.get("data", {}).get("state", {})
            if not drawn and "<svg" in str(changed.get("value", "")):
                drawn = time.perf_counter() - started
            if content.get("execution_state") == "idle":
                assert drawn, "the slider was moved, and no picture came"
                return drawn

    async def close(self) -> None:
        """Close the socket; the kernel runs on."""
        await self.socket.close()


@dataclass
class Outcome:
    """What a cell gave: its printed text, and its error or an empty text."""

    text: str = ""
    error: str = ""

    def add(self, kind: str, content: dict) -> None:
        """Take in one message."""
        if kind == "stream":
            self.text += content["text"]
        elif kind in ("execute_result", "display_data"):
            self.text += content["data"].get("text/plain", "")
        elif kind == "error":
            self.error = f"{content['ename']}: {content['evalue']}"


def read_message(raw: str | bytes) -> dict:
    """A message of Jupyter's older form: JSON, or JSON with buffers behind it."""
    if isinstance(raw, str):
        return json.loads(raw)
    count = int.from_bytes(raw[:4], "big")
    first, *more = (
        int.from_bytes(raw[4 * n : 4 * n + 4], "big") for n in range(1, count + 1)
    )
    return json.loads(raw[first : more[0] if more else None])
