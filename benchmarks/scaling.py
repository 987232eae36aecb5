"""Measures the MFU of the 1.3B and 3.1B presets on a GPU, and of transformers with PyTorch, in one run.

python benchmarks/scaling.py [--presets mindllm_1b3,mindllm_3b] [--rows 16] [--attention triton,xla] [--seconds 15]
    [--lines FILE] [--limit SECONDS] [--markdown FILE] [--here]

Each measurement runs in its own process on the first GPU; lines in the file of --lines are not measured again. Ours
uses the micro-batches and the rematerialisation that the planner ranks first by arithmetic, or, where the GPU runs out
of memory, the next that needs a tenth less; the table has the planner's expected step time too. The peer is
LlamaForCausalLM with torch.compile, causal sdpa attention and fused AdamW under bfloat16 autocast, with the fewest
micro-batches that fit.

MFU is tokens/s times FLOPs/token (the formula is printed) over the dense bfloat16 peak of the GPU; another column
is the share of the rate of a bfloat16 product of 8,192 x 8,192 matrices. Without a GPU nothing is measured; --here
measures a small model on this machine, planned as for an H100, to test the benchmark itself. Prints a table and JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import steps
from attention_calls import matrix_product_rate, tiles_digest

from mindllm_jax.recipes.hardware_check.kept import Kept, TimeUp

if TYPE_CHECKING:
    from mindllm_jax.hardware.peak_rates import Chip
    from mindllm_jax.model.config import Model

SMALL = {"layers": 2, "width": 128, "heads": 2, "head_dim": 64, "mlp_dim": 256, "vocab_size": 1024}
PLANNED_FOR = "NVIDIA H100 80GB HBM3"
TRIES = 4
COLUMNS = (
    "preset", "what", "micro-batches", "remat", "tokens/s", "MFU %", "% of the product", "step s", "planned s",
    "peak GiB", "failed",
)  # fmt: skip


class Configuration(NamedTuple):
    """A configuration of a step, with the memory and the seconds that the planner expects for ours."""

    grad_accum_steps: int  # micro-batches
    remat: str
    bytes: float
    expected: float


def model_of(preset: str, attention: str | None, remat: str, *, small: bool) -> Model:
    """Returns a preset's shape, or a small one, in bfloat16."""
    from mindllm_jax import configuration
    from mindllm_jax.training.pretrain import Pretrain

    words = ["--gin", f"configs/model/{preset}.gin", "--gin.Mixture.store=none"]
    model = configuration.load(Pretrain, configuration.command_line("", words)).model
    model = dataclasses.replace(model, attention=attention, remat=remat, compute_dtype="bfloat16")
    return dataclasses.replace(model, **SMALL, max_seq_len=256) if small else model


def planned(model: Model, rows: int, kind: str, chip: Chip) -> list[Configuration]:
    """Returns the configurations that fit into one such device by the planner's arithmetic, fastest first."""
    from mindllm_jax.hardware.peak_rates import USABLE
    from mindllm_jax.hardware.topologies import TopologyGpu
    from mindllm_jax.planning.candidates import candidates
    from mindllm_jax.planning.roofline import REACHED
    from mindllm_jax.training.optimizer import Optimizer
    from mindllm_jax.training.run_spec import Loop

    loop, device = Loop(global_batch_size=rows), TopologyGpu(0, kind)
    ranked = candidates(model, loop, Optimizer(), model.max_seq_len, [device], chip)
    return [
        Configuration(candidate.grad_accum_steps, candidate.remat, needed, candidate.time.total / REACHED["gpu"])
        for candidate in ranked
        if (needed := sum(candidate.memory.values())) <= USABLE * chip.memory
    ]


def sparing(choices: list[Configuration]) -> Iterator[Configuration]:
    """Yields the first configuration, and then the next that needs a tenth less memory than the last."""
    room = math.inf
    for choice in choices:
        if choice.bytes <= room:
            yield choice
            room = 0.9 * choice.bytes


def measure(side: str, model: Model, rows: int, grad_accum_steps: int, seconds: float) -> dict[str, Any]:
    """Measures the median seconds of a step after the first two, the peak memory, and the rate of a matrix product."""
    if side == "peer":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        step = steps.peer(model, rows, device=device, grad_accum_steps=grad_accum_steps, compiled=device == "cuda")
        taken = steps.median_seconds(step, seconds, warm=2)
        return {"seconds": taken, "peak": torch.cuda.max_memory_allocated() if device == "cuda" else None}
    import jax

    taken = steps.median_seconds(steps.ours(model, rows, grad_accum_steps), seconds, warm=2)
    peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {"seconds": taken, "peak": peak, "product": matrix_product_rate()}


