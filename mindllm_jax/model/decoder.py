"""The decoder: an embedding, a scan over equal blocks, and the loss head's matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from mindllm_jax.kernels.block_ranges import BlockRanges, block_ranges
from mindllm_jax.model.attention import Attention
from mindllm_jax.model.cache import Cache, LayerCache, Rows, empty_cache
from mindllm_jax.model.config import Model
from mindllm_jax.model.initialisation import EMBEDDING_STDDEV, normal
from mindllm_jax.model.lora import Lora
from mindllm_jax.model.mlp import MLP
from mindllm_jax.model.norms import NORMS
from mindllm_jax.model.positions import Angles, rope_angles
from mindllm_jax.model.prefix import Prefix, PrefixMask, prefix_mask
from mindllm_jax.model.residual import add_branch, residual_scheme
from mindllm_jax.parallel.layout import Layout
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.shapes import FloatBTD, FloatBTV, FloatDV, IntB, IntBT

policies = jax.checkpoint_policies
REMAT = {
    "full": policies.nothing_saveable,  # keep each block's input, recompute the rest
    "dots": policies.dots_with_no_batch_dims_saveable,  # keep products with weights, recompute elementwise work
    "attention": policies.save_only_these_names("attention_out"),  # keep each block's input and attention's output
}
"""Remat policies by their name in `Model.remat`, where "none" keeps everything for the backward pass."""


Branch = Callable[[FloatBTD], FloatBTD]


class Block(nnx.Module):
    """Attention and feed-forward from [B T D] to [B T D], each added to the residual stream by the scheme."""

    def __init__(self, config: Model, *, rngs: nnx.Rngs, layout: Layout, lora: Lora | None = None):
        self.attention = Attention(config, rngs=rngs, partition=layout.attention_partition(), lora=lora)
        self.mlp = MLP(config, rngs=rngs, lora=lora)
        self.attention_norm = NORMS[config.norm](config)
        self.mlp_norm = NORMS[config.norm](config)
        self.scheme = residual_scheme(config)

    def __call__(
        self,
        x: FloatBTD,
        segment_ids: IntBT | None,
        ranges: BlockRanges | None,
        angles: Angles | None,
        window: int | None,
        prefixes: Sequence[PrefixMask] = (),
    ) -> FloatBTD:
        attend: Branch = lambda h: self.attention(h, segment_ids, ranges, angles, window, prefixes)  # noqa: E731
        x = add_branch(self.scheme, self.attention_norm, attend, x)
        return add_branch(self.scheme, self.mlp_norm, self.mlp, x)

    def decode(
        self,
        x: FloatBTD,
        cache: LayerCache,
        layer: jax.Array,
        rows: Rows,
        angles: Angles | None,
        window: int | None,
    ) -> tuple[FloatBTD, LayerCache]:
        """Applies the block to new tokens behind cached ones; see `Attention.decode`."""
        new_cache = cache

        def attend(h: FloatBTD) -> FloatBTD:
            nonlocal new_cache
            out, new_cache = self.attention.decode(h, cache, layer, rows, angles, window)
            return out

        x = add_branch(self.scheme, self.attention_norm, attend, x)
        return add_branch(self.scheme, self.mlp_norm, self.mlp, x), new_cache


class Decoder(nnx.Module):
    """Decoder-only language model.

    The blocks' parameters are stacked on a leading axis L, so that a compiled step holds one block at any depth.
    `sharding` places parameters and activations on a mesh; None: one device. `lora` adds adapters to the blocks.
    """

    def __init__(self, config: Model, *, rngs: nnx.Rngs, sharding: Sharding | None = None, lora: Lora | None = None):
        layout = Layout(sharding)

        @nnx.split_rngs(splits=config.layers)
        @nnx.vmap(in_axes=0, out_axes=0)
        def stack(rngs: nnx.Rngs) -> Block:
            return Block(config, rngs=rngs, layout=layout, lora=lora)

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

    def __call__(
        self,
        tokens: IntBT,
        *,
        segment_ids: IntBT | None = None,
        positions: IntBT | None = None,
        prefixes: Sequence[Prefix] = (),
        noise: FloatBTD | None = None,
    ) -> FloatBTD:
        """Returns the hidden states [B T D] after the last norm.

        Args:
            tokens: int32 [B T].
            segment_ids: tokens with equal ids see each other, 0 is padding; None: one document per row.
            positions: within the document, int32 [B T]; None: 0, 1, 2, ….
            prefixes: documents of the batch that tokens continue; they need segment_ids and positions.
            noise: added to the embeddings, whatever the order of its tokens.

        Raises ValueError for rows longer than max_seq_len, and for prefixes without segment_ids and positions or on a
        mesh that splits rows.
        """
        masks: list[PrefixMask] = []
        if prefixes:
            self.layout.require_whole_rows()
            if segment_ids is None or positions is None:
                raise ValueError(
                    "prefixes need segment_ids and positions: which document is where, and what it continues"
                )
            masks = [prefix_mask(prefix, segment_ids, positions) for prefix in prefixes]
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
        ranges = None if segment_ids is None else block_ranges(segment_ids)
        layout = self.layout
        x, angles = self._embed(layout.to_attention_order(tokens), layout.to_attention_order(positions))
        if noise is not None:
            x = layout.constrain(x + noise.astype(x.dtype))
        segment_ids = None if segment_ids is None else layout.to_attention_order(segment_ids)
        definition, stacked = nnx.split(self.blocks)

        def apply(x: FloatBTD, block: nnx.State, window: int | None) -> FloatBTD:
            return layout.constrain(nnx.merge(definition, block)(x, segment_ids, ranges, angles, window, masks))

        if self.config.remat != "none":
            apply = jax.checkpoint(apply, policy=REMAT[self.config.remat], prevent_cse=False, static_argnums=2)

        def apply_pattern(x: FloatBTD, blocks: nnx.State) -> tuple[FloatBTD, None]:
            for index, window in enumerate(windows):
                x = apply(x, blocks if len(windows) == 1 else _at(blocks, index), window)
            return x, None

        windows = self.config.windows
        if len(windows) > 1:  # XLA copies what is reshaped
            stacked = jax.tree.map(lambda leaf: leaf.reshape(-1, len(windows), *leaf.shape[1:]), stacked)
        with layout.active():
            x, _ = jax.lax.scan(apply_pattern, x, stacked)
        x = layout.to_token_order(x)
        return x if self.final_norm is None else self.final_norm(x)

    def logits(self, hidden: FloatBTD) -> FloatBTV:
        """Returns the logits [B T V] of hidden states [B T D], accumulated in float32."""
        wide = jnp.promote_types(hidden.dtype, jnp.float32)
        return jnp.einsum("btd,dv->btv", hidden, self.head.astype(hidden.dtype), preferred_element_type=wide)

    def layers(self) -> tuple[nnx.State, ...]:
        """Returns a copy of the parameters of the blocks, each as arrays of its own, for `decode`."""
        return _apart(nnx.split(self.blocks)[1], self.config.layers)

    def decode(
        self,
        tokens: IntBT,
        cache: Cache,
        counts: IntB | None = None,
        first: int | jax.Array = 0,
        layers: Sequence[nnx.State] = (),
    ) -> tuple[FloatBTD, Cache]:
        """Returns the hidden states [b T D] of new tokens behind those in b rows of the cache, and the cache with them.

        Args:
            tokens: [b T]; b may be less than the rows of the cache. T > 1 needs rows of equal lengths.
            cache: of `new_cache`; its lengths plus the new tokens must not exceed its capacity.
            counts: int32 [b], the new tokens of each row, the first of T; None: all T. The hidden states of the others
                mean nothing.
            first: index of the first of the rows in the cache.
            layers: of `layers()`. A CPU reads their weights in place, and copies those of a scan out of the stack for
                every call: most of the time of a few tokens. A program has every block then. Empty: a scan.
        """
        batch, length = tokens.shape
        counts = jnp.full(batch, length, jnp.int32) if counts is None else counts
        first = jnp.asarray(first, jnp.int32)
        rows = Rows(first, jax.lax.dynamic_slice_in_dim(cache.lengths, first, batch), counts)
        x, angles = self._embed(tokens, rows.lengths[:, None] + jnp.arange(length, dtype=jnp.int32))
        definition, stacked = nnx.split(self.blocks)
        windows = self.config.windows

        def apply_pattern(
            carry: tuple[FloatBTD, tuple[LayerCache, ...]], repetition: jax.Array
        ) -> tuple[tuple[FloatBTD, tuple[LayerCache, ...]], None]:
            x, layers = carry[0], list(carry[1])
            for index, window in enumerate(windows):
                block = nnx.merge(definition, _at(stacked, repetition * len(windows) + index))
                x, layers[index] = block.decode(x, layers[index], repetition, rows, angles, window)
            return (x, tuple(layers)), None

        with self.layout.active():
            if layers:
                caches = list(cache.layers)
                for number, parameters in enumerate(layers):
                    repetition, index = divmod(number, len(windows))
                    block, layer = nnx.merge(definition, parameters), jnp.int32(repetition)
                    x, caches[index] = block.decode(x, caches[index], layer, rows, angles, windows[index])
                new_caches = tuple(caches)
            else:
                repetitions = jnp.arange(self.config.layers // len(windows), dtype=jnp.int32)
                (x, new_caches), _ = jax.lax.scan(apply_pattern, (x, cache.layers), repetitions)
        x = x if self.final_norm is None else self.final_norm(x)
        lengths = jax.lax.dynamic_update_slice_in_dim(cache.lengths, rows.lengths + counts, first, axis=0)
        return x, Cache(new_caches, lengths)

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """Returns an empty cache for `batch` rows of up to `capacity` tokens.

        Raises ValueError for more than max_seq_len, and on a mesh that splits rows.
        """
        self._check_length(capacity)
        self.layout.require_whole_rows()
        return empty_cache(self.config, batch, capacity)

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


@partial(jax.jit, static_argnums=1)
def _apart(blocks: nnx.State, count: int) -> tuple[nnx.State, ...]:
    return tuple(_at(blocks, index) for index in range(count))


def _at(blocks: nnx.State, index: int | jax.Array) -> nnx.State:
    return jax.tree.map(lambda leaf: leaf[index], blocks)
