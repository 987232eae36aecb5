"""The arguments of attention's implementations besides queries, keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mindllm_jax.kernels.block_ranges import BlockRanges

# The score of a masked pair, and the least running maximum: so far apart that exp(their difference) is exactly zero, so
# that a query without keys needs no special case, and yet far from overflow.
FORBIDDEN = -2e38
LEAST_MAXIMUM = -1e38


@dataclass(frozen=True)
class Settings:
    """The arguments that are static when a call is traced."""

    causal: bool
    window: int | None
    scale: float
    logit_cap: float | None


class Masking(NamedTuple):
    """The arguments that are arrays. Segment ids are both given or both None; ranges only with segment ids."""

    q_offset: jax.Array  # int32 scalar
    q_segments: jax.Array | None  # int32 [B T]
    kv_segments: jax.Array | None  # int32 [B S]
    ranges: BlockRanges | None


def backward_statistics(
    out: jax.Array, lse: jax.Array, d_out: jax.Array, d_lse: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the two numbers per query [B T N] that the tiles of the backward pass need.

    With P the weights, dS = P * (dP - rowsum(dO * O) + dLSE): the sum of the last two terms; and the log-sum-exp, for a
    query without keys so large that all its weights become zero.
    """
    empty = lse == -jnp.inf
    shift = d_lse - jnp.einsum("btnh,btnh->btn", out, d_out, preferred_element_type=lse.dtype)
    return jnp.where(empty, 0, shift), jnp.where(empty, -LEAST_MAXIMUM, lse)
