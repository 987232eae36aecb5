"""Sampling of the next token from logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mindllm_jax.checks import require_at_least, require_seed
from mindllm_jax.shapes import FloatBV, IntB, KeyB

CANDIDATES = 256
"""Number of most probable tokens that top-k and top-p look at: sorting a vocabulary takes longer than a step."""


@dataclass(frozen=True)
class Sampling:
    """The settings of sampling, and the number of new tokens.

    Both limits hold: a token is drawn from the `top_k` most probable ones that are also among the fewest that reach
    `top_p` of the whole vocabulary's probability at this temperature. Hugging Face's transformers takes the share of
    what top-k leaves instead, and so keeps fewer tokens where both are set.
    """

    temperature: float = 0.8  # logits are divided by it; 0 takes the most probable token
    top_k: int | None = 40  # draw from the k most probable tokens; None: from all
    top_p: float = 1.0  # draw from the fewest tokens that reach this probability, of the 256 most probable; 1: all
    max_tokens: int | None = None  # new tokens at most; None: 128, or half of Model.max_seq_len where that is less
    seed: int = 0  # of the draws

    def __post_init__(self) -> None:
        require_at_least(self, 0, "temperature")
        if self.temperature > np.finfo(np.float32).max:
            raise ValueError(f"Sampling.temperature = {self.temperature}: must be a finite number of float32")
        if self.top_k is not None and not 1 <= self.top_k <= CANDIDATES:
            raise ValueError(f"Sampling.top_k = {self.top_k}: must be 1 to {CANDIDATES}, or None for all tokens")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"Sampling.top_p = {self.top_p}: must be above 0 and at most 1")
        require_at_least(self, 1, "max_tokens")
        require_seed(self, "seed")

    def new_tokens(self, max_seq_len: int) -> int:
        """Returns the most new tokens in a model of `max_seq_len` positions."""
        return min(128, max(1, max_seq_len // 2)) if self.max_tokens is None else self.max_tokens


class Choices(NamedTuple):
    """The settings by which each row draws, as arrays [B]; see `choices`."""

    temperature: jax.Array | np.ndarray  # float32; 0 takes the most probable token
    top_k: jax.Array | np.ndarray  # int32; 0: all tokens
    top_p: jax.Array | np.ndarray  # float32


def choices(rows: Sequence[Sampling]) -> Choices:
    """Returns the choices of rows that are sampled by these settings."""
    return Choices(
        np.array([row.temperature for row in rows], np.float32),
        np.array([row.top_k or 0 for row in rows], np.int32),
        np.array([row.top_p for row in rows], np.float32),
    )


def sample(logits: FloatBV, keys: KeyB, by: Choices) -> IntB:
    """Draws one token id for each row, int32 [B].

    logits: [B V] float32; keys: typed random keys [B], one per row, so that rows draw independently. Of equal logits
    the first counts as the more probable.
    """
    drawn = jnp.any(jnp.asarray(by.temperature) > 0)
    return jax.lax.cond(drawn, _draw, lambda logits, *_: _most_probable(logits), logits, keys, by)


def _most_probable(logits: FloatBV) -> IntB:
    """Returns the argmax of each row in two passes: a CPU takes several times as long for XLA's argmax."""
    last = logits.shape[-1] - 1
    best = logits == jnp.max(logits, axis=-1, keepdims=True)
    return jnp.min(jnp.where(best, jnp.arange(last + 1, dtype=jnp.int32), last), axis=-1)


def _draw(logits: FloatBV, keys: KeyB, by: Choices) -> IntB:
    temperature, top_k, top_p = map(jnp.asarray, by)
    below = logits - jnp.max(logits, axis=-1, keepdims=True)  # so that no temperature makes the largest infinite
    scaled = below / jnp.where(temperature > 0, temperature, 1)[:, None]
    top, ids = jax.lax.top_k(scaled, min(CANDIDATES, logits.shape[-1]))
    ranks = jnp.arange(top.shape[-1])
    probabilities = jnp.exp(top - jax.nn.logsumexp(scaled, axis=-1, keepdims=True))
    before = jnp.cumsum(probabilities, axis=-1) - probabilities  # of the more probable candidates
    limit = jnp.where(temperature > 0, jnp.where(top_k > 0, top_k, ranks.size), 1)
    allowed = (ranks < limit[:, None]) & (before < top_p[:, None])
    draw = jax.vmap(jax.random.categorical)
    drawn = draw(keys, jnp.where(allowed, top, -jnp.inf))
    chosen = jnp.take_along_axis(ids, drawn[:, None], axis=-1)[:, 0]
    from_all = (temperature > 0) & (top_k == 0) & (top_p == 1)
    every = jax.lax.cond(
        jnp.any(from_all), lambda: draw(keys, scaled).astype(chosen.dtype), lambda: jnp.zeros_like(chosen)
    )
    return jnp.where(from_all, every, chosen).astype(jnp.int32)
