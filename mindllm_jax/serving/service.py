"""Answers completions: reads a body, submits its requests, and sends the answer whole or as a stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mindllm_jax.generation.requests import Piece
from mindllm_jax.generation.scheduler import Batching, Scheduler
from mindllm_jax.serving.answers import Answer
from mindllm_jax.serving.errors import ApiError, stopping
from mindllm_jax.serving.event_stream import EventStream
from mindllm_jax.serving.fields import parse_object
from mindllm_jax.serving.request_bodies import TextBody, chat_body, text_body
from mindllm_jax.serving.served_model import ServedModel
from mindllm_jax.serving.submission import Submission

if TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response

GRACE = 3.0  # seconds that running answers have to finish when the server is stopped


class Service:
    """The completions of one model.

    Args:
        model: the served model.
        scheduler: generates the answers; its loop runs in another thread.
        batching: its settings.
        max_body_bytes: bytes of a request's body at most.
    """

    def __init__(self, model: ServedModel, scheduler: Scheduler, batching: Batching, max_body_bytes: int):
        self.model, self.scheduler = model, scheduler
        self.closing = False
        self._places = batching.slots + batching.queue
        self._max_body_bytes = max_body_bytes
        self._open: set[Submission] = set()

    async def complete(self, request: HttpRequest, *, chat: bool) -> Response | EventStream:
        """Answers a request for a chat or text completion. Raises ApiError."""
        from starlette.responses import JSONResponse

        values = parse_object(await self._content(request))
        body = chat_body(values) if chat else text_body(values)
        self.model.check_name(body.model)
        count = body.n * (len(body.prompts) if isinstance(body, TextBody) else 1)
        if count > self._places:
            raise ApiError(400, f"{count} choices are more than the {self._places} that this server holds", param="n")
        # In another thread: a long text takes a while to encode, and answers are being streamed.
        requests = await asyncio.to_thread(self.model.requests, body)
        if self.closing:  # looked up last: what is submitted now, `fail` reaches
            raise stopping()
        prompt_tokens = sum(len(request.prompt) for request in requests[:: body.n])
        submission, answer = Submission(self.scheduler, requests), Answer(self.model, body, prompt_tokens, count)
        self._open.add(submission)
        if body.stream:
            return EventStream(submission, answer, lambda: self._release(submission))
        try:
            pieces = await _unless_disconnected(request, submission)
        finally:
            self._release(submission)
        return JSONResponse(answer.whole(pieces))

    async def close(self) -> None:
        """Refuses new requests, and ends running answers by an error if they do not finish within GRACE seconds."""
        self.closing = True
        deadline = asyncio.get_running_loop().time() + GRACE
        while self._open and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        self.fail(stopping())

    def fail(self, error: ApiError) -> None:
        """Ends all running answers by an error."""
        for submission in self._open:
            submission.fail(error)

    def _release(self, submission: Submission) -> None:
        submission.cancel()
        self._open.discard(submission)

    async def _content(self, request: HttpRequest) -> bytes:
        """Reads a body. Raises ApiError (413) as soon as it is too large, and (415) for one that is compressed."""
        if (encoding := request.headers.get("content-encoding", "identity").lower()) != "identity":
            raise ApiError(
                415, f"the body has Content-Encoding: {encoding}; send it as it is", code="unsupported_media"
            )
        parts, size = [], int(request.headers.get("content-length", 0))
        if size <= self._max_body_bytes:
            size = 0
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > self._max_body_bytes:
                    break
        if size > self._max_body_bytes:
            message = f"the body is larger than {self._max_body_bytes} bytes (Serve.max_body_bytes)"
            raise ApiError(413, message, code="request_too_large")
        return b"".join(parts)


async def _unless_disconnected(request: HttpRequest, submission: Submission) -> list[tuple[int, Piece]]:
    """Returns all pieces of an answer. Raises ClientDisconnect as soon as the client has left."""
    from starlette.requests import ClientDisconnect

    async def collect() -> list[tuple[int, Piece]]:
        return [piece async for piece in submission.pieces()]

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    collected, left = asyncio.ensure_future(collect()), asyncio.ensure_future(watch())
    try:
        await asyncio.wait({collected, left}, return_when=asyncio.FIRST_COMPLETED)
        if not collected.done():
            raise ClientDisconnect
        return collected.result()
    finally:
        collected.cancel()
        left.cancel()
