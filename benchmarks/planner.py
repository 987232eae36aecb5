"""Compares the planner with published runs, and plans the presets for topologies that this machine lacks.

python benchmarks/planner.py [--plans DIR] [--only TEXT] [--markdown docs/results/planner.md]

Nothing is measured. --only compiles a plan for each preset and topology whose name contains TEXT ("" for all), and
writes each to DIR when it is ready; plans that DIR holds are kept. TPUs need libtpu, GPUs JAX's CUDA plugin; without
them a plan is by arithmetic and marked so. The page is made from DIR.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from mindllm_jax import configuration
from mindllm_jax.files import write_text
from mindllm_jax.hardware.peak_rates import chip
from mindllm_jax.hardware.topologies import topology_devices
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.planning.candidates import estimate
from mindllm_jax.planning.planner import Plan, Planner, make_plan
from mindllm_jax.planning.roofline import REACHED
from mindllm_jax.planning.state_bytes import state_bytes
from mindllm_jax.reporting.plots import line_plot
from mindllm_jax.reporting.tables import Cell, Table
from mindllm_jax.run_records import git_sha
from mindllm_jax.training.cost import flops_per_token
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.run_spec import Loop

OPTIONS: dict[str, bool | int | str] = {"xla_enable_async_all_gather": True}


class Published(NamedTuple):
    """A run with public shape, mesh and speed."""

    source: str
    name: str
    topology: str
    model: dict[str, Any]
    rows: int  # of 2,048 tokens, on each device
    mesh: dict[str, int]
    tflops: float  # TFLOP/s per device, attention counted in full


def shape(layers: int, width: int, remat: str) -> dict[str, Any]:
    """MaxText's scaled models (configs/tpu/*/{16,32,64}b.sh with base.yml and its rule for global_parameter_scale)."""
    heads = {"heads": 64, "head_dim": 128, "mlp_dim": 28672, "vocab_size": 32000, "mlp": "swiglu"}
    return {"layers": layers, "width": width, "remat": remat, "max_seq_len": 2048, **heads}


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
PRESETS = ("1b3", "3b")
PLANS = ("v5e:16x16", "v5p:4x4x4", "v5p:8x8x8", "v6e:16x16", "h100:1x8", "h100:8x8", "h100:64x8")
BATCH = 2048  # rows of 2,048 tokens: 4.2M tokens per step, four rows for each of 512 devices
SCALES = ("4x4x4", "4x8x8", "8x8x8", "8x16x16", "16x16x16", "16x16x24")  # of v5p: 64 to 6,144 chips, libtpu's largest


def published() -> Table:
    """Compares predictions by arithmetic with published step times on TPUs."""
    rows = []
    for run in PUBLISHED:
        model = Model(**run.model, compute_dtype="bfloat16")
        devices = topology_devices(run.topology)
        target = chip(devices[0].device_kind)
        assert target is not None
        sizes = MeshAxes(**run.mesh).sizes(len(devices))
        loop = Loop(global_batch_size=run.rows * len(devices), compiler_options=OPTIONS)
        state = state_bytes(model, Optimizer(), MeshAxes())
        predicted = estimate(model, loop, 2048, sizes, 1, devices, target, state).time
        # Twice the keys: attention is not halved there.
        seconds = flops_per_token(model, 2 * 2048) * run.rows * 2048 / (run.tflops * 1e12)
        rows.append((run.source, run.name, run.topology, seconds, predicted.total, predicted.total / seconds))
    columns = ("source", "model", "hardware", "published, s/step", "roofline, s/step", "roofline / published")
    return Table(columns, rows)


def nanotron() -> Table:
    """Compares MFU on H100s with published runs of similar shapes, whose batches were not published."""
    rows = []
    for preset, figures in NANOTRON.items():
        for nodes, mfu in zip((1, 2, 4, 8), figures, strict=True):
            plan = make_plan(planner(preset, f"h100:{nodes}x8", compiled=0), log=lambda _: None)
            roofline = 100 * plan.mfu(plan.best) / plan.reached
            rows.append((f"nanotron, against {preset}", f"{nodes} x 8 H100", mfu, roofline, mfu / roofline))
    return Table(("source", "hardware", "published MFU %", "roofline MFU %", "roofline / published, by time"), rows)


