"""The decoder: embedding, a scan over equal blocks, and the loss head's matrix."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from mindllm_jax.kernels.block_ranges import BlockRanges, block_ranges
from mindllm_jax.model.attention import Angles, Attention, LayerCache
from mindllm_jax.model.config import Model
from mindllm_jax.model.initialisation import EMBEDDING_STDDEV, normal
from mindllm_jax.model.mlp import MLP
from mindllm_jax.model.norms import NORMS
from mindllm_jax.model.positions import rope_angles
from mindllm_jax.model.residual import add_branch, residual_scheme
from mindllm_jax.parallel.layout import Layout
from mindllm_jax.parallel.sharding import Sharding

policies = jax.checkpoint_policies
REMAT = {
    "full": policies.nothing_saveable,  # keep the input of each block, compute the rest again
    "dots": policies.dots_with_no_batch_dims_saveable,  # keep the products with weights; elementwise work again
    "attention": policies.save_only_these_names("attention_out"),  # keep the attention's output as well as the inputs
}
"""What the backward pass may keep of a block, by the name in `Model.remat`; "none" there keeps everything."""


class Cache(NamedTuple):
    """Keys and values of all layers [L B S K H], segment ids [B S] (0: empty or padding) and the filled length."""

    layers: LayerCache
    segment_ids: jax.Array
    length: jax.Array


class Block(nnx.Module):
    """Attention and feed-forward, each added to the stream by the residual scheme. Maps [B T D] to [B T D]."""

    def __init__(self, config: Model, *, rngs: nnx.Rngs, layout: Layout):
        self.attention = Attention(config, rngs=rngs, partition=layout.heads())
        self.mlp = MLP(config, rngs=rngs)
        self.attention_norm = NORMS[config.norm](config)
        self.mlp_norm = NORMS[config.norm](config)
        self.scheme = residual_scheme(config)

    def __call__(
        self, x: jax.Array, segment_ids: jax.Array | None, ranges: BlockRanges | None, angles: Angles | None
    ) -> jax.Array:
        x = add_branch(self.scheme, self.attention_norm, lambda h: self.attention(h, segment_ids, ranges, angles), x)
        return add_branch(self.scheme, self.mlp_norm, self.mlp, x)

    def decode(
        self,
        x: jax.Array,
        cache: LayerCache,
        offset: jax.Array,
        segment_ids: tuple[jax.Array, jax.Array],
        angles: Angles | None,
    ) -> tuple[jax.Array, LayerCache]:
        """As `__call__`, for new tokens behind those of the cache."""
        written: list[LayerCache] = []

        def attend(h: jax.Array) -> jax.Array:
            out, new = self.attention.decode(h, cache, offset, segment_ids, angles)
            written.append(new)
            return out

        x = add_branch(self.scheme, self.attention_norm, attend, x)
        return add_branch(self.scheme, self.mlp_norm, self.mlp, x), written[0]


class Decoder(nnx.Module):
    """Decoder-only language model.

    The blocks' parameters are stacked on a leading axis L, so that a compiled step holds one block whatever the depth.
    `sharding` places activations over a mesh; None leaves that to the compiler (one device).
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
    def head(self) -> jax.Array:
        """The loss head's matrix [D V] in the parameters' dtype."""
        return self.embedding[...].T if self.head_kernel is None else self.head_kernel[...]

    def __call__(
        self, tokens: jax.Array, *, segment_ids: jax.Array | None = None, positions: jax.Array | None = None
    ) -> jax.Array:
        """Hidden states [B T D] after the last norm.

        tokens [B T] int32; segment_ids [B T] (equal ids see each other, 0 is padding; None: one document a row);
        positions [B T] inside the document (None: 0, 1, 2, …). Raises ValueError for rows longer than max_seq_len.
        """
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
        ranges = None if segment_ids is None else block_ranges(segment_ids)
        layout = self.layout
        x, angles = self._embed(layout.enter(tokens), layout.enter(positions))
        segment_ids = None if segment_ids is None else layout.enter(segment_ids)
        definition, stacked = nnx.split(self.blocks)

        def apply(x: jax.Array, block: nnx.State) -> tuple[jax.Array, None]:
            x = nnx.merge(definition, block)(x, segment_ids, ranges, angles)
            return layout.constrain(x), None

        if self.config.remat != "none":
            apply = jax.checkpoint(apply, policy=REMAT[self.config.remat], prevent_cse=False)
        with self.layout.mesh():
            x, _ = jax.lax.scan(apply, x, stacked)
        x = layout.leave(x)
        return x if self.final_norm is None else self.final_norm(x)

    def decode(
        self, tokens: jax.Array, cache: Cache, *, segment_ids: jax.Array, positions: jax.Array
    ) -> tuple[jax.Array, Cache]:
        """Hidden states [B T D] of T new tokens behind those in the cache, and the cache with them.

        segment_ids [B T]: 1, or 0 for padding on the left of a shorter prompt; positions [B T] of the new tokens.
        """
        x, angles = self._embed(tokens, positions)
        seen = jax.lax.dynamic_update_slice_in_dim(cache.segment_ids, segment_ids, cache.length, axis=1)
        definition, stacked = nnx.split(self.blocks)

        def apply(x: jax.Array, inputs: tuple[nnx.State, LayerCache]) -> tuple[jax.Array, LayerCache]:
            block, layer = inputs
            return nnx.merge(definition, block).decode(x, layer, cache.length, (segment_ids, seen), angles)

        with self.layout.mesh():
            x, layers = jax.lax.scan(apply, x, (stacked, cache.layers))
        x = x if self.final_norm is None else self.final_norm(x)
        return x, Cache(layers, seen, cache.length + tokens.shape[1])

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """An empty cache for `batch` rows of `capacity` tokens. Raises ValueError beyond max_seq_len and on a mesh that
        splits rows: they grow by a token at a time."""
        self._check_length(capacity)
        if self.layout.splits_rows:
            raise ValueError("generation cannot split rows over devices: set MeshAxes.context = 1")
        config = self.config
        shape = (config.layers, batch, capacity, config.key_heads, config.head_dim)
        layers = LayerCache(jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype))
        return Cache(layers, jnp.zeros((batch, capacity), jnp.int32), jnp.zeros((), jnp.int32))

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Logits [B T V] of hidden states [B T D], accumulated in float32."""
        wide = jnp.promote_types(hidden.dtype, jnp.float32)
        return jnp.einsum("btd,dv->btv", hidden, self.head.astype(hidden.dtype), preferred_element_type=wide)

    def _embed(self, tokens: jax.Array, positions: jax.Array) -> tuple[jax.Array, Angles | None]:
        self._check_length(tokens.shape[1])
        config = self.config
        x = self.layout.rows(self.embedding[...], tokens, config.dtype)
        if self.positions is not None:
            return self.layout.constrain(x + self.positions[...][positions].astype(config.dtype)), None
        return self.layout.constrain(x), rope_angles(positions, config.head_dim, config.rope_theta, config.dtype)

    def _check_length(self, length: int) -> None:
        if length > self.config.max_seq_len:
            raise ValueError(
                f"rows of {length} tokens are longer than Model.max_seq_len = {self.config.max_seq_len}: "
                "shorten the rows (Mixture.sequence_length) or set a larger Model.max_seq_len"
            )
