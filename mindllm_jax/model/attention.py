"""Self-attention with grouped key-value heads over packed rows, and over a cache when decoding."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

from mindllm_jax.kernels.block_ranges import BlockRanges
from mindllm_jax.kernels.flash_attention import flash_attention
from mindllm_jax.model.cache import LayerCache, Rows
from mindllm_jax.model.cached_attention import attend_to_cached
from mindllm_jax.model.config import Model
from mindllm_jax.model.initialisation import bias, matrix
from mindllm_jax.model.linear import GradientSums, add_bias
from mindllm_jax.model.lora import Lora, adapted_matmul, adapter
from mindllm_jax.model.positions import Angles, rotate
from mindllm_jax.model.prefix import PrefixMask, merge
from mindllm_jax.model.residual import residual_scheme
from mindllm_jax.shapes import FloatBSKH, FloatBTD, FloatBTKH, FloatBTNH, IntBS, IntBT


class Attention(nnx.Module):
    """Causal attention from [B T D] to [B T D]; documents of a packed row do not see each other.

    `window`, an argument of both methods, is the number of tokens that a query sees, itself included; None: all.
    """

    def __init__(
        self, config: Model, *, rngs: nnx.Rngs, partition: PartitionSpec | None = None, lora: Lora | None = None
    ):
        width, heads, kv_heads, head_dim = config.width, config.heads, config.key_heads, config.head_dim
        scheme = residual_scheme(config)
        shape, kv_shape = (width, heads, head_dim), (width, kv_heads, head_dim)
        self.query = matrix(config, rngs, ("width", "heads", "head_dim"), shape, inputs=1)
        self.key = matrix(config, rngs, ("width", "kv_heads", "head_dim"), kv_shape, inputs=1)
        self.value = matrix(config, rngs, ("width", "kv_heads", "head_dim"), kv_shape, inputs=1, gain=scheme.inner)
        self.out = matrix(
            config, rngs, ("heads", "head_dim", "width"), (heads, head_dim, width), inputs=2, gain=scheme.outer
        )
        kind, kv_axes = "query_key_value", ("kv_heads", "head_dim")
        self.query_bias = bias(config, kind, ("heads", "head_dim"), shape[1:])
        self.key_bias = bias(config, kind, kv_axes, kv_shape[1:])
        self.value_bias = bias(config, kind, kv_axes, kv_shape[1:])
        self.out_bias = bias(config, "attention_out", ("features",), (width,))
        self.query_adapter = adapter(config, lora, "query", self.query, inputs=1, rngs=rngs)
        self.key_adapter = adapter(config, lora, "key", self.key, inputs=1, rngs=rngs)
        self.value_adapter = adapter(config, lora, "value", self.value, inputs=1, rngs=rngs)
        self.out_adapter = adapter(config, lora, "out", self.out, inputs=2, rngs=rngs)
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
        prefixes: Sequence[PrefixMask] = (),
    ) -> FloatBTD:
        query, key, value = self._project(x, angles)
        attended = flash_attention(
            query,
            key,
            value,
            segment_ids=segment_ids,
            block_ranges=ranges,
            window=window,
            scale=self.scale,
            partition=self.partition,
            return_lse=bool(prefixes),
            implementation=self.implementation,
        )
        for prefix in prefixes:
            assert isinstance(attended, tuple)
            to_prefix = prefix.attend(
                query,
                key,
                value,
                window=window,
                scale=self.scale,
                partition=self.partition,
                implementation=self.implementation,
            )
            attended = merge(attended, to_prefix)
        return self._project_out(attended[0] if isinstance(attended, tuple) else attended)

    def decode(
        self,
        x: FloatBTD,
        cache: LayerCache,
        layer: jax.Array,
        rows: Rows,
        angles: Angles | None,
        window: int | None,
    ) -> tuple[FloatBTD, LayerCache]:
        """Attends from T new tokens of some rows to themselves and to the cached ones before them.

        Also returns the cache with them. layer: the index of this layer in the cache.
        """
        query, key, value = self._project(x, angles)
        new_cache, slots = cache.append(layer, rows, key, value, window), cache.slots
        if x.shape[1] == 1:
            return self._project_out(attend_to_cached(query, new_cache, layer, rows, scale=self.scale)), new_cache
        new, offset = (jnp.arange(x.shape[1]) < rows.counts[:, None]).astype(jnp.int32), rows.start

        def attend(keys: FloatBSKH, values: FloatBSKH, filled: IntBS, offset: jax.Array) -> FloatBTNH:
            out = flash_attention(
                query,
                keys,
                values,
                segment_ids=(new, filled),
                q_offset=offset,
                window=window,
                scale=self.scale,
                partition=self.partition,
                implementation=self.implementation,
            )
            assert isinstance(out, jax.Array)
            return out

        if window is not None:  # the first tokens see some that the last ones replace in the ring
            before = (jnp.roll(ring, -offset, axis=1) for ring in cache.read(layer, rows))
            keys, values = (jnp.concatenate(pair, axis=1) for pair in zip(before, (key, value), strict=True))
            filled = jnp.broadcast_to(jnp.arange(slots) >= slots - offset, (len(x), slots)).astype(jnp.int32)
            out = attend(keys, values, jnp.concatenate([filled, new], axis=1), jnp.int32(slots))
        else:  # the first tokens of a row see each other alone, and the cache is not read
            filled = (jnp.arange(slots) < (rows.lengths + rows.counts)[:, None]).astype(jnp.int32)
            out = jax.lax.cond(
                offset == 0,
                lambda: attend(key, value, new, offset),
                lambda: attend(*new_cache.read(layer, rows), filled, offset),
            )
        return self._project_out(out), new_cache

    def _project(self, x: FloatBTD, angles: Angles | None) -> tuple[FloatBTNH, FloatBTKH, FloatBTKH]:
        sums = self.gradient_sums
        query = adapted_matmul(x, self.query[...], self.query_adapter, gradient_sums=sums)
        key = adapted_matmul(x, self.key[...], self.key_adapter, gradient_sums=sums)
        value = adapted_matmul(x, self.value[...], self.value_adapter, gradient_sums=sums)
        query, key, value = (
            add_bias(part, bias)
            for part, bias in ((query, self.query_bias), (key, self.key_bias), (value, self.value_bias))
        )
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        return query, key, value

    def _project_out(self, out: FloatBTNH) -> FloatBTD:
        product = adapted_matmul(out, self.out[...], self.out_adapter, 2, gradient_sums=self.gradient_sums)
        return add_bias(product, self.out_bias)