def planner(preset: str, topology: str, compiled: int, rows: int = BATCH) -> Planner:
    """Returns the settings of the planner for a preset's pre-training."""
    hardware = "gpu" if topology.startswith("h") else "tpu"
    files = (f"configs/pretrain/mindllm_{preset}.gin", f"configs/hardware/{hardware}.gin")
    settings = (f"Planner.topology={topology}", f"Planner.compile={compiled}", f"Loop.global_batch_size={rows}")
    words = [word for file in files for word in ("--gin", file)]
    words += [f"--gin.{setting}" for setting in (*settings, "Mixture.store=none")]
    if hardware == "gpu":
        words.append("--gin.Model.attention=triton")
    return configuration.load(Planner, configuration.command_line("", words))


def record(plan: Plan) -> list[dict[str, Any]]:
    """Returns the best estimate and all compiled ones, as JSON."""
    return [
        {
            "mesh": way.candidate.axes(),
            "micro": way.candidate.grad_accum_steps,
            "remat": way.candidate.remat,
            "compiled": way.compiled is not None,
            "fits": plan.fits(way),
            "gib": way.bytes / 2**30,
            "estimated_gib": sum(way.candidate.memory.values()) / 2**30,
            "matmul": way.time.matmul,
            "memory": way.time.memory,
            "overlapped_comm": way.time.overlapped_comm,
            "exposed_comm": way.time.exposed_comm,
            "roofline": way.time.total,
            "expected": plan.expected(way),
            "mfu": plan.mfu(way),
            "tokens_per_second": plan.rate(way),
            "commit": git_sha()[:7],
            "compile_seconds": way.compiled and way.compiled.seconds,
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        }
        for way in plan.estimates
        if way.compiled or way == plan.estimates[0]
    ]


def make(folder: Path, only: str) -> None:
    """Writes the plans that the folder lacks, each in its own process, because compilers keep their memory."""
    for preset in PRESETS:
        for topology in PLANS:
            path = folder / f"{preset}-{topology.replace(':', '-')}.json"
            if only in topology and not path.exists():
                print(preset, topology, flush=True)
                command = [sys.executable, __file__, "--one", preset, topology, str(path)]
                done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
                if done.returncode:
                    reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
                    write_text(path, json.dumps({"failed": reason}))


