"""The choices of one answer while the scheduler generates them: from its thread to the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from functools import partial

from mindllm_jax.generation.requests import Piece, Request, Ticket
from mindllm_jax.generation.scheduler import QueueFull, Scheduler
from mindllm_jax.serving.errors import ApiError

RETRY_AFTER = 1  # seconds

log = logging.getLogger(__name__)


class Submission:
    """Requests that were submitted together and are answered together.

    Pieces wait in a queue of their own, so that a reader who is slow delays no other; an answer's `max_tokens` bounds
    it.

    Raises ApiError, with none of the requests submitted: 429 when the scheduler's queue is full, 400 for a request that
    it refuses.
    """

    def __init__(self, scheduler: Scheduler, requests: Sequence[Request]):
        self._scheduler = scheduler
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[tuple[int, Piece] | ApiError] = asyncio.Queue()
        self._tickets: list[Ticket] = []
        self._unfinished = set(range(len(requests)))
        try:
            for index, request in enumerate(requests):
                self._tickets.append(scheduler.submit(request, partial(self._deliver, index)))
        except QueueFull as error:
            self.cancel()
            raise ApiError(
                429,
                f"{error}; try again",
                kind="rate_limit_error",
                code="queue_full",
                headers={"Retry-After": str(RETRY_AFTER)},
            ) from None
        except ValueError as error:
            self.cancel()
            raise ApiError(400, str(error)) from None

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """Yields the pieces of all choices as they come, each with its choice.

        Raises ApiError as `fail` was given, and 500 where the model's logits are not finite.
        """
        while self._unfinished:
            item = await self._pieces.get()
            if isinstance(item, ApiError):
                raise item
            index, piece = item
            if piece.finish is not None:
                self._unfinished.discard(index)
            yield index, piece

    def fail(self, error: ApiError) -> None:
        """Ends the answer with an error, behind the pieces that came so far."""
        self._pieces.put_nowait(error)

    def cancel(self) -> None:
        """Frees the slots of what is not finished; idempotent."""
        for ticket in self._tickets:
            self._scheduler.cancel(ticket)
        self._tickets.clear()

    def _deliver(self, index: int, piece: Piece) -> None:
        if piece.finish == "cancelled":  # nobody reads it, or the scheduler has ended, of which `fail` has the reason
            return
        items: list[tuple[int, Piece] | ApiError] = [(index, piece)]
        if piece.finish == "failed":
            log.error("a request failed: %s", piece.error)
            failed = ApiError(500, piece.error, kind="server_error", code="not_finite")
            items = [(index, piece._replace(finish=None)), failed]
        with contextlib.suppress(RuntimeError):  # the loop was closed: the server has ended
            for item in items:
                self._loop.call_soon_threadsafe(self._pieces.put_nowait, item)