def child(words: list[str], limit: float) -> dict[str, Any]:
    """Runs `measure` in its own process; returns the reason if it fails. Raises TimeUp after `limit` seconds."""
    environment = os.environ | {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "true",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, __file__, "--child", *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=min(limit, 1e6), check=False
        )
    except subprocess.TimeoutExpired:
        raise TimeUp from None
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if "Error" in line and not line.startswith(" ")]
        return {"failed": (reasons or [f"status {done.returncode}"])[-1][:200], "memory": _lacks_memory(done.stderr)}
    return json.loads(done.stdout.splitlines()[-1])


def _lacks_memory(text: str) -> bool:
    return "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()


def first_that_fits(
    side: str, preset: str, attention: str, choices: list[Configuration], common: list[str], kept: Kept
) -> Any:
    """Measures the first configuration that fits in memory; returns None when the time is up."""
    result: dict[str, Any] = {"failed": "no configuration fits by the planner's arithmetic"}
    for choice in choices[:TRIES]:
        words = [side, preset, attention, choice.remat, str(choice.grad_accum_steps), *common]
        found = kept.measure((*words, tiles_digest()), lambda words=words: child(words, kept.left()))
        if found is None:
            return None
        result = {"choice": choice, **found}
        if not found.get("memory"):
            break
    return result


def row_of(name: str, model: Model, rows: int, found: dict[str, Any], product: float | None, known: Chip | None) -> Any:
    """Returns a row of the table without the preset: the measurements, and their shares of the machine's rates."""
    from mindllm_jax.training.cost import flops_per_token

    choice: Configuration | None = found.get("choice")
    taken, peak = found.get("seconds"), found.get("peak")
    rate = rows * model.max_seq_len / taken if taken else None
    flops = rate * flops_per_token(model, model.max_seq_len) if rate else None
    mfu = 100 * flops / known.flops if flops and known else None
    share = 100 * flops / product if flops and product else None
    gib = peak / 2**30 if peak else None
    failed = found.get("failed", "")
    how = (choice.grad_accum_steps, choice.remat) if choice else (None, None)
    expected = choice.expected if choice and name.startswith("ours") else None
    return name, *how, rate, mfu, share, taken, expected, gib, failed


def main() -> None:
    """Measures every preset with every attention, and the peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", default="mindllm_1b3,mindllm_3b")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--attention", default="triton,xla")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--lines", type=Path, help="a file of measurements, to resume from")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--here", action="store_true")
    parser.add_argument("--child", nargs=8, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        side, preset, attention, remat, grad_accum_steps, small, count, seconds = arguments.child
        model = model_of(preset, None if attention == "none" else attention, remat, small=small == "small")
        print(json.dumps(measure(side, model, int(count), int(grad_accum_steps), float(seconds))))
        return

    # This process needs the device's name alone and leaves it the memory. Ours and the peer use the first GPU.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    import jax

    from mindllm_jax.files import write_text
    from mindllm_jax.hardware.peak_rates import CHIPS, chip
    from mindllm_jax.reporting.tables import Cell, Table
    from mindllm_jax.training.cost import FLOPS_FORMULA

    on_gpu = jax.default_backend() == "gpu"
    if not on_gpu and not arguments.here:
        print("not run: JAX finds no GPU (--here tests the benchmark on this machine with a small model)")
        return
    kept = Kept(arguments.lines, arguments.limit)
    kind, count = jax.devices()[0].device_kind, arguments.rows
    known = chip(kind)
    common = ["whole" if on_gpu else "small", str(count), str(arguments.seconds)]
    rows: list[tuple[Cell, ...]] = []
    product = None  # its rate, as last measured
    for preset, attention in itertools.product(arguments.presets.split(","), (*arguments.attention.split(","), "none")):
        model = model_of(preset, None, "none", small=not on_gpu)
        choices = planned(model, count, *((kind, known) if known else (PLANNED_FOR, CHIPS[PLANNED_FOR])))
        if attention == "none":  # the peer does not rematerialise
            side, name = "peer", "transformers, torch.compile"
            choices = sorted(choice for choice in choices if choice.remat == "none")
        else:
            side, name, choices = "ours", f"ours, {attention}", list(sparing(choices))
        found = first_that_fits(side, preset, attention, choices, common, kept)
        if found is None:
            continue
        product = found.get("product", product)
        rows.append((preset, *row_of(name, model, count, found, product, known)))
        print(*rows[-1], file=sys.stderr)
        if arguments.markdown:
            caption = f"{kind}, steps of {count} rows of {model.max_seq_len}, jax {jax.__version__}; {FLOPS_FORMULA}"
            command = f"`python benchmarks/scaling.py {' '.join(sys.argv[1:])}`"
            write_text(arguments.markdown, f"{command}\n\n{Table(COLUMNS, rows, caption).markdown()}")
    print(Table(COLUMNS, rows, FLOPS_FORMULA).markdown())
    lines = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    print(json.dumps({"complete": kept.complete, "lines": lines}))


if __name__ == "__main__":
    main()
