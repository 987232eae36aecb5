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
from mindllm_jax.model.positions import Angles, rotate
from mindllm_jax.model.residual import residual_scheme
from mindllm_jax.shapes import FloatBSKH, FloatBTD, FloatBTKH, FloatBTNH, IntBS, IntBT


class LayerCache(NamedTuple):
    """Keys and values of one layer, [B S K H], of which those before the cache's length are filled."""

    keys: FloatBSKH
    values: FloatBSKH


class Attention(nnx.Module):
    """Causal attention from [B T D] to [B T D]; documents of a packed row do not see each other."""

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
        self.gradient_sums: GradientSums = config.gradient_sums
        self.partition = partition

    def __call__(
        self, x: FloatBTD, segment_ids: IntBT | None, ranges: BlockRanges | None, angles: Angles | None
    ) -> FloatBTD:
        query, key, value = self._project(x, angles)
        out = flash_attention(
            query,
            key,
            value,
            segment_ids=segment_ids,
            block_ranges=ranges,
            window=self.window,
            partition=self.partition,
            implementation=self.implementation,
        )
        assert isinstance(out, jax.Array)  # and no log-sum-exp
        return matmul(out, self.out[...], 2, gradient_sums=self.gradient_sums)

    def decode(
        self,
        x: FloatBTD,
        cache: LayerCache,
        offset: jax.Array,
        segment_ids: tuple[IntBT, IntBS],
        angles: Angles | None,
    ) -> tuple[FloatBTD, LayerCache]:
        """Attends from T new tokens to themselves and to `offset` cached ones before them; also returns the new cache.

        segment_ids: of the new tokens [B T] and of all slots of the cache [B S]; 0 is padding.
        """
        query, key, value = self._project(x, angles)
        keys = jax.lax.dynamic_update_slice_in_dim(cache.keys, key, offset, axis=1)
        values = jax.lax.dynamic_update_slice_in_dim(cache.values, value, offset, axis=1)
        out = flash_attention(
            query,
            keys,
            values,
            segment_ids=segment_ids,
            q_offset=offset,
            window=self.window,
            partition=self.partition,
            implementation=self.implementation,
        )
        assert isinstance(out, jax.Array)
        return matmul(out, self.out[...], 2, gradient_sums=self.gradient_sums), LayerCache(keys, values)

    def _project(self, x: FloatBTD, angles: Angles | None) -> tuple[FloatBTNH, FloatBTKH, FloatBTKH]:
        query = matmul(x, self.query[...], gradient_sums=self.gradient_sums)
        key = matmul(x, self.key[...], gradient_sums=self.gradient_sums)
        value = matmul(x, self.value[...], gradient_sums=self.gradient_sums)
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        return query, key, value
