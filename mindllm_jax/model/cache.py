"""Keys and values of earlier tokens, for decoding a few tokens at a time.

A layer's cache is a ring: the token at position p of a row lies in slot p mod S. A layer with a window has as many
slots as its window, every other layer as many as the longest row has tokens. Rows are independent: each has its length.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mindllm_jax.model.config import Model
from mindllm_jax.shapes import FloatBSKH, FloatBTKH, IntB


class Rows(NamedTuple):
    """The rows of a cache that one call of the decoder reads and extends: b neighbours.

    Attributes:
        first: int32, the index of the first of them.
        lengths: int32 [b], their tokens so far. Where a call adds more than one token to a row, all are equal.
        counts: int32 [b], the new tokens of each, the first ones of T.
    """

    first: jax.Array
    lengths: IntB
    counts: IntB


class LayerCache(NamedTuple):
    """Keys and values of the layers with one window of the pattern `Model.windows`, [L/P B S K H] for P windows."""

    keys: jax.Array
    values: jax.Array

    @property
    def slots(self) -> int:
        """Number of slots of a row, S."""
        return self.keys.shape[2]

    def read(self, layer: jax.Array, rows: Rows) -> tuple[FloatBSKH, FloatBSKH]:
        """Returns the keys and values of a layer, [b S K H], in the order of the slots."""
        return _read(self.keys, layer, rows), _read(self.values, layer, rows)

    def append(self, layer: jax.Array, rows: Rows, keys: FloatBTKH, values: FloatBTKH) -> LayerCache:
        """Returns the cache with the new tokens of the rows behind their earlier ones."""
        return LayerCache(_append(self.keys, layer, rows, keys), _append(self.values, layer, rows, values))


class Cache(NamedTuple):
    """The cache of all layers.

    Attributes:
        layers: by window of `Model.windows`.
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


def _read(stack: jax.Array, layer: jax.Array, rows: Rows) -> FloatBSKH:
    return jax.lax.dynamic_slice(stack, _start(layer, rows), (1, len(rows.lengths), *stack.shape[2:]))[0]


def _append(stack: jax.Array, layer: jax.Array, rows: Rows, new: FloatBTKH) -> jax.Array:
    slots = stack.shape[2]
    if new.shape[1] == 1:  # one write instead of a copy of the ring
        slot = jnp.where(rows.counts > 0, rows.lengths % slots, slots)
        return stack.at[layer, rows.first + jnp.arange(len(new)), slot].set(new[:, 0], mode="drop")
    last = (rows.lengths + rows.counts - 1)[:, None]
    positions = last - (last - jnp.arange(slots)) % slots  # of the newest token that belongs into each slot
    index = positions - rows.lengths[:, None]
    newest = jnp.take_along_axis(new, jnp.clip(index, 0, new.shape[1] - 1)[..., None, None], axis=1)
    ring = jnp.where((index >= 0)[..., None, None], newest, _read(stack, layer, rows))
    return jax.lax.dynamic_update_slice(stack, ring[None], _start(layer, rows))


def _start(layer: jax.Array, rows: Rows) -> tuple[jax.Array, ...]:
    return layer, rows.first, *[jnp.int32(0)] * 3
