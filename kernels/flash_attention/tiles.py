"""The table of tile sizes, `tiles.json`: a row for each chip, kernel, head dimension and length.

`python benchmarks/attention.py --tune` measures on the chip that it runs on and rewrites that chip's rows.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mindllm_jax.kernels.target import target

PATH = Path(__file__).with_name("tiles.json")


class Row(NamedTuple):
    """A row of the table; its keys are these names."""

    chip: str  # a prefix of the device's name
    kernel: str
    head_dim: int
    length: int | None  # the largest number of keys that it is for; None: any
    queries: int  # positions in a tile
    keys: int
    warps: int | None  # of Triton; None elsewhere
    stages: int | None
    source: str  # of the tile sizes


@functools.cache
def rows() -> tuple[Row, ...]:
    """Returns all rows of the table."""
    return read_rows(PATH)


def read_rows(path: Path) -> tuple[Row, ...]:
    """Reads the rows of a table in a file."""
    return tuple(Row(**line) for line in json.loads(path.read_text(encoding="utf-8")))


def table_name(kind: str, rows: Iterable[Row], *, otherwise: str) -> str:
    """Returns the name of a chip in the table: the longest that the device's name begins with, else `otherwise`."""
    return max((row.chip for row in rows if kind.startswith(row.chip)), key=len, default=otherwise)


def row(kernel: str, head_dim: int, length: int, *, otherwise: str) -> Row:
    """Returns the row for a call on the chip that it is traced for.

    It is the row of the smallest head dimension that is not smaller than the call's, of the chip if it has one, or else
    of the chip `otherwise`; where neither has one, the row of the largest. Of several lengths it is the shortest that
    is not shorter than the call's, or else the longest.
    """
    of_kernel = [row for row in rows() if row.kernel == kernel]
    kind = target().device_kind
    chip = table_name(kind, of_kernel, otherwise=otherwise)

    def distance(row: Row) -> tuple[bool, bool, int, bool, float]:
        limit = math.inf if row.length is None else row.length
        far = abs(row.head_dim - head_dim), limit < length, abs(limit - length)
        return row.head_dim < head_dim, row.chip != chip, *far

    return min((row for row in of_kernel if row.chip in (chip, otherwise)), key=distance)
