"""A learner as a program: logs in at the hub, starts a server and a kernel. What a
browser does, less the drawing; for tests and `make bench ARGS=hub`."""

import asyncio
import contextlib
import json
import re
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from tools.kernels import Kernel

FORM_TOKEN = re.compile(r'name="_xsrf" value="([^"]+)"')
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
        """Wait until the learner's server serves JupyterLab; starts it where it does
        not run. Hears of its progress as the hub's waiting page does.

        Raises:
            AssertionError: it does not within `patience` seconds; says what came.
        """
        said = ""
        await self.browser.get(f"/hub/spawn/{self.name}")
        path = f"/hub/api/users/{self.name}/server/progress"
        with contextlib.suppress(TimeoutError):
            async with (
                asyncio.timeout(patience),
                self.browser.stream("GET", path, headers=self.token("/hub/")) as events,
            ):
                async for line in events.aiter_lines():
                    said = line.removeprefix("data: ") or said
                    if line.startswith("data: ") and json.loads(said).get("ready"):
                        break
        page = await self.browser.get(f"{self.own}/lab")
        came = page.status_code == 200 and page.url.path.startswith(self.own)
        assert came, (page.status_code, str(page.url), said)

    def token(self, path: str) -> dict[str, str]:
        """The header that says that a page of `path` asks."""
        return {"X-XSRFToken": self.cookies(path).get("_xsrf", "")}

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
        return await self.browser.request(
            method, own + path, json=body, headers=self.token(f"{self.own}/")
        )

    async def stop(self) -> None:
        """Stop the learner's server, as the button of the hub's page does."""
        answer = await self.browser.delete(
            f"/hub/api/users/{self.name}/server", headers=self.token("/hub/")
        )
        assert answer.status_code in (202, 204), answer.text

    async def kernel(self) -> Kernel:
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
    ) -> Kernel:
        """A kernel that runs already. Raises InvalidStatus where that is refused."""
        path, cookies = f"/user/{user or self.name}", self.cookies(f"{self.own}/")
        return await Kernel.connected(self.base, path, number, cookies, protocols)
