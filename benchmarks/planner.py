"""The planner against published runs, and plans for the presets on hardware that is not here.

python benchmarks/planner.py published
python benchmarks/planner.py plans --workdir runs/planner [--compile 1]
python benchmarks/planner.py scaling --workdir runs/planner
python benchmarks/planner.py write --workdir runs/planner        makes docs/results/planner.md of all of them

Nothing is measured here. `plans` compiles one preset and topology after the other, writes each as it is ready, and
leaves out what is there already. TPUs need libtpu, GPUs JAX's CUDA plugin; without it they are planned by arithmetic.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mindllm_jax import configuration
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.described import described
from mindllm_jax.parallel.hardware import chip
from mindllm_jax.planning.candidates import estimate
from mindllm_jax.planning.planner import Planner, make_plan
from mindllm_jax.reporting.tables import Table
from mindllm_jax.training.cost import flops_per_token
from mindllm_jax.training.loop import Loop

OPTIONS = {"overlapped": "true"}  # by arithmetic it matters only that there are some


class Published(NamedTuple):
    """A run whose shape, mesh and speed are public."""

    source: str
    name: str
    topology: str
    model: dict[str, Any]
    rows: int  # of 2,048 tokens, on each device
    mesh: dict[str, int]
    tflops: float  # a second and device, attention counted in full


def shape(layers: int, width: int, remat: str) -> dict[str, Any]:
    """MaxText's scaled models (configs/tpu/*/{16,32,64}b.sh with base.yml and its rule for global_parameter_scale)."""
    heads = {"heads": 64, "head_dim": 128, "feed_forward": 28672, "vocab_size": 32000, "mlp": "swiglu"}
    return {"layers": layers, "width": width, "remat": remat, "max_length": 2048, **heads}


README = "MaxText, configs/tpu"
PUBLISHED = [
    Published(README, "16B", "v5e:16x16", shape(32, 4096, "full"), 6, {"fsdp": 256}, 120),
    Published(README, "32B", "v5e:16x16", shape(32, 8192, "full"), 4, {"fsdp": 256}, 132),
    Published(README, "32B", "v5p:4x4x4", shape(32, 8192, "dots"), 6, {"fsdp": 16, "tensor": 4}, 328),
    Published(README, "64B", "v5p:4x4x4", shape(64, 8192, "dots"), 3, {"fsdp": 16, "tensor": 4}, 323),
]
NANOTRON = {
    "1b3": (44.32, 41.59, 38.38, 32.47),
    "3b": (46.68, 43.77, 40.39, 35.53),
}  # MFU on 1, 2, 4, 8 nodes of 8 H100
PLANS = ("v5e:16x16", "v5p:4x4x4", "v5p:8x8x8", "v6e:16x16", "h100:1x8", "h100:8x8", "h100:64x8")
BATCH = 2048  # rows of 2,048 tokens: 4.2M tokens a step, so that 512 devices have four rows each


def published() -> Table:
    """Predicted by arithmetic against what was published."""
    rows = []
    for run in PUBLISHED:
        model = Model(**run.model, compute_dtype="bfloat16")
        devices = described(run.topology)
        here = chip(devices[0].device_kind)
        assert here is not None
        sizes = {"slices": 1, "data": 1, "fsdp": 1, "context": 1, "tensor": 1} | run.mesh
        loop = Loop(batch_rows=run.rows * len(devices), compiler_options=OPTIONS)
        predicted = estimate(model, loop, 2048, sizes, 1, devices, here).time
        full = flops_per_token(model, 2 * 2048) * run.rows * 2048  # twice the keys: attention is not halved there
        took = full / (run.tflops * 1e12)
        rows.append((run.source, run.name, run.topology, took, predicted.total, predicted.total / took))
    caption = "Seconds of a step. Predicted: the roofline by arithmetic, before anything is lost."
    return Table(("source", "model", "hardware", "published", "predicted", "predicted / published"), rows, caption)


def nanotron() -> Table:
    """The same for H100s, by MFU: the shapes are close to the presets', the batches were not published."""
    rows = []
    for preset, figures in NANOTRON.items():
        for nodes, mfu in zip((1, 2, 4, 8), figures, strict=True):
            plan = make_plan(planner(preset, f"h100:{nodes}x8", compiled=0), say=lambda _: None)
            ours = 100 * plan.mfu(plan.best) / plan.reached
            rows.append((f"nanotron, {preset}", f"{nodes} x 8 H100", mfu, ours, mfu / ours))
    return Table(("source", "hardware", "published MFU %", "roofline MFU %", "published / roofline"), rows)


def planner(preset: str, topology: str, compiled: int, rows: int = BATCH, hardware: bool = True) -> Planner:
    """The plan of a preset's pre-training."""
    files = [f"configs/pretrain/mindllm_{preset}.gin"]
    if hardware and not topology.startswith("h"):
        files.append("configs/hardware/tpu.gin")
    words = [word for file in files for word in ("--gin", file)]
    settings = (f"Planner.topology={topology}", f"Planner.compile={compiled}", f"Loop.batch_rows={rows}")
    arguments = configuration.command_line("", [*words, *(f"--gin.{x}" for x in (*settings, "Mixture.store=none"))])
    return configuration.load(Planner, arguments)
