"""Keys and values of earlier tokens, for decoding a few tokens at a time.

A layer's cache is a ring: the token at position p of a row lies in slot p mod S. A layer with a window has as many
slots as its window, every other layer as many as the longest row has tokens. Rows are independent: each has its length.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mindllm_jax.model.config import Model
from mindllm_jax.shapes import FloatBKSH, FloatBSKH, FloatBTKH, IntB


class Rows(NamedTuple):
    """The rows of a cache that one call of the decoder reads and extends: b neighbours.

    Attributes:
        first: int32, the index of the first of them.
        lengths: int32 [b], their tokens so far. Where T > 1, those of rows with new tokens are equal.
        counts: int32 [b], the new tokens of each, the first ones of T.
    """

    first: jax.Array
    lengths: IntB
    counts: IntB

    @property
    def start(self) -> jax.Array:
        """Position of the first new token, int32; where rows are unequally long, that of the longest."""
        return jnp.max(jnp.where(self.counts > 0, self.lengths, 0))


class LayerCache(NamedTuple):
    """Keys and values of the layers with one window of the pattern `Model.windows`, [L/P B K S H] for P windows.

    The slots of a head are contiguous, because decoding multiplies a query with all of them.
    """

    keys: jax.Array
    values: jax.Array

    @property
    def slots(self) -> int:
        """Number of slots of a row, S."""
        return self.keys.shape[3]

    def read(self, layer: jax.Array, rows: Rows) -> tuple[FloatBSKH, FloatBSKH]:
        """Returns the keys and values of a layer, [b S K H], in the order of the slots."""
        whole = self.read_slots(layer, rows, jnp.int32(0), self.slots)
        return jnp.moveaxis(whole[0], 1, 2), jnp.moveaxis(whole[1], 1, 2)

    def read_slots(self, layer: jax.Array, rows: Rows, start: jax.Array, count: int) -> tuple[FloatBKSH, FloatBKSH]:
        """Returns the keys and values in `count` slots from `start` on, [b K count H]."""
        return _read(self.keys, layer, rows, start, count), _read(self.values, layer, rows, start, count)

    def append(
        self, layer: jax.Array, rows: Rows, keys: FloatBTKH, values: FloatBTKH, window: int | None
    ) -> LayerCache:
        """Returns the cache with the new tokens of the rows behind their earlier ones.

        window: None where no row has more tokens than slots.
        """
        write = _append_one if keys.shape[1] == 1 else _append_behind if window is None else _append_to_ring
        return LayerCache(write(self.keys, layer, rows, keys), write(self.values, layer, rows, values))


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
        shape = (config.layers // len(config.windows), batch, config.key_heads, slots, config.head_dim)
        return LayerCache(jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype))

    return Cache(tuple(map(layer, config.windows)), jnp.zeros(batch, jnp.int32))


def _read(stack: jax.Array, layer: jax.Array, rows: Rows, start: jax.Array, count: int) -> FloatBKSH:
    sizes = (1, len(rows.lengths), stack.shape[2], count, stack.shape[4])
    return jax.lax.dynamic_slice(stack, (layer, rows.first, jnp.int32(0), start, jnp.int32(0)), sizes)[0]


def _write(stack: jax.Array, layer: jax.Array, rows: Rows, start: jax.Array, slots: FloatBKSH) -> jax.Array:
    return jax.lax.dynamic_update_slice(stack, slots[None], (layer, rows.first, jnp.int32(0), start, jnp.int32(0)))


def _append_one(stack: jax.Array, layer: jax.Array, rows: Rows, new: FloatBTKH) -> jax.Array:
    slots = stack.shape[3]
    slot = jnp.where(rows.counts > 0, rows.lengths % slots, slots)
    return stack.at[layer, rows.first + jnp.arange(len(new)), :, slot].set(new[:, 0], mode="drop")


def _append_behind(stack: jax.Array, layer: jax.Array, rows: Rows, new: FloatBTKH) -> jax.Array:
    """Writes the slots of the new tokens alone; padding behind them may reach beyond the last slot."""
    count = min(new.shape[1], stack.shape[3])
    start = jnp.minimum(rows.start, stack.shape[3] - count)
    shift = rows.start - start
    index = jnp.arange(count) - shift
    is_new = ((index >= 0) & (index < rows.counts[:, None]))[:, None, :, None]
    moved = jnp.roll(jnp.moveaxis(new[:, :count], 1, 2), shift, axis=2)
    return _write(stack, layer, rows, start, jnp.where(is_new, moved, _read(stack, layer, rows, start, count)))


def _append_to_ring(stack: jax.Array, layer: jax.Array, rows: Rows, new: FloatBTKH) -> jax.Array:
    slots, zero = stack.shape[3], jnp.int32(0)
    last = (rows.lengths + rows.counts - 1)[:, None]
    positions = last - (last - jnp.arange(slots)) % slots  # of the newest token that belongs into each slot
    index = positions - rows.lengths[:, None]
    places = jnp.clip(index, 0, new.shape[1] - 1)[:, None, :, None]
    newest = jnp.take_along_axis(jnp.moveaxis(new, 1, 2), places, axis=2)
    ring = jnp.where((index >= 0)[:, None, :, None], newest, _read(stack, layer, rows, zero, slots))
    return _write(stack, layer, rows, zero, ring)
