"""Tiles of the TPU kernels: the table's, and what the chip's VMEM leaves of rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from mindllm_jax.kernels.block_ranges import BLOCK
from mindllm_jax.kernels.flash_attention import tiles
from mindllm_jax.kernels.target import target


class Tile(NamedTuple):
    """Positions in a tile of queries, in one of keys, and keys that lie in VMEM at a time (a multiple of `keys`)."""

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
"""Bytes of it that the kernels may use on one core."""
SMALLEST = "TPU v4"
"""Stands for chips that are not known, and in the interpreter."""


def vmem() -> int:
    """What the kernels may use on the chip that the call is for."""
    kind = target().device_kind
    return VMEM[max((name for name in VMEM if kind.startswith(name)), key=len, default=SMALLEST)]


def tile_sizes(direction: str, dtype: Any, q_shape: tuple[int, ...], k_shape: tuple[int, ...]) -> Tile:
    """Tiles of a call: the table's, shorter for shorter rows, and as long a span of keys as the VMEM holds."""
    row = tiles.row(direction, q_shape[3], k_shape[1], otherwise=SMALLEST)
    queries, keys = min(row.queries, _rounded(q_shape[1], BLOCK)), min(row.keys, _rounded(k_shape[1], BLOCK))
    # Of a position of a span: keys and values twice, because the next ones are fetched meanwhile; backward also their
    # gradients, twice, and the float32 sums of these. Lanes are filled up to 128.
    lanes = _rounded(q_shape[3], 128)
    size = jnp.dtype(dtype).itemsize
    bytes_a_key = lanes * (4 * size if direction == "forward" else 8 * size + 8)
    # Of the tile: queries, outputs and the tensors of scores that live at one time.
    working = queries * lanes * (8 * size + 8) + 6 * 4 * queries * keys
    longest = max(keys, (vmem() - working) // bytes_a_key // keys * keys)
    spans = -(-k_shape[1] // longest)
    return Tile(queries, keys, _rounded(-(-k_shape[1] // spans), keys))


def _rounded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
