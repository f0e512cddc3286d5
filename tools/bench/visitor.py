"""A visitor of the explorer's page without a browser: asks for what the page needs, as
a browser does, and moves the panel's controls. For `make bench ARGS=visitors` and
tests.
"""

import asyncio
import contextlib
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urljoin

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

PATIENCE = 120  # seconds for an answer
AT_ONCE = 6  # requests of one browser to one server
KERNEL = re.compile(r'"kernelId": "([0-9a-f-]{36})"')
States = dict[str, dict[str, Any]]


class VisitFailedError(Exception):
    """The page did not come, or the panel did not answer."""


class Visitor:
    """One who opens the page at `address`, token included."""

    def __init__(self, address: str) -> None:
        self.address, self.session = address, uuid.uuid4().hex
        self.kernel, self.cookie, self.waited = "", "", 0.0
        self.client = AsyncHTTPClient(force_instance=True, max_clients=AT_ONCE)
        self.states: States = {}
        self._socket: WebSocketClientConnection | None = None

    async def open(self, files: Sequence[str] = ()) -> None:
        """Load the page and the files that it names, connect to the kernel, and get
        what the panel shows; told to wait, come again as told.

        Raises:
            VisitFailedError: the page has no panel.
        """
        begun = time.monotonic()
        page = await self._page()
        if not (found := KERNEL.search(page)):
            raise VisitFailedError(f"a page without a kernel: {page[-300:]!r}")
        self.kernel = found[1]
        await asyncio.gather(*(self._get(urljoin(self.address, f)) for f in files))
        await self._connect()
        await self._ask_states()
        if self.picture == "":
            raise VisitFailedError("a panel without a picture")
        self.waited = time.monotonic() - begun

    async def _get(self, url: str) -> str:
        request = HTTPRequest(
            url, headers={"Cookie": self.cookie}, request_timeout=PATIENCE
        )
        answer = await self.client.fetch(request)
        for cookie in answer.headers.get_list("Set-Cookie"):
            self.cookie = cookie.partition(";")[0]
        return answer.body.decode(errors="replace")

    async def _page(self) -> str:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return await self._get(self.address)
            except HTTPClientError as error:
                again = error.response and error.response.headers.get("Retry-After")
                if error.code != 503 or not again or time.monotonic() > end:
                    raise VisitFailedError(f"{error.code}: no page") from error
                await asyncio.sleep(float(again))

    async def _connect(self) -> None:
        path = f"/api/kernels/{self.kernel}/channels?session_id={self.session}"
        url = urljoin(self.address, path).replace("http", "ws", 1)
        headers = {"Cookie": self.cookie}
        request = HTTPRequest(url, headers=headers, connect_timeout=PATIENCE)
        self._socket = await websocket_connect(request)

    async def _ask_states(self) -> None:
        """What every widget of the kernel is, as the page asks for it."""
        comm = uuid.uuid4().hex
        target = {"target_name": "jupyter.widget.control", "data": {}}
        await self._send("comm_open", {"comm_id": comm, **target}, version="1.0.0")
        asked = {"comm_id": comm, "data": {"method": "request_states"}}
        await self._send("comm_msg", asked)
        async with self._answers() as answers:
            async for content in answers:
                data = content.get("data", {})
                if data.get("method") == "update_states":
                    self.states = {k: v["state"] for k, v in data["states"].items()}
                    return

    async def _send(self, kind: str, content: dict[str, Any], **metadata: str) -> None:
        if self._socket is None:
            raise VisitFailedError("nobody is connected yet")
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "username": ""}
        header |= {"session": self.session, "version": "5.3", "date": ""}
        message = {"header": header, "parent_header": {}, "metadata": metadata}
        message |= {"content": content, "channel": "shell", "buffers": []}
        await self._socket.write_message(json.dumps(message))

    @contextlib.asynccontextmanager
    async def _answers(self) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The contents of the kernel's messages about widgets, as they come."""
        try:
            async with asyncio.timeout(PATIENCE):
                yield self._contents()
        except TimeoutError:
            raise VisitFailedError("the panel does not answer") from None

    async def _contents(self) -> AsyncIterator[dict[str, Any]]:
        while self._socket is not None:
            line = await self._socket.read_message()
            if line is None:
                raise VisitFailedError("the kernel has gone")
            message = json.loads(line)
            if message.get("msg_type") == "comm_msg":
                self._learn(message["content"])
                yield message["content"]

    def _learn(self, content: dict[str, Any]) -> None:
        state = content["data"].get("state")
        if isinstance(state, dict) and content["comm_id"] in self.states:
            self.states[content["comm_id"]] |= state
            if 'role="alert"' in str(state.get("value", "")):
                raise VisitFailedError(state["value"])

    def _widget(self, **wanted: str) -> str:
        """The id of the first widget with such a state."""
        for name, state in self.states.items():
            if all(state.get(key) == value for key, value in wanted.items()):
                return name
        raise VisitFailedError(f"no widget with {wanted}")

    @property
    def picture(self) -> str:
        """The panel's picture, as text; empty before it is drawn."""
        values = [str(state.get("value", "")) for state in self.states.values()]
        return next((value for value in values if "<svg" in value), "")

    async def set(self, widget: str, state: dict[str, Any], shows: str) -> float:
        """Set a control; the seconds until the picture says so."""
        begun = time.monotonic()
        data = {"method": "update", "state": state, "buffer_paths": []}
        await self._send("comm_msg", {"comm_id": widget, "data": data})
        async with self._answers() as answers:
            async for _ in answers:
                if shows in self.picture:
                    return time.monotonic() - begun
        raise VisitFailedError(f"the picture does not show {shows!r}")

    async def move(self, stop: int) -> float:
        """Move the slider to a stop; the seconds until the picture shows it."""
        slider = self._widget(label="Sparsity")
        self.states[slider]["index"] = stop
        label = self.states[slider]["names"][stop]
        return await self.set(slider, {"index": stop}, f"at {label} (")

    async def choose(self, name: str, option: str) -> float:
        """Choose an option of the selection with that name."""
        selection = self._widget(description=name)
        index = list(self.states[selection]["_options_labels"]).index(option)
        return await self.set(selection, {"index": index}, option)

    async def press(self, button: str) -> None:
        """Press the button with that name."""
        click = {"method": "custom", "content": {"event": "click"}}
        content = {"comm_id": self._widget(description=button), "data": click}
        await self._send("comm_msg", content)

    async def until(self, words: str) -> None:
        """Wait until some widget says these words."""
        async with self._answers() as answers:
            async for content in answers:
                if words in json.dumps(content):
                    return

    async def leave(self) -> None:
        """Leave as one who closes the page, which says so."""
        url = urljoin(self.address, f"/voila/api/shutdown/{self.kernel}")
        token = self.address.partition("token=")[2]
        request = HTTPRequest(
            url, "POST", {"Authorization": f"token {token}"}, body=b""
        )
        await self.client.fetch(request)
        self.close()

    def close(self) -> None:
        """Leave, as one who closes a laptop: without a word."""
        if self._socket is not None:
            self._socket.close()
        self.client.close()
