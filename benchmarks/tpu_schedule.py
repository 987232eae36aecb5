"""What the TPU's compiler makes of the attention kernels: cycles, by tile and chip, and what follows for whole rows.

python benchmarks/tpu_schedule.py [--chips v4,v5e,v5p,v6e,tpu7x] [--tiles 256x512,512x512,512x1024] [--head_dims 128]
    [--length 8192] [--markdown FILE]

No TPU is needed, and none is measured: libtpu compiles the kernels and its static schedule is read, the number of
instruction bundles of the code for a tile without a mask and for one with it, of which one is issued a cycle. Waiting
for memory is not in it. Rows are estimated by the tiles they visit: a causal one, and packed ones with documents of
mean 1,024 (exponential). `visits` is how many more pairs the visited tiles hold than the masks leave. Tiles are queries
x keys; the best of each chip and direction, by the mean of both kinds of rows, belongs into
kernels/flash_attention/tiles.json. Prints tables and JSON.
"""

import argparse
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TOPOLOGIES = {"v4": "v4:2x2x1", "v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2", "tpu7x": "tpu7x:2x2x1"}
UNITS = ("MXU", "XLU", "VALU", "VPOP", "EUP", "VLOAD", "FILL", "VSTORE", "SPILL", "SALU")
HEADING = """# The TPU's attention kernels by the compiler's schedule

Rebuilt by `python benchmarks/tpu_schedule.py --markdown docs/results/tpu_schedule.md`, which says what the columns
mean. No TPU was used: libtpu compiled the kernels, and the bundles of its static schedule were counted. Waiting for
memory is not in it.

"""


class Code(NamedTuple):
    """Bundles of a kernel: for a tile without a mask, for one with it, for a tile of queries besides these."""

    whole: int
    masked: int
    rest: int
    matrix_units: float  # share of their cycles in which they are busy, in a tile without a mask
    spills: float  # share of the cycles that store spilled registers, there


def compile_kernel(topology: str, direction: str, tile: tuple[int, int], head_dim: int, length: int) -> None:
    """Compiles one kernel for one row of two heads, with segments, for a described chip."""
    import jax
    import jax.numpy as jnp

    from mindllm_jax.hardware.topologies import one_device_mesh, tpu_topology
    from mindllm_jax.kernels.flash_attention import flash_attention, tiles

    table = tuple(row._replace(queries=tile[0], keys=tile[1]) for row in tiles.rows())
    tiles.rows = functools.cache(lambda: table)
    mesh = one_device_mesh(tpu_topology(topology))
    placed = jax.NamedSharding(mesh, jax.P())
    x = jax.ShapeDtypeStruct((1, length, 2, head_dim), jnp.bfloat16, sharding=placed)
    ids = jax.ShapeDtypeStruct((1, length), jnp.int32, sharding=placed)

    def attend(q: jax.Array, k: jax.Array, v: jax.Array, ids: jax.Array) -> Any:
        return flash_attention(q, k, v, segment_ids=ids, implementation="tpu")

    def gradients(*args: jax.Array) -> Any:
        return jax.grad(lambda *args: attend(*args).astype(jnp.float32).sum(), argnums=(0, 1, 2))(*args)

    with jax.set_mesh(mesh):
        jax.jit(attend if direction == "forward" else gradients).lower(x, x, x, ids).compile()


