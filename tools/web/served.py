"""A folder of the site, served to a browser on this machine, as any host would."""

import contextlib
import functools
import gzip
import http.server
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

TEXT = {".html", ".css", ".js", ".json", ".svg"}
PIECE = 8192  # bytes that are sent at once over a slow line


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *_: object) -> None:
        """Nothing on the terminal."""


class _Packed(_Quiet):
    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """Text goes packed, as static hosts send it."""
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if path.suffix not in TEXT or not path.is_file():
            return super().send_head()
        content = gzip.compress(path.read_bytes())
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)


class _Line:
    """A line that all connections share: so many bits a second."""

    def __init__(self, megabits: float, delay: float) -> None:
        self.seconds_a_byte, self.delay = 8 / (megabits * 1e6), delay / 1000
        self.lock, self.free = threading.Lock(), 0.0

    def wait(self, size: int) -> None:
        """Until so many bytes have gone through."""
        with self.lock:
            self.free = max(self.free, time.monotonic()) + size * self.seconds_a_byte
            until = self.free
        time.sleep(max(0.0, until - time.monotonic()))


class _Slow(_Quiet):
    line: _Line

    def copyfile(self, source: IO[bytes], outputfile: IO[bytes]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Send the file piece by piece, as fast as the line takes it."""
        time.sleep(self.line.delay)
        while piece := source.read(PIECE):
            self.line.wait(len(piece))
            outputfile.write(piece)


@contextlib.contextmanager
def served(
    folder: Path,
    *,
    megabits: float | None = None,
    delay: float = 0,
    packed: bool = False,
) -> Iterator[str]:
    """Its address, ending in a slash; the port is any that is free.

    Args:
        megabits: a second, of a line that all connections share; by default as fast as
            the machine is. A browser's own throttle does not reach its workers.
        delay: milliseconds before each answer.
        packed: whether text is sent packed; not over a slow line.
    """
    kind = _Packed if packed else _Quiet
    if megabits is not None:
        kind = type("Slow", (_Slow,), {"line": _Line(megabits, delay)})
    handler = functools.partial(kind, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
