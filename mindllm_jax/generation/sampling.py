"""Sampling of the next token from logits."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mindllm_jax.checks import require_at_least, require_seed
from mindllm_jax.shapes import FloatBV, IntB, KeyB


@dataclass(frozen=True)
class Sampling:
    """The settings of sampling, and the number of new tokens."""

    temperature: float = 0.8  # logits are divided by it; 0 takes the most probable token
    top_k: int | None = 40  # draw from the k most probable tokens; None: from all
    max_tokens: int | None = None  # new tokens at most; None: 128, or half of Model.max_seq_len where that is less
    seed: int = 0  # of the draws

    def __post_init__(self) -> None:
        require_at_least(self, 0, "temperature")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"Sampling.top_k = {self.top_k}: must be at least 1, or None for all tokens")
        require_at_least(self, 1, "max_tokens")
        require_seed(self, "seed")

    def new_tokens(self, max_seq_len: int) -> int:
        """Returns the most new tokens in a model of `max_seq_len` positions."""
        return min(128, max(1, max_seq_len // 2)) if self.max_tokens is None else self.max_tokens

    @property
    def choice(self) -> tuple[float, int | None]:
        """Temperature and top-k for `sample`; temperature 0, greedy, is top-k of 1."""
        return (1.0, 1) if self.temperature == 0 else (self.temperature, self.top_k)


def sample(logits: FloatBV, keys: KeyB, temperature: float | jax.Array, top_k: int | None) -> IntB:
    """Draws one token id for each row, int32 [B].

    logits: [B V] float32; keys: typed random keys [B], one per row, so that rows draw independently; temperature: above
    0. Of equal logits the first counts as the more probable.
    """
    draw = jax.vmap(jax.random.categorical)
    if top_k is None or top_k >= logits.shape[-1]:
        return draw(keys, logits / temperature).astype(jnp.int32)
    top, ids = jax.lax.top_k(logits, top_k)
    drawn = draw(keys, top / temperature)
    return jnp.take_along_axis(ids, drawn[:, None], axis=-1)[:, 0].astype(jnp.int32)
