"""An HTTP server on this machine that has one file, or some, and misbehaves as it is told to."""

import contextlib
import dataclasses
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """A request, and the means to answer it."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        content: Content = self.server.content
        content.asked.append((self.path, self.headers.get("Range")))
        answers = content.answers_of.get(self.path) or content.answers
        answer = answers.pop(0) if answers else serve
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # whoever asked was killed
            answer(self)
        self.close_connection = True

    def log_message(self, format: str, *_: Any) -> None:
        """The tests look at `asked`."""

    @property
    def content(self) -> "Content":
        return self.server.content

    def head(self, status: int, headers: dict[str, object]) -> None:
        self.send_response(status)
        for name, value in {"Connection": "close", **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()


@dataclasses.dataclass
class Content:
    """What the server has, what it does with the next requests (afterwards it behaves), and what it was asked for.

    `raw` is at every path that has no file of its own in `files`; so it is with `answers` and `answers_of`.
    """

    url: str
    raw: bytes = b""
    mark: dict[str, object] = dataclasses.field(default_factory=lambda: {"ETag": '"1"'})
    answers: list[Answer] = dataclasses.field(default_factory=list)
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    answers_of: dict[str, list[Answer]] = dataclasses.field(default_factory=dict)
    asked: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)

    @property
    def ranges(self) -> list[str | None]:
        return [range for _, range in self.asked]


def serve(
    request: Request,
    *,
    until: int | None = None,
    ranges: bool = True,
    honours_if_range: bool = True,
    pause: Callable[[], object] = lambda: None,
) -> None:
    """Sends the file or a part of it; pauses and ends the connection where the file is `until` bytes long."""
    raw, mark = request.content.files.get(request.path, request.content.raw), request.content.mark
    asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
    start = int(asked[1]) if asked and ranges else 0
    condition = request.headers.get("If-Range")
    if condition and honours_if_range and condition not in mark.values():
        start = 0
    if start:
        span = f"bytes {start}-{len(raw) - 1}/{len(raw)}"
        request.head(206, {"Content-Length": len(raw) - start, "Content-Range": span, **mark})
    else:
        request.head(200, {"Content-Length": len(raw), **mark})
    request.wfile.write(raw[start:until])
    request.wfile.flush()
    pause()


def cut(at: int, **options: Any) -> Answer:
    """Ends the connection where the file is `at` bytes long."""
    return lambda request: serve(request, until=at, **options)


def status(code: int, **headers: object) -> Answer:
    """Answers with a status and a page that tells it."""
    page = b"<!DOCTYPE html><title>Sorry</title>"
    told = {"Content-Length": len(page), "Content-Type": "text/html", **headers}

    def answer(request: Request) -> None:
        request.head(code, told)
        request.wfile.write(page)

    return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    content: Content

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that are cut are what it is for."""


@contextlib.contextmanager
def running() -> Iterator[Content]:
    """Runs a server; its files are below `url`."""
    server = _Server(("127.0.0.1", 0), Request)
    server.content = Content(f"http://127.0.0.1:{server.server_port}/files")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.content
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
