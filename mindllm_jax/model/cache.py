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
    """Keys and values of the layers with one window of the pattern `Model.windows`, [L/P B S K H] for P windows."""

    keys: jax.Array
    values: jax.Array

    @property
    def slots(self) -> int:
        """S."""
        return self.keys.shape[2]

    def ring(self, layer: jax.Array) -> tuple[FloatBSKH, FloatBSKH]:
        """Returns the keys and values of a layer in the order of the slots."""
        return self.keys[layer], self.values[layer]

    def history(self, layer: jax.Array, lengths: IntB) -> tuple[FloatBSKH, FloatBSKH, IntBS]:
        """Returns a layer's keys and values in the order of positions, a row's last token in the last slot.

        Also returns 1 for the slots that hold a token, else 0.
        """
        slots = jnp.arange(self.slots)
        index = (lengths[:, None] + slots) % self.slots
        keys, values = (_take(ring, index) for ring in self.ring(layer))
        return keys, values, (slots >= self.slots - lengths[:, None]).astype(jnp.int32)

    def append(self, layer: jax.Array, keys: FloatBTKH, values: FloatBTKH, lengths: IntB, counts: IntB) -> LayerCache:
        """Returns the cache with the first `counts` of T new tokens of each row behind its `lengths` earlier ones."""
        return LayerCache(
            *(_append(stack, layer, new, lengths, counts) for stack, new in ((self.keys, keys), (self.values, values)))
        )


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


def _append(stack: jax.Array, layer: jax.Array, new: FloatBTKH, lengths: IntB, counts: IntB) -> jax.Array:
    slots = stack.shape[2]
    if new.shape[1] == 1:  # one write instead of a copy of the ring
        slot = jnp.where(counts > 0, lengths % slots, slots)
        return stack.at[layer, jnp.arange(len(new)), slot].set(new[:, 0], mode="drop")
    last = (lengths + counts - 1)[:, None]
    positions = last - (last - jnp.arange(slots)) % slots  # of the newest token that belongs into each slot
    index = positions - lengths[:, None]
    newest = _take(new, jnp.clip(index, 0, new.shape[1] - 1))
    return stack.at[layer].set(jnp.where((index >= 0)[..., None, None], newest, stack[layer]))


def _take(x: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, index[..., None, None], axis=1)
