"""Requests that are submitted together are accepted together."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mindllm_jax.generation.requests import Piece, Request
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.generation.scheduler import QueueFull
from mindllm_jax.serving.errors import ApiError
from mindllm_jax.serving.submission import Submission


class TwoPlaces:
    """A scheduler that accepts two requests and refuses the third."""

    def __init__(self, error: Exception):
        self.accepted, self.cancelled, self._error = list[Request](), list[Request](), error

    def submit(self, request: Request, deliver: Callable[[Piece], None]) -> Request:
        if len(self.accepted) == 2:
            raise self._error
        self.deliver = deliver
        self.accepted.append(request)
        return request

    def cancel(self, ticket: Request) -> None:
        self.cancelled.append(ticket)


@pytest.mark.parametrize(
    ("error", "status"), [(QueueFull("2 requests are waiting"), 429), (ValueError("no such token"), 400)]
)
def test_one_that_is_refused_takes_the_others_along(error: Exception, status: int) -> None:
    scheduler: Any = TwoPlaces(error)

    async def submit() -> None:
        Submission(scheduler, [Request([1], Sampling(seed=seed), ()) for seed in range(3)])

    with pytest.raises(ApiError, match=str(error)) as raised:
        asyncio.run(submit())
    assert raised.value.status == status
    assert scheduler.cancelled == scheduler.accepted and len(scheduler.accepted) == 2


def test_logits_that_are_not_finite_are_an_error_of_the_server() -> None:
    scheduler: Any = TwoPlaces(ValueError())

    async def answer() -> None:
        submission = Submission(scheduler, [Request([1], Sampling(), ())])
        scheduler.deliver(Piece("", [], [], "failed", "the logits are not finite"))
        async for _ in submission.pieces():
            pass

    with pytest.raises(ApiError, match="the logits are not finite") as raised:
        asyncio.run(answer())
    assert raised.value.status == 500
