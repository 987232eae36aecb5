"""Tile sizes of the TPU kernels, by the table and the chip's VMEM."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from mindllm_jax.kernels.block_ranges import BLOCK
from mindllm_jax.kernels.flash_attention import tiles
from mindllm_jax.kernels.target import target


class Tile(NamedTuple):
    """Positions in a tile of queries, in one of keys, and keys in VMEM at a time (a multiple of `keys`)."""

    queries: int
    keys: int
    span: int


MIB = 2**20
VMEM = {
    "TPU v4": 15 * MIB,
    "TPU v5 lite": 100 * MIB,
    "TPU v5": 50 * MIB,
    "TPU v6 lite": 100 * MIB,
    "TPU7x": 50 * MIB,
}
"""Bytes of VMEM that the kernels may use on one core."""
SMALLEST = "TPU v4"
"""Used for unknown chips and in the interpreter."""


def vmem() -> int:
    """Returns the bytes of VMEM that the kernels may use on the target chip."""
    kind = target().device_kind
    return VMEM[max((name for name in VMEM if kind.startswith(name)), key=len, default=SMALLEST)]


def tile_sizes(direction: str, dtype: Any, q_shape: tuple[int, ...], k_shape: tuple[int, ...]) -> Tile:
    """Returns the table's tile, smaller for shorter rows, with the longest span of keys that fits in VMEM."""
    row = tiles.row(direction, q_shape[3], k_shape[1], otherwise=SMALLEST)
    queries, keys = min(row.queries, _round_up(q_shape[1], BLOCK)), min(row.keys, _round_up(k_shape[1], BLOCK))
    # Per position of a span: keys and values twice, because the next ones are prefetched; backward also their
    # gradients, twice, and the float32 sums of these. Lanes are padded to 128.
    lanes = _round_up(q_shape[3], 128)
    size = jnp.dtype(dtype).itemsize
    bytes_per_key = lanes * (4 * size if direction == "forward" else 8 * size + 8)
    # Per tile: queries, outputs and the tensors of scores that are live at a time.
    working = queries * lanes * (8 * size + 8) + 6 * 4 * queries * keys
    longest = max(keys, (vmem() - working) // bytes_per_key // keys * keys)
    spans = -(-k_shape[1] // longest)
    return Tile(queries, keys, _round_up(-(-k_shape[1] // spans), keys))


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
