"""Attention: time, TFLOP/s and error of every implementation that is here, in one run on one machine.

python benchmarks/attention.py [--head_dims 64,128] [--lengths 2048,4096,8192,16384,32768] [--tokens 16384]
    [--heads 16/16,32/8] [--means causal,512,1024,2048] [--implementations triton,cudnn] [--markdown FILE]
    [--lines FILE] [--limit SECONDS] [--here] [--tune]

bfloat16, forward and forward with backward. A row of the batch is one causal document, or packed with documents of a
mean length (exponential) that do not see each other; the batch has as many rows as make --tokens, at least one. Heads
are those of queries / of keys.

- FLOP: 4 x head_dim for each pair of query and key that may meet, by head of queries; the backward pass counts 2.5
  times that. Pairs that a mask forbids do not count, so an implementation that computes them has fewer TFLOP/s.
- share: of the TFLOP/s of a bfloat16 matrix product of this machine, measured in this run.
- errors: relative Frobenius error of the output, and of the worst gradient, of the timed call itself against the plain
  formula in float32: at the last queries of the first row, and at the keys that these alone see.

An implementation that cannot do a problem has a line that says why. --markdown is written after each line; with
--lines, too, and what stands in that file is not measured again. After --limit seconds no line is begun. Without a GPU
or TPU nothing is measured, unless --here asks for this machine. --tune measures tiles instead and rewrites the chip's
lines of kernels/flash_attention/tiles.json (benchmarks/attention_tiles.py). Prints markdown and JSON.
"""

import argparse
import json
import math
import os
import shlex
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from attention_calls import (
    OURS,
    Problem,
    errors,
    matrix_product_rate,
    seconds,
    tiles_digest,
    truth,
    with_jax,
    with_torch,
)

CAUSAL_PEER = {"gpu": "cudnn", "tpu": "splash", "cpu": "reference"}
COLUMNS = (
    "row", "head", "heads", "length", "implementation", "forward ms", "TFLOP/s", "share", "both ms", "both TFLOP/s",
    "both share", "error", "gradient error", "why not",
)  # fmt: skip


def line(problem: Problem, name: str, rate: float) -> tuple[Any, ...]:
    """One line of the table; what cannot be done is a line that says why."""
    start = (*problem.names(), name)
    try:
        call = with_torch(problem) if name == "torch" else with_jax(name, problem)
        times = seconds(call.forward, call.wait), seconds(call.both, call.wait)
        error, *of_gradients = errors(call.results(), truth(problem))
    except Exception as failure:  # out of memory, not supported, not installed: any of a library's own kinds
        return *start, *[None] * 8, f"{type(failure).__name__}: {failure}".splitlines()[0][:160]
    figures = []
    for taken, flop in zip(times, (problem.flop(), 3.5 * problem.flop()), strict=True):
        figures += [taken * 1e3, flop / taken / 1e12, flop / taken / rate]
    return *start, *figures, error, max(of_gradients), ""


def packed_ratios(lines: list[tuple[Any, ...]], platform: str) -> Iterator[tuple[Any, ...]]:
    """Our time for rows of 8,192 packed with documents of mean 1,024, over that of a peer for plainly causal ones."""
    found = {entry[:5]: entry for entry in lines if not entry[-1]}
    for row, head, heads, length, name in found:
        if (row, length, name) == ("packed 1024", 8192, OURS[platform]):
            peer = found.get(("causal", head, heads, length, CAUSAL_PEER[platform]))
            if peer is not None:
                ours = found[row, head, heads, length, name]
                yield head, heads, name, CAUSAL_PEER[platform], ours[5] / peer[5], ours[8] / peer[8]


