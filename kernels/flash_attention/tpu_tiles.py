"""Tiles of the TPU kernels, by chip."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from mindllm_jax.kernels.block_ranges import BLOCK
from mindllm_jax.kernels.target import target


class Tile(NamedTuple):
    """Positions in a tile of queries, in one of keys, and keys that lie in VMEM at a time (a multiple of `keys`)."""

    queries: int
    keys: int
    span: int


class Chip(NamedTuple):
    """VMEM that the kernels may use on one core, bytes, and the largest tiles of each direction."""

    vmem: int
    forward: tuple[int, int]
    backward: tuple[int, int]


MIB = 2**20
# Of 256 x 512, 512 x 512 and 512 x 1024 the fastest by libtpu's static schedule for heads of 128, for causal and for
# packed rows (benchmarks/tpu_schedule.py, docs/results/tpu_schedule.md). Not measured on a TPU yet.
CHIPS = {
    "TPU v4": Chip(15 * MIB, (512, 512), (512, 512)),
    "TPU v5 lite": Chip(100 * MIB, (512, 512), (512, 512)),
    "TPU v5": Chip(50 * MIB, (512, 512), (512, 512)),
    "TPU v6 lite": Chip(100 * MIB, (512, 512), (512, 512)),
    "TPU7x": Chip(50 * MIB, (512, 512), (512, 512)),
}


def chip() -> Chip:
    """The chip that the call is for; where it is not known (and in the interpreter), the smallest."""
    kind = target().device_kind
    known = [name for name in CHIPS if kind.startswith(name)]
    return CHIPS[max(known, key=len)] if known else CHIPS["TPU v4"]


def tile_sizes(direction: str, dtype: Any, q_shape: tuple[int, ...], k_shape: tuple[int, ...]) -> Tile:
    """Tiles of a call: the chip's, shorter for shorter rows, and as long a span of keys as its VMEM holds."""
    here = chip()
    queries, keys = here.forward if direction == "forward" else here.backward
    queries, keys = min(queries, _rounded(q_shape[1], BLOCK)), min(keys, _rounded(k_shape[1], BLOCK))
    # Of a position of a span: keys and values twice, because the next ones are fetched meanwhile; backward also their
    # gradients, twice, and the float32 sums of these. Lanes are filled up to 128.
    lanes = _rounded(q_shape[3], 128)
    size = jnp.dtype(dtype).itemsize
    bytes_a_key = lanes * (4 * size if direction == "forward" else 8 * size + 8)
    # Of the tile: queries, outputs and the tensors of scores that live at one time.
    working = queries * lanes * (8 * size + 8) + 6 * 4 * queries * keys
    longest = max(keys, (here.vmem - working) // bytes_a_key // keys * keys)
    spans = -(-k_shape[1] // longest)
    return Tile(queries, keys, _rounded(-(-k_shape[1] // spans), keys))


def _rounded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
