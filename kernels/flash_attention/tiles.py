"""The table of tiles, `tiles.json`: a line for each chip, kernel, head dimension and length.

`python benchmarks/attention.py --tune` measures on the chip that it runs on and rewrites that chip's lines.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import NamedTuple

from mindllm_jax.kernels.target import target

PATH = Path(__file__).with_name("tiles.json")


class Row(NamedTuple):
    """A line of the table; its keys are these names."""

    chip: str  # with which the device's name begins
    kernel: str
    head_dim: int
    length: int | None  # of keys, up to which it holds; None: any
    queries: int  # positions in a tile
    keys: int
    warps: int | None  # Triton's settings; None elsewhere
    stages: int | None
    source: str  # where the tile comes from


@functools.cache
def rows() -> tuple[Row, ...]:
    """The whole table."""
    return tuple(Row(**line) for line in json.loads(PATH.read_text(encoding="utf-8")))


def row(kernel: str, head_dim: int, length: int, *, otherwise: str) -> Row:
    """The line for a call on the chip it is traced for.

    A line for the smallest head dimension that is not smaller than the call's, of the chip if it has one, or else of
    the chip `otherwise`; where neither has one, the line for the largest. Of several lengths it is the shortest that is
    not shorter than the call's, or else the longest.
    """
    of_kernel = [row for row in rows() if row.kernel == kernel]
    kind = target().device_kind
    chip = max((row.chip for row in of_kernel if kind.startswith(row.chip)), key=len, default=otherwise)

    def distance(row: Row) -> tuple[bool, bool, int, bool, float]:
        limit = math.inf if row.length is None else row.length
        far = abs(row.head_dim - head_dim), limit < length, abs(limit - length)
        return row.head_dim < head_dim, row.chip != chip, *far

    return min((row for row in of_kernel if row.chip in (chip, otherwise)), key=distance)
