"""A visitor of the explorer's page without a browser: asks for what the page needs, as
a browser does, and has its panel. For `make bench ARGS=visitors` and tests.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from urllib.parse import urljoin, urlsplit

import httpx

from tools.kernels import Kernel, Panel

PATIENCE = 120  # seconds for an answer
AT_ONCE = 6  # requests of one browser to one server
KERNEL = re.compile(r'"kernelId": "([0-9a-f-]{36})"')


class VisitFailedError(Exception):
    """The page did not come, or it has no panel."""


class Visitor:
    """One who opens the page at `address`, token included. panel, waited (seconds):
    once the page is open."""

    panel: Panel

    def __init__(self, address: str) -> None:
        self.address, self.waited = address, 0.0
        self.browser = httpx.AsyncClient(
            follow_redirects=True,
            timeout=PATIENCE,
            limits=httpx.Limits(max_connections=AT_ONCE),
        )

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
        await asyncio.gather(*(self._get(urljoin(self.address, f)) for f in files))
        base = "{0.scheme}://{0.netloc}".format(urlsplit(self.address))
        cookies = {each.name: each.value or "" for each in self.browser.cookies.jar}
        kernel = await Kernel.connected(base, "", found[1], cookies)
        self.panel = Panel(kernel, PATIENCE)
        await kernel.ask_states()
        if not self.panel.is_there:
            raise VisitFailedError("a panel without a picture")
        self.waited = time.monotonic() - begun

    async def _get(self, url: str) -> str:
        answer = await self.browser.get(url)
        return answer.raise_for_status().text

    async def _page(self) -> str:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return await self._get(self.address)
            except httpx.HTTPStatusError as error:
                again = error.response.headers.get("Retry-After")
                code = error.response.status_code
                if code != 503 or not again or time.monotonic() > end:
                    raise VisitFailedError(f"{code}: no page") from error
                await asyncio.sleep(float(again))

    async def leave(self) -> None:
        """Leave as one who closes the page, which says so."""
        kernel = self.panel.kernel
        url = urljoin(self.address, f"/voila/api/shutdown/{kernel.number}")
        token = self.address.partition("token=")[2]
        await self.browser.post(url, headers={"Authorization": f"token {token}"})
        await self.close()

    async def close(self) -> None:
        """Leave, as one who closes a laptop: without a word."""
        await self.panel.kernel.close()
        await self.browser.aclose()
