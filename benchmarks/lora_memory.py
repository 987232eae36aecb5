"""Memory of a training step of LoRA and QLoRA beside that of full tuning, as a compiler lays it out; nothing is run.

python benchmarks/lora_memory.py [--topology v5p:2x2x1] [--rows 4] [--length 2048] [--rank 16] [--remat full]

The model is the 1.3B preset in bfloat16. A topology needs libtpu and has `fsdp` over its devices; without one the
program is this machine's CPU's. Figures: docs/tuning.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import jax

from mindllm_jax import configuration
from mindllm_jax.hardware.topologies import tpu_topology
from mindllm_jax.model.lora import Lora
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.pretrain import Pretrain
from mindllm_jax.training.run_spec import Loop, run_spec

PRESET = ["--gin", "configs/model/mindllm_1b3.gin", "--gin.Mixture.store=none"]


def step_memory(lora: Lora | None, devices: Sequence[Any], *, rows: int, length: int, remat: str) -> dict[str, float]:
    """Returns the GiB of a device during a step: parameters, opt_state and batch, and everything else."""
    preset = configuration.load(Pretrain, configuration.command_line("", PRESET)).model
    model = dataclasses.replace(preset, remat=remat, compute_dtype="bfloat16")
    mesh = MeshAxes(data=1, fsdp=len(devices))
    spec = run_spec(model, Loop(global_batch_size=rows), Optimizer(), mesh, length, devices, lora=lora)
    memory = spec.compiled_step().memory_analysis()
    state = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    temporary = memory.temp_size_in_bytes
    return {"state": state / 2**30, "temporary": temporary / 2**30, "total": (state + temporary) / 2**30}


def main() -> None:
    """Compiles the steps and prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topology")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--remat", default="full")
    given = parser.parse_args()
    devices = tpu_topology(given.topology) if given.topology else jax.devices()[:1]
    shape = {"rows": given.rows, "length": given.length, "remat": given.remat}
    full = step_memory(None, devices, **shape)
    found = {base: step_memory(Lora(rank=given.rank, base=base), devices, **shape) for base in ("compute", "nf4")}
    ratios = {base: memory["total"] / full["total"] for base, memory in found.items()}
    print(json.dumps({**vars(given), "full": full, "lora": found, "ratio": ratios}))


if __name__ == "__main__":
    main()
