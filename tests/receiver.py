"""A web server that keeps what it was sent, as that of a chat does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "hook-5fbc41d7"  # noqa: S105 -- part of its URL
Got = list[tuple[str, Any]]
"""Method and document of each request."""


@contextmanager
def receiving(*, answers: Sequence[int] = (200,)) -> Iterator[tuple[str, Got]]:
    """Its URL, and what it has got so far. It answers with these statuses, and then with the last one."""
    got: Got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = answers[min(len(got), len(answers) - 1)]
            assert self.headers["Content-Type"] == "application/json"
            got.append((self.path, json.loads(body)))
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            got.append(("GET", None))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{SECRET}", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
