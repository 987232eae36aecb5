"""Self-attention with grouped key-value heads over packed rows, and its cache for decoding."""

from __future__ import annotations

from typing import NamedTuple

import jax
from flax import nnx
from jax.sharding import PartitionSpec

from mindllm_jax.kernels.block_ranges import BlockRanges
from mindllm_jax.kernels.flash_attention import flash_attention
from mindllm_jax.model.config import Model
from mindllm_jax.model.initialisation import matrix
from mindllm_jax.model.linear import GradientSums, matmul
from mindllm_jax.model.positions import rotate
from mindllm_jax.model.residual import residual_scheme

Angles = tuple[jax.Array, jax.Array]


class LayerCache(NamedTuple):
    """Keys and values of one layer, [B S K H], of which those before the cache's length are filled."""

    keys: jax.Array
    values: jax.Array


class Attention(nnx.Module):
    """Causal attention; documents of a packed row do not see each other. Maps [B T D] to [B T D]."""

    def __init__(self, config: Model, *, rngs: nnx.Rngs, partition: PartitionSpec | None = None):
        width, heads, kv_heads, head_dim = config.width, config.heads, config.key_heads, config.head_dim
        gain = residual_scheme(config).beta
        shape, kv_shape = (width, heads, head_dim), (width, kv_heads, head_dim)
        self.query = matrix(config, rngs, ("width", "heads", "head_dim"), shape, inputs=1)
        self.key = matrix(config, rngs, ("width", "kv_heads", "head_dim"), kv_shape, inputs=1)
        self.value = matrix(config, rngs, ("width", "kv_heads", "head_dim"), kv_shape, inputs=1, gain=gain)
        self.out = matrix(config, rngs, ("heads", "head_dim", "width"), (heads, head_dim, width), inputs=2, gain=gain)
        self.window = config.window
        self.implementation = config.attention
        self.sums: GradientSums = config.gradient_sums
        self.partition = partition

    def _project(self, x: jax.Array, angles: Angles | None) -> tuple[jax.Array, jax.Array, jax.Array]:
        query = matmul(x, self.query[...], sums=self.sums)
        key = matmul(x, self.key[...], sums=self.sums)
        value = matmul(x, self.value[...], sums=self.sums)
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        return query, key, value

    def __call__(
        self, x: jax.Array, segment_ids: jax.Array | None, ranges: BlockRanges | None, angles: Angles | None
    ) -> jax.Array:
        query, key, value = self._project(x, angles)
        attended = flash_attention(
            query,
            key,
            value,
            segment_ids=segment_ids,
            block_ranges=ranges,
            window=self.window,
            partition=self.partition,
            implementation=self.implementation,
        )
        assert isinstance(attended, jax.Array)  # and no log-sum-exp
        return matmul(attended, self.out[...], 2, sums=self.sums)

    def decode(
        self,
        x: jax.Array,
        cache: LayerCache,
        offset: jax.Array,
        segment_ids: tuple[jax.Array, jax.Array],
        angles: Angles | None,
    ) -> tuple[jax.Array, LayerCache]:
        """As `__call__` for T new tokens that stand behind `offset` cached ones.

        segment_ids: of the new tokens [B T] and of the whole cache [B S], 0 where nothing is to be seen.
        """
        query, key, value = self._project(x, angles)
        keys = jax.lax.dynamic_update_slice_in_dim(cache.keys, key, offset, axis=1)
        values = jax.lax.dynamic_update_slice_in_dim(cache.values, value, offset, axis=1)
        attended = flash_attention(
            query,
            keys,
            values,
            segment_ids=segment_ids,
            q_offset=offset,
            window=self.window,
            partition=self.partition,
            implementation=self.implementation,
        )
        assert isinstance(attended, jax.Array)
        return matmul(attended, self.out[...], 2, sums=self.sums), LayerCache(keys, values)
