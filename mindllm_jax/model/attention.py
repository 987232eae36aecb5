"""Self-attention with grouped key-value heads over packed rows, and over a cache when decoding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

from mindllm_jax.kernels.block_ranges import BlockRanges
from mindllm_jax.kernels.flash_attention import flash_attention
from mindllm_jax.model.cache import LayerCache, append, filled_history, history
from mindllm_jax.model.config import Model
from mindllm_jax.model.initialisation import bias, matrix
from mindllm_jax.model.linear import GradientSums, add_bias, matmul
from mindllm_jax.model.positions import Angles, rotate
from mindllm_jax.model.residual import residual_scheme
from mindllm_jax.shapes import FloatBTD, FloatBTKH, FloatBTNH, IntB, IntBT


class Attention(nnx.Module):
    """Causal attention from [B T D] to [B T D]; documents of a packed row do not see each other.

    `window`, an argument of both methods, is the number of tokens that a query sees, itself included; None: all.
    """

    def __init__(self, config: Model, *, rngs: nnx.Rngs, partition: PartitionSpec | None = None):
        width, heads, kv_heads, head_dim = config.width, config.heads, config.key_heads, config.head_dim
        gain = residual_scheme(config).beta
        shape, kv_shape = (width, heads, head_dim), (width, kv_heads, head_dim)
        self.query = matrix(config, rngs, ("width", "heads", "head_dim"), shape, inputs=1)
        self.key = matrix(config, rngs, ("width", "kv_heads", "head_dim"), kv_shape, inputs=1)
        self.value = matrix(config, rngs, ("width", "kv_heads", "head_dim"), kv_shape, inputs=1, gain=gain)
        self.out = matrix(config, rngs, ("heads", "head_dim", "width"), (heads, head_dim, width), inputs=2, gain=gain)
        kind, kv_axes = "query_key_value", ("kv_heads", "head_dim")
        self.query_bias = bias(config, kind, ("heads", "head_dim"), shape[1:])
        self.key_bias = bias(config, kind, kv_axes, kv_shape[1:])
        self.value_bias = bias(config, kind, kv_axes, kv_shape[1:])
        self.out_bias = bias(config, "attention_out", ("features",), (width,))
        self.scale = config.attention_scale
        self.implementation = config.attention
        self.gradient_sums: GradientSums = config.gradient_sums
        self.partition = partition

    def __call__(
        self,
        x: FloatBTD,
        segment_ids: IntBT | None,
        ranges: BlockRanges | None,
        angles: Angles | None,
        window: int | None,
    ) -> FloatBTD:
        query, key, value = self._project(x, angles)
        out = flash_attention(
            query,
            key,
            value,
            segment_ids=segment_ids,
            block_ranges=ranges,
            window=window,
            scale=self.scale,
            partition=self.partition,
            implementation=self.implementation,
        )
        assert isinstance(out, jax.Array)  # and no log-sum-exp
        return self._project_out(out)

    def decode(
        self,
        x: FloatBTD,
        cache: LayerCache,
        lengths: IntB,
        counts: IntB,
        angles: Angles | None,
        window: int | None,
        *,
        fresh: bool,
    ) -> tuple[FloatBTD, LayerCache]:
        """Attends from the first `counts` of T new tokens to themselves and to the `lengths` cached ones before them.

        Also returns the new cache. fresh: no row has cached tokens.
        """
        query, key, value = self._project(x, angles)
        keys, values = (append(ring, new, lengths, counts) for ring, new in zip(cache, (key, value), strict=True))
        new = (jnp.arange(x.shape[1]) < counts[:, None]).astype(jnp.int32)
        slots = cache.keys.shape[1]
        seen, offset = (key, value, new), 0
        if x.shape[1] == 1:
            # The order of the slots means nothing to a single query, which sees every token that is left.
            filled = (jnp.arange(slots) <= lengths[:, None]).astype(jnp.int32)
            seen, offset, window = (keys, values, filled), jnp.minimum(jnp.max(lengths), slots - 1), None
        elif not fresh:
            before = (*(history(ring, lengths) for ring in cache), filled_history(slots, lengths))
            seen = tuple(jnp.concatenate(parts, axis=1) for parts in zip(before, seen, strict=True))
            offset = slots
        out = flash_attention(
            query,
            seen[0],
            seen[1],
            segment_ids=(new, seen[2]),
            q_offset=offset,
            window=window,
            scale=self.scale,
            partition=self.partition,
            implementation=self.implementation,
        )
        assert isinstance(out, jax.Array)
        return self._project_out(out), LayerCache(keys, values)

    def _project(self, x: FloatBTD, angles: Angles | None) -> tuple[FloatBTNH, FloatBTKH, FloatBTKH]:
        query = add_bias(matmul(x, self.query[...], gradient_sums=self.gradient_sums), self.query_bias)
        key = add_bias(matmul(x, self.key[...], gradient_sums=self.gradient_sums), self.key_bias)
        value = add_bias(matmul(x, self.value[...], gradient_sums=self.gradient_sums), self.value_bias)
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        return query, key, value

    def _project_out(self, out: FloatBTNH) -> FloatBTD:
        return add_bias(matmul(out, self.out[...], 2, gradient_sums=self.gradient_sums), self.out_bias)