def plans(folder: Path) -> Table:
    """Returns a table with a row per compiled estimate, or the best one where none was compiled."""
    columns = (
        "preset", "hardware", "mesh", "micro-batches", "remat", "by", "GiB", "estimated GiB", "fits",
        "s: matmul / memory / overlapped / exposed comm.", "MFU", "tokens/s", "compilation s", "peak GB", "commit",
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for preset in PRESETS:
        for topology in PLANS:
            path = folder / f"{preset}-{topology.replace(':', '-')}.json"
            plan: Any = json.loads(path.read_text()) if path.exists() else {"failed": "not run"}
            if "failed" in plan:
                rows.append((preset, topology, plan["failed"], *(None,) * (len(columns) - 3)))
                continue
            for way in plan:
                exposed = sum(way["exposed_comm"].values())
                parts = (way["matmul"], way["memory"], way["overlapped_comm"], exposed)
                rows.append((
                    preset, topology, way["mesh"], way["micro"], way["remat"],
                    "compiler" if way["compiled"] else "arithmetic", f"{way['gib']:.1f}", f"{way['estimated_gib']:.1f}",
                    way["fits"], " / ".join(f"{x:.3f}" for x in parts), f"{100 * way['mfu']:.1f} %",
                    round(way["tokens_per_second"]), way["compile_seconds"] and round(way["compile_seconds"]),
                    f"{way['peak_gb']:.1f}", way["commit"],
                ))  # fmt: skip
    return Table(columns, rows)


def scaling(preset: str = "3b") -> tuple[Table, str]:
    """Plans v5p slices of growing size by arithmetic, with a fixed batch in total and per chip; also plots them."""
    rows, lines = [], dict[str, tuple[list[float], list[float]]]()
    for name, batch in (("4.2M tokens per step", lambda _: BATCH), ("8 rows per chip", lambda chips: 8 * chips)):
        for scale in SCALES:
            topology = f"v5p:{scale}"
            chips = len(topology_devices(topology))
            try:
                plan = make_plan(planner(preset, topology, 0, batch(chips)), log=lambda _: None)
            except ValueError as error:
                rows.append((name, topology, chips, None, None, None, str(error).partition(":")[0]))
                continue
            time, rate = plan.best.time, plan.rate(plan.best)
            rows.append((name, topology, chips, round(rate), 100 * plan.mfu(plan.best), 100 * time.communication,
                         plan.best.candidate.name()))  # fmt: skip
            xs, ys = lines.setdefault(name, ([], []))
            xs.append(chips)
            ys.append(100 * plan.mfu(plan.best))
    columns = ("batch", "slice", "chips", "tokens/s", "MFU %", "exposed communication, % of the step", "configuration")
    return Table(columns, rows), line_plot(lines, x_label="v5p chips", y_label="expected MFU, %", y_min=0)


def median_of_last(table: Table) -> float:
    """Returns the median of the last column's numbers."""
    return statistics.median(float(cell) for *_, cell in table.rows if isinstance(cell, float))


PAGE = """# The planner's predictions, against published runs

Generated by `python benchmarks/planner.py --plans DIR --markdown docs/results/planner.md`. **Nothing here was measured
by this project.** [scaling.md](scaling.md) has measured steps of both presets on one H200 beside the planned ones.

## The model

A step takes the longest of its matrix products at the peak rate, its memory traffic at the peak bandwidth, and its
overlapped communication; exposed communication is added (`mindllm_jax/planning/roofline.py`, `links.py`, rates in
`mindllm_jax/hardware/peak_rates.py`). For a compiled configuration, traffic, collectives and memory are read from the
compiler's program; FLOPs are counted from the step, with recomputation (within 1 % of the traced step in the tests).
The expected step time is that roofline divided by the share of it that published runs reach: {tpu:.2f} on TPUs,
{gpu:.2f} on GPUs.

## Against published runs

TPU: MaxText's scaled models, whose shapes, meshes and batches are public, in seconds per step. The median of
roofline / published is {tpu_found:.2f}.

{published}
H100: nanotron's best MFU for 1.34B and 3.57B, against the roofline of our 1.3B and 3.1B presets. Their batches are not
public, and our roofline does not fall with the number of nodes as their MFU does. The median is {gpu_found:.2f}.

{nanotron}
## Plans

4.2M tokens per step ({batch} rows of 2,048). Rows by `arithmetic` were not compiled. On GPUs attention is our Triton
kernels (`Model.attention=triton`).

Before commit 1e53caf attention processed its rows in two halves on every mesh, not only where rows are split: earlier
commits show that step.

{plans}
## The TPU compiler and the mesh (libtpu 0.0.42.1)

- Over all three axes of a v5p slice (fsdp 64 of 4x4x4) every all-gather and reduce-scatter becomes an all-reduce:
  twice the bytes. Over one or two axes (fsdp 16 of 4x4x4) both stay, so choose the mesh accordingly: 16 devices share
  the parameters, and 4 replicas all-reduce the rest.
- With a vocabulary that is not a multiple of 128 the head's gradient is all-reduced instead of scattered; the presets
  pad theirs to a multiple of 256.
- Without the options of `configs/hardware/tpu.gin` every collective is exposed; with them the layers' all-gathers
  overlap with matrix products.
- Left to the compiler, the embedding's gradient is all-reduced ([V D] in float32 on every device);
  `mindllm_jax/parallel/embedding_lookup.py` exchanges columns for tokens instead.

`tests/planning/test_compiled_for_tpu.py` checks these (slow).

## Scaling: 3B on v5p, by arithmetic

![expected MFU by chips](planner_scaling.svg)

{scaling}
"""


def main() -> None:
    """Writes the requested plans, and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=Path, default=Path("runs/planner"))
    parser.add_argument("--only", help="plans topologies whose names contain this")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        preset, topology, path = arguments.one
        write_text(Path(path), json.dumps(record(make_plan(planner(preset, topology, 1), log=print)), indent=1))
        return
    arguments.plans.mkdir(parents=True, exist_ok=True)
    if arguments.only is not None:
        make(arguments.plans, arguments.only)
    if arguments.markdown:
        tpu, gpu, (grown, plot) = published(), nanotron(), scaling()
        page = PAGE.format(
            tpu=REACHED["tpu"],
            gpu=REACHED["gpu"],
            tpu_found=median_of_last(tpu),
            gpu_found=median_of_last(gpu),
            published=tpu.markdown(),
            nanotron=gpu.markdown(),
            plans=plans(arguments.plans).markdown(),
            scaling=grown.markdown(),
            batch=f"{BATCH:,}",
        )
        write_text(arguments.markdown, page)
        write_text(arguments.markdown.parent / "planner_scaling.svg", plot.replace("currentColor", "#777777"))


if __name__ == "__main__":
    main()