def page(lines: list[tuple[Any, ...]], rate: float) -> str:
    """The results as markdown."""
    import jax

    from mindllm_jax.recipes.hardware_check.machine import PACKAGES
    from mindllm_jax.reporting.tables import Table
    from mindllm_jax.run_records import installed

    device = jax.local_devices()[0].device_kind
    versions = ", ".join(f"{name} {version}" for name, version in installed(PACKAGES).items())
    command = shlex.join(["python", "benchmarks/attention.py", *sys.argv[1:]])
    text = (
        f"# Attention on {device}\n\nRebuilt by `{command}`, which says what the columns mean."
        f" {time.strftime('%Y-%m-%d')}, one {device}, {versions}."
        f" A bfloat16 matrix product reached {rate / 1e12:.3g} TFLOP/s.\n\n"
        f"{Table(COLUMNS, lines).markdown()}\n"
    )
    ratios = list(packed_ratios(lines, jax.default_backend()))
    if not ratios:
        return f"{text}Packed rows over a peer's causal rows: not measured.\n"
    caption = "Time of packed rows of 8,192, documents of mean 1,024, over the peer's for plainly causal rows."
    return text + Table(("head", "heads", "ours", "peer", "forward", "both"), ratios, caption).markdown()


def main() -> None:
    """Measures every combination."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head_dims", default="64,128")
    parser.add_argument("--lengths", default="2048,4096,8192,16384,32768")
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--heads", default="16/16,32/8")
    parser.add_argument("--means", default="causal,512,1024,2048")
    parser.add_argument("--implementations", help="only these of those that are here; torch is one")
    parser.add_argument("--markdown", type=Path, help="a file for the tables")
    parser.add_argument("--lines", type=Path, help="a file that keeps the lines, to resume from")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds")
    parser.add_argument("--here", action="store_true", help="also without a GPU or TPU")
    parser.add_argument("--tune", action="store_true", help="measure tiles and rewrite the table of them")
    parser.add_argument("--tiles", type=Path, help="with --tune: another table to rewrite")
    arguments = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs memory too

    import jax

    from mindllm_jax.files import write_text
    from mindllm_jax.kernels.flash_attention import IMPLEMENTATIONS
    from mindllm_jax.recipes.hardware_check.kept import Kept

    platform = jax.default_backend()
    if platform == "cpu" and not arguments.here:
        print("not measured: JAX finds no GPU and no TPU. --here measures on this machine's CPU.")
        return
    head_dims, lengths = (list(map(int, x.split(","))) for x in (arguments.head_dims, arguments.lengths))
    heads = [(int(n), int(kv)) for n, kv in (x.split("/") for x in arguments.heads.split(","))]
    kept = Kept(arguments.lines, arguments.limit)
    if arguments.tune:
        import attention_tiles

        attention_tiles.tune(head_dims, lengths, heads[0], arguments.tokens, arguments.tiles, kept)
        return
    here = [
        name
        for name, entry in IMPLEMENTATIONS.items()
        if (name != "reference" or platform == "cpu")
        and (entry.capabilities.platforms is None or platform in entry.capabilities.platforms)
    ]
    asked = arguments.implementations
    names = [name for name in (*here, "torch") if asked is None or name in asked.split(",")]
    rate = kept.measure(("matrix product",), matrix_product_rate)
    if not isinstance(rate, float):
        sys.exit(f"the matrix product was not measured: {rate}")
    lines: list[tuple[Any, ...]] = []
    means = [None if x == "causal" else int(x) for x in arguments.means.split(",")]
    for (n, kv), head_dim, length, mean in product(heads, head_dims, lengths, means):
        problem = Problem(mean, head_dim, n, kv, length, max(1, arguments.tokens // length))
        for name in names:
            of_tiles = (tiles_digest(),) if name == OURS[platform] else ()
            found = kept.measure((*problem, name, *of_tiles), lambda p=problem, name=name: line(p, name, rate))
            if found is None:
                continue
            ended = isinstance(found, dict)
            lines.append((*problem.names(), name, *[None] * 8, found["failed"]) if ended else tuple(found))
            print(*lines[-1], file=sys.stderr)
            if arguments.markdown:
                write_text(arguments.markdown, page(lines, rate))
    print(page(lines, rate))
    found = [dict(zip(COLUMNS, entry, strict=True)) for entry in lines]
    print(json.dumps({"complete": kept.complete, "matrix product TFLOP/s": rate / 1e12, "lines": found}))


if __name__ == "__main__":
    main()
