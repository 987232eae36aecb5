"""An answer as server-sent events: chunks in OpenAI's shape, then `[DONE]`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from mindllm_jax.serving.answers import Answer
from mindllm_jax.serving.errors import ApiError
from mindllm_jax.serving.submission import Submission

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

PING = 15  # seconds between comments that keep a connection open
SEND_TIMEOUT = 60.0  # seconds after which a reader who takes nothing is disconnected


class EventStream:
    """The ASGI response that streams an answer.

    Args:
        submission: the requests of the answer.
        answer: makes the chunks.
        release: frees what the answer holds; called at its end, and when the client has left before or within it.
    """

    def __init__(self, submission: Submission, answer: Answer, release: Callable[[], None]):
        self._submission, self._answer, self._release = submission, answer, release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the response; a disconnected client ends it."""
        from sse_starlette import EventSourceResponse

        response = EventSourceResponse(self._events(), ping=PING, sep="\n", send_timeout=SEND_TIMEOUT)
        try:
            with contextlib.suppress(TimeoutError):  # of SEND_TIMEOUT
                await response(scope, receive, send)
        finally:
            self._release()

    async def _events(self) -> AsyncIterator[dict[str, str]]:
        for chunk in self._answer.opening():
            yield _event(chunk)
        try:
            async for index, piece in self._submission.pieces():
                chunk = self._answer.chunk(index, piece)
                if chunk is not None:
                    yield _event(chunk)
        except ApiError as error:
            yield _event(error.body)
            return
        for chunk in self._answer.closing():
            yield _event(chunk)
        yield {"data": "[DONE]"}


def _event(value: dict[str, Any]) -> dict[str, str]:
    return {"data": json.dumps(value, ensure_ascii=False)}
