"""Requests to a scheduler, and the pieces of their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mindllm_jax.generation.continuation import Continuation, Finish
from mindllm_jax.generation.sampling import Sampling

MOST_LOGPROBS = 20
"""Number of the most probable tokens whose probabilities can be reported, as in OpenAI's API."""

MOST_STOP_IDS = 8


@dataclass(frozen=True)
class Request:
    """One prompt, and how it is continued.

    Attributes:
        prompt: token ids.
        sampling: temperature, top-k, top-p, max_tokens and seed.
        stop_ids: tokens that end the continuation, at most `MOST_STOP_IDS`.
        stop_strings: texts that end it and are not part of it.
        logprobs: how many of the most probable tokens are reported for each new one; 0: the new one alone; None: none.
    """

    prompt: Sequence[int]
    sampling: Sampling
    stop_ids: tuple[int, ...]
    stop_strings: tuple[str, ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if len(self.stop_ids) > MOST_STOP_IDS:
            raise ValueError(f"{len(self.stop_ids)} stop tokens; at most {MOST_STOP_IDS} are possible")
        if self.logprobs is not None and not 0 <= self.logprobs <= MOST_LOGPROBS:
            raise ValueError(f"logprobs = {self.logprobs}: must be 0 to {MOST_LOGPROBS}")


class TokenLogprob(NamedTuple):
    """The natural logarithm of a token's probability at temperature 1, and of the most probable tokens'."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...]  # token and logarithm


class Piece(NamedTuple):
    """A part of an answer.

    Attributes:
        text: the text that becomes final: complete characters, without stop strings.
        tokens: the new tokens, without the end token.
        logprobs: one for each token if the request asks for them.
        finish: why the answer ends with this piece; None: it goes on.
        error: why it failed, or "".
    """

    text: str
    tokens: list[int]
    logprobs: list[TokenLogprob]
    finish: Finish | Literal["cancelled"] | None
    error: str = ""


class Ticket:
    """A request that a scheduler has accepted, by which it can be cancelled."""

    def __init__(self, request: Request, deliver: Callable[[Piece], None], continuation: Continuation) -> None:
        self.request, self.deliver, self.continuation = request, deliver, continuation
        self.cancelled = False