def schedule(topology: str, direction: str, tile: tuple[int, int], head_dim: int, length: int) -> Code | None:
    """Compiles in a process of its own, because libtpu reads its options once, and reads what was dumped.

    None if the tile does not fit into VMEM.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
        words = [topology, direction, f"{tile[0]}x{tile[1]}", str(head_dim), str(length)]
        environment = os.environ | {"LIBTPU_INIT_ARGS": options, "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(
            [sys.executable, __file__, "--child", *words], capture_output=True, text=True, env=environment, check=False
        )
        if "memory space vmem" in done.stderr:
            return None
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-2000:]}")
        kernel = f"*flash_attention_{direction}*"
        (bundles,) = Path(folder).glob(f"{kernel}-final_bundles.txt")
        (usage,) = Path(folder).glob(f"{kernel}-final_hlo-static-per-bundle-utilization.txt")
        return read_schedule(bundles.read_text(), usage.read_text())


def read_schedule(bundles: str, usage: str) -> Code:
    """The loop over tiles of keys is the innermost: its first branch is the tile without a mask, its second the other.

    In the listing LB begins a loop's body, PF follows a branch that may be skipped, and the number of > is the depth.
    """
    marks = re.findall(r"^ *(0x[0-9a-f]+) +(LB|PF): (>+)", bundles, re.MULTILINE)
    inner = [(kind, int(at, 16)) for at, kind, depth in marks if depth == ">>"]
    (start,) = (at for kind, at in inner if kind == "LB")
    between, end = (at for kind, at in inner if kind == "PF")
    last = max(int(at, 16) for at in re.findall(r"^ *(0x[0-9a-f]+) ", bundles, re.MULTILINE))
    rows = [[int(x) for x in line.split()] for line in usage.splitlines() if re.fullmatch(r"[\d ]+", line.strip())]
    capacity, used = rows[0], np.sum(rows[1 + start : 1 + between], axis=0)
    share = {unit: used[i] / capacity[i] / (between - start) for i, unit in enumerate(UNITS)}
    return Code(between - start, end - between, last - (end - start), float(share["MXU"]), float(share["SPILL"]))


def rows_of_documents(length: int, count: int = 64) -> Iterator[np.ndarray]:
    """Segment ids of packed rows; the first is one document."""
    rng = np.random.default_rng(0)
    yield np.ones(length, int)
    for _ in range(count):
        ends = np.cumsum(1 + rng.exponential(1024, size=length).astype(int))
        yield 1 + np.searchsorted(ends, np.arange(length), side="right")


def visited(ids: np.ndarray, tile: tuple[int, int]) -> tuple[int, int, float]:
    """Tiles without a mask and with one that a causal row visits, and their pairs over those that may meet."""
    length, (queries, keys) = len(ids), tile
    first = np.searchsorted(ids, ids)  # where each position's document begins
    whole = masked = 0
    for start in range(0, length, queries):
        stop = start + queries
        for k_start in range(first[start] // keys * keys, stop, keys):
            inside = k_start + keys - 1 <= start and ids[k_start] == ids[stop - 1]
            whole, masked = whole + inside, masked + (not inside)
    pairs = (np.arange(length) - first + 1).sum()
    return whole, masked, (whole + masked) * queries * keys / pairs


def main() -> None:
    """Compiles every combination and prints what it costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", default=",".join(TOPOLOGIES))
    parser.add_argument("--tiles", default="256x512,512x512,512x1024")
    parser.add_argument("--head_dims", default="128")
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--markdown", type=Path, help="a file for the table")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        topology, direction, tile, head_dim, length = arguments.child
        queries, keys = map(int, tile.split("x"))
        compile_kernel(topology, direction, (queries, keys), int(head_dim), int(length))
        return

    import rich

    from mindllm_jax.reporting.tables import Table

    length = arguments.length
    rows = []
    for chip, head_dim, direction, name in product(
        arguments.chips.split(","),
        map(int, arguments.head_dims.split(",")),
        ("forward", "backward"),
        arguments.tiles.split(","),
    ):
        queries, keys = map(int, name.split("x"))
        code = schedule(TOPOLOGIES[chip], direction, (queries, keys), head_dim, length)
        if code is None:
            print(chip, head_dim, direction, name, "does not fit into VMEM", file=sys.stderr)
            continue
        visits = [visited(ids, (queries, keys)) for ids in rows_of_documents(length)]
        cycles = [
            length // queries * code.rest + whole * code.whole + masked * code.masked for whole, masked, _ in visits
        ]
        packed, excess = float(np.mean(cycles[1:])), float(np.mean([visit[2] for visit in visits[1:]]))
        shares = (f"{code.matrix_units:.0%}", f"{code.spills:.0%}")
        figures = (*shares, round(cycles[0] / 1e3), round(packed / 1e3), round(excess, 2))
        rows.append((chip, head_dim, direction, name, code.whole, code.masked, code.rest, *figures))
        print(*rows[-1], file=sys.stderr)
    columns = ("chip", "head", "", "tile", "whole", "masked", "rest", "MXU", "spill", "causal", "packed", "visits")
    caption = f"Cycles by libtpu's static schedule; `causal` and `packed`: thousands for one head of {length} tokens."
    table = Table(columns, rows, caption)
    rich.print(table.terminal())
    if arguments.markdown:
        arguments.markdown.write_text(f"{HEADING}{table.markdown()}\n", encoding="utf-8")
    print(json.dumps([dict(zip(columns, row, strict=True)) for row in rows]))


if __name__ == "__main__":
    main()
