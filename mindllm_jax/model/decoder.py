"""The decoder: an embedding, a scan over equal blocks, and the loss head's matrix."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from mindllm_jax.kernels.block_ranges import BlockRanges, block_ranges
from mindllm_jax.model.attention import Attention, LayerCache
from mindllm_jax.model.config import Model
from mindllm_jax.model.initialisation import EMBEDDING_STDDEV, normal
from mindllm_jax.model.mlp import MLP
from mindllm_jax.model.norms import NORMS
from mindllm_jax.model.positions import Angles, rope_angles
from mindllm_jax.model.residual import add_branch, residual_scheme
from mindllm_jax.parallel.layout import Layout
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.shapes import FloatBTD, FloatBTV, FloatDV, IntBS, IntBT

policies = jax.checkpoint_policies
REMAT = {
    "full": policies.nothing_saveable,  # keep each block's input, recompute the rest
    "dots": policies.dots_with_no_batch_dims_saveable,  # keep products with weights, recompute elementwise work
    "attention": policies.save_only_these_names("attention_out"),  # keep each block's input and attention's output
}
"""Remat policies by their name in `Model.remat`, where "none" keeps everything for the backward pass."""


class Cache(NamedTuple):
    """Keys and values of all layers [L B S K H], segment ids (0: empty or padding), and the filled length."""

    layers: LayerCache
    segment_ids: IntBS
    length: jax.Array


class Block(nnx.Module):
    """Attention and feed-forward from [B T D] to [B T D], each added to the residual stream by the scheme."""

    def __init__(self, config: Model, *, rngs: nnx.Rngs, layout: Layout):
        self.attention = Attention(config, rngs=rngs, partition=layout.attention_partition())
        self.mlp = MLP(config, rngs=rngs)
        self.attention_norm = NORMS[config.norm](config)
        self.mlp_norm = NORMS[config.norm](config)
        self.scheme = residual_scheme(config)

    def __call__(
        self, x: FloatBTD, segment_ids: IntBT | None, ranges: BlockRanges | None, angles: Angles | None
    ) -> FloatBTD:
        x = add_branch(self.scheme, self.attention_norm, lambda h: self.attention(h, segment_ids, ranges, angles), x)
        return add_branch(self.scheme, self.mlp_norm, self.mlp, x)

    def decode(
        self,
        x: FloatBTD,
        cache: LayerCache,
        offset: jax.Array,
        segment_ids: tuple[IntBT, IntBS],
        angles: Angles | None,
    ) -> tuple[FloatBTD, LayerCache]:
        """Applies the block to T new tokens after `offset` cached ones; see `Attention.decode`."""
        new_cache = cache

        def attend(h: FloatBTD) -> FloatBTD:
            nonlocal new_cache
            out, new_cache = self.attention.decode(h, cache, offset, segment_ids, angles)
            return out

        x = add_branch(self.scheme, self.attention_norm, attend, x)
        return add_branch(self.scheme, self.mlp_norm, self.mlp, x), new_cache


class Decoder(nnx.Module):
    """Decoder-only language model.

    The blocks' parameters are stacked on a leading axis L, so that a compiled step holds one block at any depth.
    `sharding` places parameters and activations on a mesh; None: one device.
    """

    def __init__(self, config: Model, *, rngs: nnx.Rngs, sharding: Sharding | None = None):
        layout = Layout(sharding)

        @nnx.split_rngs(splits=config.layers)
        @nnx.vmap(in_axes=0, out_axes=0)
        def stack(rngs: nnx.Rngs) -> Block:
            return Block(config, rngs=rngs, layout=layout)

        def table(rows: str, size: int) -> nnx.Param[jax.Array]:
            return normal(config, rngs, (rows, "width"), (size, config.width), stddev=EMBEDDING_STDDEV)

        self.embedding = table("vocab", config.vocab_size)
        self.positions = table("positions", config.max_seq_len) if config.positions == "learned" else None
        self.blocks = stack(rngs)
        self.final_norm = NORMS[config.norm](config) if residual_scheme(config).norm_first else None
        head_shape = (config.width, config.vocab_size)
        self.head_kernel = (
            None if config.tied else normal(config, rngs, ("width", "vocab"), head_shape, stddev=EMBEDDING_STDDEV)
        )
        self.config = config
        self.layout = layout

    @property
    def head(self) -> FloatDV:
        """The loss head's matrix [D V] in the parameters' dtype."""
        return self.embedding[...].T if self.head_kernel is None else self.head_kernel[...]

    def __call__(self, tokens: IntBT, *, segment_ids: IntBT | None = None, positions: IntBT | None = None) -> FloatBTD:
        """Returns the hidden states [B T D] after the last norm.

        segment_ids: tokens with equal ids see each other, 0 is padding; None: one document per row. positions: within
        the document; None: 0, 1, 2, …. Raises ValueError for rows longer than max_seq_len.
        """
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
        ranges = None if segment_ids is None else block_ranges(segment_ids)
        layout = self.layout
        x, angles = self._embed(layout.to_attention_order(tokens), layout.to_attention_order(positions))
        segment_ids = None if segment_ids is None else layout.to_attention_order(segment_ids)
        definition, stacked = nnx.split(self.blocks)

        def apply(x: FloatBTD, block: nnx.State) -> tuple[FloatBTD, None]:
            x = nnx.merge(definition, block)(x, segment_ids, ranges, angles)
            return layout.constrain(x), None

        if self.config.remat != "none":
            apply = jax.checkpoint(apply, policy=REMAT[self.config.remat], prevent_cse=False)
        with layout.active():
            x, _ = jax.lax.scan(apply, x, stacked)
        x = layout.to_token_order(x)
        return x if self.final_norm is None else self.final_norm(x)

    def logits(self, hidden: FloatBTD) -> FloatBTV:
        """Returns the logits [B T V] of hidden states [B T D], accumulated in float32."""
        wide = jnp.promote_types(hidden.dtype, jnp.float32)
        return jnp.einsum("btd,dv->btv", hidden, self.head.astype(hidden.dtype), preferred_element_type=wide)

    def decode(self, tokens: IntBT, cache: Cache, *, segment_ids: IntBT, positions: IntBT) -> tuple[FloatBTD, Cache]:
        """Returns the hidden states [B T D] of T new tokens after those in the cache, and the cache with them.

        segment_ids: of the new tokens, 1, or 0 for padding on the left of a shorter prompt; positions: of them.
        """
        x, angles = self._embed(tokens, positions)
        cache_ids = jax.lax.dynamic_update_slice_in_dim(cache.segment_ids, segment_ids, cache.length, axis=1)
        definition, stacked = nnx.split(self.blocks)

        def apply(x: FloatBTD, inputs: tuple[nnx.State, LayerCache]) -> tuple[FloatBTD, LayerCache]:
            block, layer = inputs
            return nnx.merge(definition, block).decode(x, layer, cache.length, (segment_ids, cache_ids), angles)

        with self.layout.active():
            x, layers = jax.lax.scan(apply, x, (stacked, cache.layers))
        x = x if self.final_norm is None else self.final_norm(x)
        return x, Cache(layers, cache_ids, cache.length + tokens.shape[1])

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """Returns an empty cache for `batch` rows of `capacity` tokens.

        Raises ValueError for more than max_seq_len, and on a mesh that splits rows.
        """
        self._check_length(capacity)
        self.layout.require_whole_rows()
        config = self.config
        shape = (config.layers, batch, capacity, config.key_heads, config.head_dim)
        layers = LayerCache(jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype))
        return Cache(layers, jnp.zeros((batch, capacity), jnp.int32), jnp.zeros((), jnp.int32))

    def _embed(self, tokens: IntBT, positions: IntBT) -> tuple[FloatBTD, Angles | None]:
        self._check_length(tokens.shape[1])
        config = self.config
        x = self.layout.lookup(self.embedding[...], tokens, config.dtype)
        if self.positions is not None:
            return self.layout.constrain(x + self.positions[...][positions].astype(config.dtype)), None
        return self.layout.constrain(x), rope_angles(positions, config.head_dim, config.rope_theta, config.dtype)

    def _check_length(self, length: int) -> None:
        if length > self.config.max_seq_len:
            raise ValueError(
                f"rows of {length} tokens are longer than Model.max_seq_len = {self.config.max_seq_len}: "
                "shorten the rows (Mixture.sequence_length) or set a larger Model.max_seq_len"
            )
