"""Errors of the API: a status code and OpenAI's error body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.responses import JSONResponse


class ApiError(Exception):
    """A request that is answered by an error.

    Attributes:
        status: the HTTP status code.
        message: what was wrong and what to do, for people.
        param: the field of the body that is wrong; None for another cause.
        code: a word for programs, as `model_not_found`.
        kind: OpenAI's `type` of the error.
        headers: headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.kind = status, message, param, code, kind
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, dict[str, str | None]]:
        """The error as OpenAI's API writes it."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """Returns the HTTP response."""
        from starlette.responses import JSONResponse

        return JSONResponse(self.body, self.status, self.headers)


def stopping() -> ApiError:
    """Returns the error of requests that meet the server while it shuts down."""
    return ApiError(503, "the server is shutting down", kind="server_error", code="shutting_down")
