"""Attention of a batch's tokens to prefixes: documents elsewhere in the batch that several others continue.

The softmax over a prefix and the own document is that over each, weighted by the sums of their exponentials.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from mindllm_jax.kernels.block_ranges import BLOCK, BlockRanges, block_ranges
from mindllm_jax.kernels.flash_attention import flash_attention
from mindllm_jax.shapes import FloatBSKH, FloatBTKH, FloatBTN, FloatBTNH, IntB, IntBS, IntBT

Attended = tuple[FloatBTNH, FloatBTN]
"""Outputs of attention and log-sum-exps of the scores."""


class Prefix(NamedTuple):
    """The prefix that each token of a batch continues, besides the earlier tokens of its own document.

    A document behind a prefix of P tokens has the positions P, P + 1, …. A prefix is a document as any other; what it
    continues itself is a matter of its own tokens.

    Attributes:
        segment_ids: int32 [B T], the segment id of the prefix; 0: none.
        rows: int32 [B], the row of the batch in which the prefixes of a row lie; None: the row itself.
    """

    segment_ids: IntBT
    rows: IntB | None = None


class PrefixMask(NamedTuple):
    """The mask of a batch's prefixes, the same in all layers: keys of `rows` with equal ids."""

    rows: IntB | None
    q_ids: IntBT
    kv_ids: IntBS
    ranges: BlockRanges
    q_positions: IntBT
    kv_positions: IntBS

    def attend(
        self,
        query: FloatBTNH,
        key: FloatBTKH,
        value: FloatBTKH,
        *,
        window: int | None,
        scale: float | None,
        partition: PartitionSpec | None,
        implementation: str | None,
    ) -> Attended:
        """Attends to the prefixes alone; a token without one gets 0 and a log-sum-exp of -inf.

        key and value: of the whole batch. The other arguments are those of `flash_attention`.
        """
        key, value = _of_rows(key, self.rows), _of_rows(value, self.rows)
        if window is not None:
            return self._attend_window(query, key, value, window, query.shape[-1] ** -0.5 if scale is None else scale)
        attended = flash_attention(
            query,
            key,
            value,
            segment_ids=(self.q_ids, self.kv_ids),
            block_ranges=self.ranges,
            causal=False,
            scale=scale,
            partition=partition,
            return_lse=True,
            implementation=implementation,
        )
        assert isinstance(attended, tuple)
        return attended

    def _attend_window(self, query: FloatBTNH, key: FloatBSKH, value: FloatBSKH, window: int, scale: float) -> Attended:
        """Attends in blocks of keys: `flash_attention` counts a window in places of a row, which are not positions."""
        wide = jnp.promote_types(query.dtype, jnp.float32)
        batch, length, _, head_dim = query.shape
        grouped = query.reshape(batch, length, key.shape[2], -1, head_dim)
        short = -key.shape[1] % BLOCK

        def blocks(x: jax.Array) -> jax.Array:
            padded = jnp.pad(x, ((0, 0), (0, short)) + ((0, 0),) * (x.ndim - 2))
            return jnp.moveaxis(padded.reshape(batch, -1, BLOCK, *x.shape[2:]), 1, 0)

        def add_block(before: Attended, block: tuple[jax.Array, ...]) -> tuple[Attended, None]:
            key, value, ids, positions = block
            seen = (self.q_ids[..., None] == ids[:, None]) & (ids != 0)[:, None]
            seen &= self.q_positions[..., None] - positions[:, None] < window
            scores = scale * jnp.einsum("btkgh,bskh->btkgs", grouped, key, preferred_element_type=wide)
            scores = jnp.where(seen[:, :, None, None], scores, -jnp.inf)
            lse = jax.nn.logsumexp(scores, axis=-1, keepdims=True)
            weights = jnp.exp(scores - jnp.where(jnp.isfinite(lse), lse, 0)).astype(value.dtype)
            out = jnp.einsum("btkgs,bskh->btkgh", weights, value, preferred_element_type=wide)
            return merge(before, (out.reshape(query.shape), lse.reshape(query.shape[:-1]))), None

        nothing = jnp.zeros(query.shape, wide), jnp.full(query.shape[:-1], -jnp.inf, wide)
        stacked = tuple(map(blocks, (key, value, self.kv_ids, self.kv_positions)))
        (out, lse), _ = jax.lax.scan(add_block, nothing, stacked)
        return out.astype(query.dtype), lse


def prefix_mask(prefix: Prefix, segment_ids: IntBT, positions: IntBT) -> PrefixMask:
    """Returns the mask of the prefixes of a batch with these segment ids and positions within the documents."""
    kv_ids, kv_positions = _of_rows(segment_ids, prefix.rows), _of_rows(positions, prefix.rows)
    ranges = block_ranges((prefix.segment_ids, kv_ids))
    return PrefixMask(prefix.rows, prefix.segment_ids, kv_ids, ranges, positions, kv_positions)


def merge(one: Attended, other: Attended) -> Attended:
    """Returns the attention to the keys of both, of which no key is in the two."""
    total = jnp.logaddexp(one[1], other[1])
    finite = jnp.where(jnp.isfinite(total), total, 0)  # where neither has a key, both outputs are 0
    first, second = (out * jnp.exp(lse - finite)[..., None] for out, lse in (one, other))
    return (first + second).astype(one[0].dtype), total


def _of_rows(x: jax.Array, rows: IntB | None) -> jax.Array:
    return x if rows is None else x[rows]
