"""JupyterHub's proxy in Python, with three things mended that the course needs: what a
server sends goes on as it comes (Voila's page grows for ten seconds), no request is cut
off after 20 s or waits because ten others do, and both ends of a web socket agree on
how they speak, bytes as bytes. For one machine; a real installation has the one in
Node, or Traefik.
"""

from contextlib import suppress
from typing import Any

from configurable_http_proxy import cli, configproxy, handlers
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.httputil import HTTPHeaders, parse_response_start_line
from tornado.iostream import StreamClosedError
from tornado.web import Application
from tornado.websocket import websocket_connect

AT_ONCE = 2000  # requests
LARGEST = 1 << 30  # bytes of an answer, or of a message of a web socket
# of one connection only, or made anew by tornado
HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade"}


class Handler(handlers.ProxyHandler):
    """One request, passed on."""

    def _get_proxy_request(self, url: str) -> HTTPRequest:
        request = super()._get_proxy_request(url)
        kept = HTTPHeaders()
        for name, value in request.headers.items():
            if not name.lower().startswith(("sec-websocket-", *HOP)):
                kept.add(name, value)
        request.headers = kept
        request.decompress_response = False
        request.request_timeout = 0  # none
        return request

    async def call_proxy(self, path: str | None = None) -> None:
        """Ask the server and send what comes, when it comes."""
        url = await self.get_target_url(path)
        if url is None:
            return
        request = self._get_proxy_request(url)
        request.header_callback = self.take_header
        request.streaming_callback = self.pass_on
        try:
            await AsyncHTTPClient().fetch(request, raise_error=False)
        except StreamClosedError:
            return  # nobody waits for it any more
        except Exception as error:  # noqa: BLE001 - the learner sees the hub's page of it
            if not self._headers_written:
                await self.handle_proxy_error(503, error)
            return
        if not self._finished:
            self.finish()

    def take_header(self, line: str) -> None:
        """One line of what comes before the answer's body."""
        line = line.strip()
        if line.startswith("HTTP/"):
            first = parse_response_start_line(line)
            self.set_status(first.code, first.reason)
            self._seen: set[str] = set()
        elif line:
            name, _, value = line.partition(":")
            self.add_once(name.strip(), value.strip())

    def add_once(self, name: str, value: str) -> None:
        """The server's header in place of the proxy's own; two of the server stay."""
        if name.lower() in HOP:
            return
        add = self.add_header if name.lower() in self._seen else self.set_header
        self._seen.add(name.lower())
        add(name, value)

    async def pass_on(self, chunk: bytes) -> None:
        """A piece of the answer's body."""
        self.write(chunk)
        await self.flush()

    def compute_etag(self) -> None:
        """None of the proxy's own."""
        return

    async def start_ws_client(self, path: str | None = None) -> None:
        """Open the other half of a web socket, in the words that the browser offers."""
        self.closed = False
        url = await self.get_target_url(path)
        if url is None:
            return
        request = self._get_proxy_request("ws" + url.removeprefix("http"))
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "")
        try:
            self.ws_client = await websocket_connect(
                request,
                on_message_callback=self.pass_message,
                max_message_size=LARGEST,
                subprotocols=[each.strip() for each in offered.split(",") if each],
            )
            if self.ws_client.protocol:
                self.ws_client.protocol.set_nodelay(True)
        except HTTPClientError as error:
            self.set_status(error.code)
            self.finish(error.message)
        except Exception as error:  # noqa: BLE001 - as above
            self.ws_client = None
            await self.handle_proxy_error(503, error)

    def pass_message(self, message: str | bytes | None) -> None:
        """From the server to the browser; None: the server has closed."""
        if message is None:
            self.close()
            return
        if self.target:
            self.proxy.update_last_activity(self.target["prefix"])
        with suppress(Exception):  # the browser has gone meanwhile
            self.write_message(message, binary=isinstance(message, bytes))

    def on_message(self, message: str | bytes) -> None:
        """From the browser to the server."""
        if self.ws_client and self.target:
            self.proxy.update_last_activity(self.target["prefix"])
            self.ws_client.write_message(message, binary=isinstance(message, bytes))

    def open(self, *_: str, **__: str) -> None:
        """Both halves are there."""
        self.set_nodelay(True)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:  # noqa: ARG002
        """What the server chose."""
        return self.ws_client.selected_subprotocol if self.ws_client else None


class Proxy(configproxy.PythonProxy):
    """The proxy with these handlers."""

    def __init__(self, options: Any = ()) -> None:
        super().__init__(options)
        self.proxy_app = Application(
            [(r"/(.*)", Handler, {"proxy": self})],
            websocket_max_message_size=LARGEST,
        )


if __name__ == "__main__":
    AsyncHTTPClient.configure(None, max_clients=AT_ONCE, max_body_size=LARGEST)
    cli.PythonProxy = Proxy
    cli.main()
