"""MFU of the 1.3B and 3.1B presets on a GPU, beside transformers with PyTorch on the same shapes in one run.

python benchmarks/scaling.py [--presets mindllm_1b3,mindllm_3b] [--rows 8] [--attention triton,xla] [--remat attention]
    [--seconds 30] [--markdown FILE] [--here]

Each measurement is a process of its own. The peer is LlamaForCausalLM with torch.compile, sdpa attention and fused
AdamW under bfloat16 autocast, on one GPU. MFU is tokens a second times FLOPs a token (the formula is printed) over the
dense bfloat16 peak of the GPU; beside it stands the share of what a bfloat16 product of 8,192 x 8,192 matrices reaches.
Without a GPU it says so and ends; --here measures a small model on this machine, to try the benchmark itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import steps
from attention_calls import matrix_product_rate

SMALL = {"layers": 2, "width": 128, "heads": 2, "head_dim": 64, "feed_forward": 256, "vocab_size": 1024}


def model_of(preset: str, attention: str | None, remat: str, *, small: bool) -> Any:
    """A preset's shape, or a small one, in bfloat16."""
    from mindllm_jax import configuration
    from mindllm_jax.training.pretrain import Pretrain

    words = ["--gin", f"configs/model/{preset}.gin", "--gin.Mixture.store=none"]
    model = configuration.load(Pretrain, configuration.command_line("", words)).model
    model = dataclasses.replace(model, attention=attention, remat=remat, compute_dtype="bfloat16")
    return dataclasses.replace(model, **SMALL, max_length=256) if small else model


def measure(side: str, model: Any, rows: int, seconds: float) -> dict[str, Any]:
    """Median seconds of a step, of which the first two are left out, and the peak of the machine's own product."""
    if side == "peer":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        step = steps.peer(model, rows, device=device, compiled=device == "cuda")
        return {"seconds": steps.median_seconds(step, seconds, warm=2)}
    taken = steps.median_seconds(steps.ours(model, rows), seconds, warm=2)
    return {"seconds": taken, "product_tflops": matrix_product_rate() / 1e12}


def child(words: list[str]) -> dict[str, Any] | str:
    """`measure` in a process of its own, or why it failed."""
    environment = os.environ | {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "true",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, __file__, "--child", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if "Error" in line and not line.startswith(" ")]
        return (reasons or ["no message"])[-1][:200]
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measures every preset with every attention, and the peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", default="mindllm_1b3,mindllm_3b")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--attention", default="triton,xla")
    parser.add_argument("--remat", default="attention")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--here", action="store_true")
    parser.add_argument("--child", nargs=7, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        side, preset, attention, remat, small, count, seconds = arguments.child
        model = model_of(preset, None if attention == "none" else attention, remat, small=small == "small")
        print(json.dumps(measure(side, model, int(count), float(seconds))))
        return

    # This process asks for names alone; what is measured gets the memory. Ours and the peer have the first GPU.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    import jax
    import rich

    from mindllm_jax.files import write_text
    from mindllm_jax.parallel.hardware import chip
    from mindllm_jax.reporting.tables import Cell, Table
    from mindllm_jax.training.cost import FLOPS_FORMULA, flops_per_token

    if jax.default_backend() != "gpu" and not arguments.here:
        print("not run: there is no GPU here (--here tries the benchmark on this machine with a small model)")
        return
    size = "small" if arguments.here and jax.default_backend() != "gpu" else "whole"
    common = [arguments.remat, size, str(arguments.rows), str(arguments.seconds)]
    rows: list[tuple[Cell, ...]] = []
    kind = jax.devices()[0].device_kind
    here = chip(kind)
    for preset in arguments.presets.split(","):
        model = model_of(preset, None, arguments.remat, small=size == "small")
        sides = [("ours", name) for name in arguments.attention.split(",")] + [("peer", "none")]
        product = None  # of the machine, as the last of ours measured it
        for side, attention in sides:
            found = child([side, preset, attention, *common])
            name = f"ours, {attention}" if side == "ours" else "transformers, torch.compile"
            if isinstance(found, str):
                rows.append((preset, name, None, None, None, found))
                continue
            product = found.get("product_tflops", product)
            rate = arguments.rows * model.max_length / found["seconds"]
            flops = rate * flops_per_token(model, model.max_length)
            rows.append(
                (
                    preset,
                    name,
                    rate,
                    100 * flops / here.flops if here else None,
                    100 * flops / (product * 1e12) if product else None,
                    "",
                )
            )
    columns = ("preset", "what", "tokens/s", "MFU %", "% of the machine's own product", "failed")
    caption = f"{kind}, {arguments.rows} rows, jax {jax.__version__}; {FLOPS_FORMULA}"
    table = Table(columns, rows, caption)
    rich.print(table.terminal())
    if arguments.markdown:
        write_text(arguments.markdown, f"`python benchmarks/scaling.py {' '.join(sys.argv[1:])}`\n\n{table.markdown()}")


if __name__ == "__main__":
    main()
