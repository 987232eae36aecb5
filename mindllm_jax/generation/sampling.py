"""Choosing the next token from logits."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mindllm_jax.checks import require_at_least, require_seed


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen, and how many at most."""

    temperature: float = 0.8  # logits are divided by it; 0 takes the most probable token
    top_k: int | None = 40  # only the k most probable tokens are drawn from; None: all
    max_tokens: int = 128  # new tokens of one answer
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(self, 0, "temperature")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"Sampling.top_k = {self.top_k}: must be at least 1, or None for all tokens")
        require_at_least(self, 1, "max_tokens")
        require_seed(self, "seed")

    @property
    def choice(self) -> tuple[float, int | None]:
        """Temperature and top-k for `sample`: the most probable token is a draw from the one most probable token."""
        return (1.0, 1) if self.temperature == 0 else (self.temperature, self.top_k)


def sample(logits: jax.Array, keys: jax.Array, temperature: float | jax.Array, top_k: int | None) -> jax.Array:
    """One token id for each row, int32 [B].

    logits: [B V] float32; keys: typed random keys [B], one a row, so that what a row draws does not depend on the
    others; temperature: above 0. Of equal logits the first counts as the more probable.
    """
    draw = jax.vmap(jax.random.categorical)
    if top_k is None or top_k >= logits.shape[-1]:
        return draw(keys, logits / temperature).astype(jnp.int32)
    likely, ids = jax.lax.top_k(logits, top_k)
    drawn = draw(keys, likely / temperature)
    return jnp.take_along_axis(ids, drawn[:, None], axis=-1)[:, 0].astype(jnp.int32)
