"""Measures tokens/s and peak memory of training steps, and of transformers with PyTorch, in the same run.

python benchmarks/train_step.py [--shapes small,medium,wide] [--dtypes float32,bfloat16] [--seconds 20] [--rounds 2]

Each measurement runs in its own process, for its peak memory; rounds alternate. The peer is LlamaForCausalLM of that
shape with sdpa attention and fused AdamW; bfloat16 is autocast for it and `Model.compute_dtype` for ours. Peak memory
is that of the process, compiler and libraries included. Prints a table and JSON.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from typing import Any, NamedTuple

import steps

BATCH, LENGTH = 8, 512


class Shape(NamedTuple):
    """The shape of a model with head dimension 64 and F = 3 D."""

    layers: int
    width: int
    vocab: int


SHAPES = {"small": Shape(6, 256, 8192), "medium": Shape(8, 512, 16384), "wide": Shape(6, 256, 65536)}


def model_of(shape: Shape, dtype: str) -> Any:
    """Returns our settings of a shape."""
    from mindllm_jax.model.config import Model

    return Model(
        vocab_size=shape.vocab,
        layers=shape.layers,
        width=shape.width,
        heads=shape.width // 64,
        head_dim=64,
        mlp_dim=3 * shape.width,
        max_seq_len=LENGTH,
        compute_dtype="float32" if dtype == "float32" else "bfloat16",
    )


def measure(side: str, shape: Shape, dtype: str, seconds: float) -> dict[str, float]:
    """Measures the median tokens/s of the steps after the first, and the peak memory of this process in GB."""
    model = model_of(shape, dtype)
    step = steps.ours(model, BATCH) if side == "ours" else steps.peer(model, BATCH, device="cpu")
    taken = steps.median_seconds(step, seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"tokens_per_second": BATCH * LENGTH / taken, "peak_gb": peak}


def child(*words: str) -> dict[str, float]:
    """Runs `measure` in its own process."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, "--child", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measures every combination and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        side, shape, dtype, seconds = arguments.child
        print(json.dumps(measure(side, SHAPES[shape], dtype, float(seconds))))
        return

    import rich

    from mindllm_jax.reporting.tables import Table

    rows = []
    for shape in arguments.shapes.split(","):
        for dtype in arguments.dtypes.split(","):
            found: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
            for _ in range(arguments.rounds):
                for side, measured in found.items():
                    measured.append(child(side, shape, dtype, str(arguments.seconds)))
            speed = {s: statistics.median(m["tokens_per_second"] for m in found[s]) for s in found}
            memory = {s: max(m["peak_gb"] for m in found[s]) for s in found}
            layers, width, vocab = SHAPES[shape]
            name = f"{layers} x {width}, V {vocab:,}"
            ratio = speed["ours"] / speed["peer"]
            rows.append((name, dtype, speed["ours"], speed["peer"], ratio, memory["ours"], memory["peer"]))
            print(f"{name} {dtype}: {speed['ours']:.0f} against {speed['peer']:.0f} tokens/s", file=sys.stderr)
    columns = ("shape", "dtype", "tokens/s", "peer tokens/s", "ratio", "peak GB", "peer peak GB")
    table = Table(columns, rows, f"{BATCH} rows of {LENGTH}, {os.cpu_count()} CPUs, {platform.processor() or 'cpu'}")
    rich.print(table.terminal())
    print(json.dumps([dict(zip(columns, row, strict=True)) for row in rows]))


if __name__ == "__main__":
    main()
