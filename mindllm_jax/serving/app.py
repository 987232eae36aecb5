"""The routes of the server: the API, its health and the chat page."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

from mindllm_jax.serving.errors import ApiError
from mindllm_jax.serving.guard import Guard
from mindllm_jax.serving.page_files import page_routes
from mindllm_jax.serving.service import Service

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response


def make_app(service: Service, key: str | None = None, hosts: Collection[str] | None = None) -> Starlette:
    """Returns the ASGI application; `key` and `hosts` are as of `Guard`. Every error has OpenAI's error body."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    async def models(_request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [service.model.card]})

    async def model(request: Request) -> Response:
        service.model.check_name(request.path_params["name"])
        return JSONResponse(service.model.card)

    async def health(_request: Request) -> Response:
        status = "closing" if service.closing else "ok"
        load = {"active": service.scheduler.active, "waiting": service.scheduler.waiting}
        return JSONResponse({"status": status, **load}, 503 if service.closing else 200)

    async def api_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return error.response()

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path}: {error.detail}"
        return ApiError(error.status_code, message, headers=error.headers).response()

    async def disconnected(_request: Request, _error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it

    async def unexpected(_request: Request, _error: Exception) -> Response:  # its traceback is logged
        return ApiError(500, "the server failed; its log says why", kind="server_error").response()

    return Starlette(
        routes=[
            Route("/v1/chat/completions", partial(service.complete, chat=True), methods=["POST"]),
            Route("/v1/completions", partial(service.complete, chat=False), methods=["POST"]),
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", model),
            Route("/health", health),
            *page_routes(),
        ],
        middleware=[Middleware(Guard, key, hosts)],
        exception_handlers={
            ApiError: api_error,
            HTTPException: http_error,
            ClientDisconnect: disconnected,
            Exception: unexpected,
        },
    )
