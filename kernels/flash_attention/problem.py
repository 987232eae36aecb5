"""What every implementation of attention is given besides queries, keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax

from mindllm_jax.kernels.block_ranges import BlockRanges


@dataclass(frozen=True)
class Settings:
    """The part that is known when the call is traced."""

    causal: bool
    window: int | None
    scale: float
    logit_cap: float | None


class Masking(NamedTuple):
    """The part that is data. Segment ids come with both or neither; ranges only with segment ids."""

    q_offset: jax.Array  # int32 scalar
    q_segments: jax.Array | None  # int32 [B T]
    kv_segments: jax.Array | None  # int32 [B S]
    ranges: BlockRanges | None
