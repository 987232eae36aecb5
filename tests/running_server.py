"""A running server of the tests of serving, and requests to it."""

import http.client
import json
from typing import Any, NamedTuple

from mindllm_jax.generation.scheduler import Batching, Scheduler

KEY = "right"
BATCHING = Batching(slots=4, queue=12, prefill_chunk=32)


class Reply(NamedTuple):
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


class Running(NamedTuple):
    """A running server."""

    port: int
    scheduler: Scheduler

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, path: str, body: bytes | dict[str, Any] | None = None, **headers: str) -> Reply:
        """Sends one request with the right key; a header is given as `content_type`."""
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        sent = {"authorization": f"Bearer {KEY}"} | {name.replace("_", "-"): value for name, value in headers.items()}
        connection = self.connect()
        try:
            connection.request("GET" if body is None else "POST", path, content, sent)
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()
