"""A real server on loopback that answers by a script, for answers that the service rarely gives."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.service.process import free_port

__all__ = ["DROP", "Line", "Scripted", "nobody", "scripted"]


@dataclass(frozen=True)
class Line:
    """One answer; `claimed` is a Content-Length other than its body's, and status 0 closes without a word."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    claimed: int | None = None


DROP = Line(0)


@dataclass
class Scripted:
    """The server's URL, its next answers, and the methods, paths, headers and bodies of the requests."""

    url: str
    lines: list[Line]
    methods: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@contextmanager
def scripted(*lines: Line) -> Iterator[Scripted]:
    """A server that gives these answers, in order."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        script = Scripted(f"http://127.0.0.1:{server.server_port}", list(lines))
        server.script = script  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()


def nobody() -> str:
    """A URL without a server."""
    return f"http://127.0.0.1:{free_port()}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        script: Scripted = self.server.script  # type: ignore[attr-defined]
        script.methods.append(self.command)
        script.paths.append(self.path)
        script.headers.append({name.lower(): value for name, value in self.headers.items()})
        script.bodies.append(self.rfile.read(int(self.headers.get("content-length", 0))))
        line = script.lines.pop(0)
        self.close_connection = True
        if not line.status:
            return
        self.send_response(line.status)
        for name, value in line.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(line.body) if line.claimed is None else line.claimed))
        self.end_headers()
        self.wfile.write(line.body)

    do_GET = do_PUT = do_DELETE = do_POST  # noqa: N815 - http.server's own names

    def log_message(self, format: str, *given: object) -> None:
        """Log nothing."""
