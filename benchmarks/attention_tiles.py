"""Searches the fastest tiles for `python benchmarks/attention.py --tune`, and writes them to the table."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from unittest import mock

import jax
from attention_calls import OURS, Problem, seconds, with_jax

from mindllm_jax.files import write_text
from mindllm_jax.kernels.flash_attention import tiles
from mindllm_jax.kernels.flash_attention.tiles import Row
from mindllm_jax.recipes.hardware_check.kept import Kept, TimeUp
from mindllm_jax.reporting.tables import Table


def _triton(own: str, shapes: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Lists (queries, keys, warps, stages) of shapes (positions of `own` side, of the other side, warps).

    A block has one tile of its own side and loops over the other. The shapes are those that spill at most 336 bytes for
    heads of 64 and 128 on sm_90, and whose tile is large enough for their warps.
    """
    return [
        (mine, other, warps, stages) if own == "queries" else (other, mine, warps, stages)
        for (mine, other, warps), stages in product(shapes, (2, 3))
    ]


QUERIES = _triton("queries", [(64, 32, 4), (64, 64, 4), (64, 128, 4), (128, 32, 8), (128, 64, 8), (128, 128, 8)])
# By kernel: (queries, keys), and for Triton (warps, stages).
PALLAS = [(q, k, None, None) for q, k in product((256, 512, 1024), repeat=2)]
KERNELS = {
    "gpu": {
        "forward": QUERIES,
        "backward_queries": QUERIES,
        "backward_keys": _triton("keys", [(64, 32, 4), (64, 64, 4), (64, 64, 8), (128, 32, 8), (128, 64, 8)]),
    },
    "tpu": {"forward": PALLAS, "backward": PALLAS},
    "cpu": {"forward": PALLAS[:2]},  # no kernel reads the table on a CPU: to test the search itself
}
MEAN = 1024
"""Mean length of the documents of packed rows, which count as much as causal ones."""


def replaced(rows: Iterable[Row], new: Row) -> tuple[Row, ...]:
    """Returns the table with this row, in place of the one for the same calls."""
    kept = [row for row in rows if row[:4] != new[:4]]
    chips = list(dict.fromkeys([row.chip for row in kept] + [new.chip]))
    return tuple(sorted([*kept, new], key=lambda row: chips.index(row.chip)))


def as_text(rows: Iterable[Row]) -> str:
    """Returns the table in the format of its file."""
    return "[\n" + ",\n".join(f"  {json.dumps(row._asdict())}" for row in rows) + "\n]\n"


def search(
    chip: str,
    kernels: dict[str, list[tuple[int, int, int | None, int | None]]],
    head_dims: Sequence[int],
    lengths: Sequence[int],
    source: str,
    seconds: Callable[[tuple[Row, ...], Row], float | None],
    path: Path,
) -> None:
    """Finds the fastest tile for each kernel, head dimension and length; the file is rewritten after each.

    What the file has from this source is not searched again.

    seconds: of a table and the line of it that is on trial; None where the tile does not run.
    """
    for head_dim, length, kernel in product(head_dims, lengths, kernels):
        # Earlier kernels of the same problem are already at their best.
        table = tiles.read_rows(path)
        if any(row[:4] == (chip, kernel, head_dim, length) and row.source == source for row in table):
            continue
        timed: list[tuple[float, Row]] = []
        for tile in kernels[kernel]:
            row = Row(chip, kernel, head_dim, length, *tile, source)
            taken = seconds(replaced(table, row), row)
            if taken is not None:
                timed.append((taken, row))
        if not timed:
            print(f"{kernel}, head {head_dim}, length {length}: no tile runs", file=sys.stderr)
            continue
        taken, row = min(timed, key=lambda pair: pair[0])
        write_text(path, as_text(replaced(table, row)))
        print(f"{kernel}, head {head_dim}, length {length}: {row[4:8]} in {taken * 1e3:.3f} ms", file=sys.stderr)


def tune(
    head_dims: Sequence[int],
    lengths: Sequence[int],
    heads: tuple[int, int],
    tokens: int,
    path: Path | None,
    kept: Kept,
) -> None:
    """Searches on this machine's chip for the least sum of the times of causal and of packed rows; prints its rows.

    path: of the table, the library's by default; where there is no such file it begins as that.
    """
    platform = jax.default_backend()

    def trial(table: tuple[Row, ...], row: Row) -> float | None:
        assert row.length is not None
        length, taken = row.length, 0.0
        jax.clear_caches()
        with mock.patch.object(tiles, "rows", return_value=table):
            for mean in (None, MEAN):
                problem = Problem(mean, row.head_dim, *heads, length, max(1, tokens // length))
                try:
                    call = with_jax(OURS[platform], problem)
                    taken += seconds(call.forward if row.kernel == "forward" else call.both, call.wait, sample=0.02)
                except Exception as failure:  # too much shared memory or VMEM: compilers have their own exceptions
                    print(f"{row[:8]}: {failure!r:.100}", file=sys.stderr)
                    return None
        return taken

    def measured(table: tuple[Row, ...], row: Row) -> float | None:
        found = kept.measure(tuple(row[:8]), lambda: {"seconds": trial(table, row)})
        if found is None:
            raise TimeUp
        return found.get("seconds")  # None where it ended the process

    path = path or tiles.PATH
    if not path.exists():
        write_text(path, as_text(tiles.rows()))
    kind = jax.local_devices()[0].device_kind
    # Rows of "NVIDIA H100 80GB HBM3" would hide those of "NVIDIA H100".
    chip = tiles.table_name(kind, tiles.read_rows(path), otherwise=kind)
    source = f"measured {time.strftime('%Y-%m-%d')}, jax {jax.__version__}, {kind}"
    with suppress(TimeUp):
        search(chip, KERNELS[platform], head_dims, lengths, source, measured, path)
    rows = [row for row in json.loads(path.read_text(encoding="utf-8")) if row["chip"] == chip]
    print(Table(Row._fields, [tuple(row.values()) for row in rows], f"Tiles of {chip}.").markdown())
    print(json.dumps({"complete": kept.complete, "tiles": rows}))
