"""A stand-in for an OpenAI-compatible endpoint, which also times out, fails and answers nonsense."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class EndpointServer(ThreadingHTTPServer):
    """Gives the reply of `answer` to every message, and lists the requests in `asked`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []

    def answer(self, text: str) -> Any:
        """Returns the text or the value in its place, "sleep" for a late reply, an HTTP status, or a body.

        A text that begins with "cut " is one that the limit of tokens cut.
        """
        raise NotImplementedError

    @property
    def url(self) -> str:
        """The address, up to /v1."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Writes nothing: a client that gave up is expected."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serves while the block runs."""
        with self:
            threading.Thread(target=self.serve_forever, daemon=True).start()
            yield
            self.shutdown()


class Handler(BaseHTTPRequestHandler):
    """Answers a request as the server says."""

    def log_message(self, format: str, *args: Any) -> None:
        """Writes nothing."""

    def do_POST(self) -> None:
        """Answers one request."""
        assert isinstance(self.server, EndpointServer)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body | {"key": self.headers.get("Authorization")})
        reply = self.server.answer(body["messages"][0]["content"])
        if reply == "sleep":
            time.sleep(1.0)
            reply = "late"
        if isinstance(reply, int):
            self.send_response(reply)
            self.send_header("Retry-After", "3")
            self.end_headers()
            return
        finish = "length" if isinstance(reply, str) and reply.startswith("cut ") else "stop"
        choice = {"message": {"content": reply}, "finish_reason": finish}
        content = reply if isinstance(reply, bytes) else json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
