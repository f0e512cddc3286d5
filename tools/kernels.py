"""A kernel and the explorer's panel in it, spoken to as a browser does, less the
drawing: for tests and benches with many people at once."""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

LARGEST = 1 << 28  # bytes of a message
PATIENCE = 300  # seconds


class PanelError(Exception):
    """There is no panel, or it does not answer, or it shows an error."""


@dataclass
class Kernel:
    """A kernel's web socket. widgets: comm id -> what is known of its state."""

    number: str
    socket: ClientConnection
    widgets: dict[str, dict[str, Any]] = field(default_factory=dict)
    session: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    async def connected(
        cls,
        base: str,
        path: str,
        number: str,
        cookies: dict[str, str],
        protocols: list[str] | None = None,
    ) -> Self:
        """A kernel that runs on the server whose address is `base` and `path`.

        Raises:
            InvalidStatus: the server refuses.
        """
        socket = await connect(
            f"ws{base.removeprefix('http')}{path}/api/kernels/{number}/channels"
            f"?session_id={uuid.uuid4().hex}",
            additional_headers={
                "Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())
            },
            origin=base,  # pyright: ignore[reportArgumentType] - a str by another name
            subprotocols=protocols,  # pyright: ignore[reportArgumentType] - likewise
            max_size=LARGEST,
            open_timeout=PATIENCE,
            ping_interval=None,
        )
        return cls(number, socket)

    async def send(self, kind: str, content: dict[str, Any], **metadata: str) -> str:
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
            "metadata": metadata,
            "content": content,
            "channel": "shell",
            "buffers": [],
        }
        await self.socket.send(json.dumps(message))
        return number

    async def receive(self, patience: float = PATIENCE) -> dict[str, Any]:
        """The next message; what it says of widgets is kept."""
        raw = await asyncio.wait_for(self.socket.recv(), patience)
        message = read_message(raw)
        content = message["content"]
        if message["msg_type"] == "comm_open":
            self.widgets[content["comm_id"]] = dict(content["data"].get("state", {}))
        elif message["msg_type"] == "comm_msg":
            self._learn(content["comm_id"], content["data"])
        return message

    def _learn(self, comm: str, data: dict[str, Any]) -> None:
        self.widgets.setdefault(comm, {}).update(data.get("state") or {})
        if data.get("method") == "update_states":
            self.widgets |= {k: v["state"] for k, v in data["states"].items()}

    async def ask_states(self) -> None:
        """Get the state of every widget, as a page does that comes later."""
        comm = uuid.uuid4().hex
        target = {"target_name": "jupyter.widget.control", "data": {}}
        await self.send("comm_open", {"comm_id": comm, **target}, version="1.0.0")
        asked = {"comm_id": comm, "data": {"method": "request_states"}}
        await self.send("comm_msg", asked)
        async with asyncio.timeout(PATIENCE):  # for all: a kernel may have much to say
            while True:
                data = (await self.receive())["content"].get("data", {})
                if data.get("method") == "update_states":
                    return

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

    async def close(self) -> None:
        """Close the socket; the kernel runs on."""
        await self.socket.close()


@dataclass
class Outcome:
    """What a cell gave: its printed text, and its error or an empty text."""

    text: str = ""
    error: str = ""

    def add(self, kind: str, content: dict[str, Any]) -> None:
        """Take in one message."""
        if kind == "stream":
            self.text += content["text"]
        elif kind in ("execute_result", "display_data"):
            self.text += content["data"].get("text/plain", "")
        elif kind == "error":
            self.error = f"{content['ename']}: {content['evalue']}"


def read_message(raw: str | bytes) -> dict[str, Any]:
    """A message of Jupyter's older form: JSON, or JSON with buffers behind it."""
    if isinstance(raw, str):
        return json.loads(raw)
    count = int.from_bytes(raw[:4], "big")
    first, *more = (
        int.from_bytes(raw[4 * n : 4 * n + 4], "big") for n in range(1, count + 1)
    )
    return json.loads(raw[first : more[0] if more else None])


@dataclass
class Panel:
    """The explorer's panel in a kernel.

    patience: seconds for an answer; after them, and at an error that the panel shows,
        a PanelError.
    """

    kernel: Kernel
    patience: float = 120

    @property
    def is_there(self) -> bool:
        """Whether the kernel has shown it."""
        labels = [state.get("label") for state in self.kernel.widgets.values()]
        return "Sparsity" in labels and bool(self.picture)

    @property
    def picture(self) -> str:
        """The panel's picture, as text; empty before it is drawn."""
        shown = [str(state.get("value", "")) for state in self.kernel.widgets.values()]
        return next((value for value in shown if "<svg" in value), "")

    @property
    def slider(self) -> dict[str, Any]:
        """The slider's state: `index`, and the `names` of its stops."""
        return self.kernel.widgets[self._slider]

    @property
    def _slider(self) -> str:
        return self._widget(label="Sparsity")

    def _widget(self, **wanted: str) -> str:
        """The id of the first widget with such a state."""
        for name, state in self.kernel.widgets.items():
            if all(state.get(key) == value for key, value in wanted.items()):
                return name
        raise PanelError(f"no widget with {wanted}")

    async def move(self, stop: int) -> float:
        """Move the slider to a stop where it does not stand; the seconds until the
        picture shows it."""
        slider = self.slider
        slider["index"] = stop
        shows = f"at {slider['names'][stop]} ("
        return await self._set(self._slider, {"index": stop}, shows)

    async def choose(self, name: str, option: str) -> float:
        """Choose an option of the selection with that name; the seconds until the
        picture shows it."""
        selection = self._widget(description=name)
        labels = self.kernel.widgets[selection]["_options_labels"]
        return await self._set(selection, {"index": labels.index(option)}, option)

    async def _set(self, widget: str, state: dict[str, Any], shows: str) -> float:
        begun = time.perf_counter()
        data = {"method": "update", "state": state, "buffer_paths": []}
        await self.kernel.send("comm_msg", {"comm_id": widget, "data": data})
        async with self._answers() as answers:
            async for _ in answers:
                if shows in self.picture:
                    break
        return time.perf_counter() - begun

    async def press(self, button: str) -> None:
        """Press the button with that name."""
        click = {"method": "custom", "content": {"event": "click"}}
        content = {"comm_id": self._widget(description=button), "data": click}
        await self.kernel.send("comm_msg", content)

    async def until(self, words: str) -> None:
        """Wait until some widget says these words."""
        async with self._answers() as answers:
            async for content in answers:
                if words in json.dumps(content):
                    return

    @contextlib.asynccontextmanager
    async def _answers(self) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The contents of the kernel's messages about widgets, as they come."""
        try:
            async with asyncio.timeout(self.patience):
                yield self._contents()
        except TimeoutError:
            raise PanelError("the panel does not answer") from None
        except ConnectionClosed:
            raise PanelError("the kernel has gone") from None

    async def _contents(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            message = await self.kernel.receive()
            if message["msg_type"] != "comm_msg":
                continue
            state = message["content"]["data"].get("state") or {}
            if 'role="alert"' in str(state.get("value", "")):
                raise PanelError(state["value"])
            yield message["content"]
