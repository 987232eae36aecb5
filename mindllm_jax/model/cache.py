"""Keys and values of earlier tokens, for decoding a few tokens at a time.

A layer's cache is a ring: the token at position p of a row lies in slot p mod S. A layer with a window has as many
slots as its window, every other layer as many as the longest row has tokens. Rows are independent: each has its length.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mindllm_jax.model.config import Model
from mindllm_jax.shapes import FloatBSKH, FloatBTKH, IntB, IntBS


class LayerCache(NamedTuple):
    """Keys and values of one layer, [B S K H]."""

    keys: FloatBSKH
    values: FloatBSKH


class Cache(NamedTuple):
    """The cache of all layers.

    Attributes:
        layers: for each window of `Model.windows`, the caches of its layers, stacked: [L/P B S K H], P windows.
        lengths: int32 [B], the tokens of each row so far.
    """

    layers: tuple[LayerCache, ...]
    lengths: IntB


def empty_cache(config: Model, batch: int, capacity: int) -> Cache:
    """Returns a cache for `batch` rows of up to `capacity` tokens, in the activations' dtype."""

    def layer(window: int | None) -> LayerCache:
        slots = capacity if window is None else min(window, capacity)
        shape = (config.layers // len(config.windows), batch, slots, config.key_heads, config.head_dim)
        return LayerCache(jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype))

    return Cache(tuple(map(layer, config.windows)), jnp.zeros(batch, jnp.int32))


def history(ring: FloatBSKH, lengths: IntB) -> FloatBSKH:
    """Returns the ring in the order of positions: the last token of a row is in the last slot."""
    slots = ring.shape[1]
    return _take(ring, (lengths[:, None] + jnp.arange(slots)) % slots)


def filled_history(slots: int, lengths: IntB) -> IntBS:
    """Returns 1 for the slots of `history` that hold a token, else 0."""
    return (jnp.arange(slots) >= slots - lengths[:, None]).astype(jnp.int32)


def append(ring: FloatBSKH, new: FloatBTKH, lengths: IntB, counts: IntB) -> FloatBSKH:
    """Returns the ring with the first `counts` of T new tokens of each row behind its `lengths` earlier ones."""
    slots = ring.shape[1]
    if new.shape[1] == 1:  # one write instead of a copy of the ring
        slot = jnp.where(counts > 0, lengths % slots, slots)
        return ring.at[jnp.arange(len(ring)), slot].set(new[:, 0], mode="drop")
    last = (lengths + counts - 1)[:, None]
    positions = last - (last - jnp.arange(slots)) % slots  # of the newest token that belongs into each slot
    index = positions - lengths[:, None]
    return jnp.where((index >= 0)[..., None, None], _take(new, jnp.clip(index, 0, new.shape[1] - 1)), ring)


def _take(x: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, index[..., None, None], axis=1)
