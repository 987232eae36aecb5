"""The files of the page are served with their types and a policy that lets them load nothing else."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mindllm_jax.serving.page_files import page_routes


def test_page_files(tmp_path: Path) -> None:
    pytest.importorskip("starlette", reason="starlette is not installed (the extra serve)")
    from starlette.responses import Response

    for name, content in (("index.html", "<p>你好"), ("page.css", "p {}"), ("page.js", "1"), ("notes.txt", "private")):
        (tmp_path / name).write_text(content, encoding="utf-8")
    routes = {route.path: route for route in page_routes(tmp_path)}
    assert {*routes} == {"/", "/page.css", "/page.js"}
    endpoint: Any = routes["/"].endpoint
    page: Response = asyncio.run(endpoint(None))
    assert page.body == "<p>你好".encode() and page.headers["content-type"] == "text/html; charset=utf-8"
    for route in routes.values():
        response: Response = asyncio.run(route.endpoint(None))
        assert response.headers["content-security-policy"].startswith("default-src 'self';")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-cache"
    script: Any = asyncio.run(routes["/page.js"].endpoint(None))
    assert script.headers["content-type"].startswith("text/javascript")
