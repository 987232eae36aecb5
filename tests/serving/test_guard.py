"""The guard behind a reverse proxy, as docs/serving.md describes it."""

import asyncio
from typing import Any

import pytest

from mindllm_jax.serving.guard import Guard, loopback_hosts

pytest.importorskip("starlette", reason="starlette is not installed (the extra serve)")


def status(listens_on: str, **headers: str) -> int:
    """Answers a request of the page, or of a client without the key, and returns the status."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: Any = {"type": "http", "path": "/v1/models", "method": "GET", "headers": pairs}
    asyncio.run(Guard(app, "key", loopback_hosts(listens_on))(scope, receive, send))
    return sent[0]["status"]


@pytest.mark.parametrize("site", ["chat.example.org", "chat.example.org:8443"])
def test_a_proxy_that_keeps_the_host(site: str) -> None:
    page = {"host": site, "origin": f"https://{site}"}
    assert status("0.0.0.0", **page, authorization="Bearer key") == 200
    assert status("0.0.0.0", **page) == 401
    assert status("127.0.0.1", **page, authorization="Bearer key") == 400


def test_a_proxy_that_changes_the_host_makes_the_page_another_site() -> None:
    page = {"origin": "https://chat.example.org", "authorization": "Bearer key"}
    assert status("0.0.0.0", host="10.0.0.7:8000", **page) == 403
