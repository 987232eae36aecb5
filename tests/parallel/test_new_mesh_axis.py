"""A new mesh axis is one field of MeshAxes and one entry of RULES: batch, memory, cost and planner follow."""

from __future__ import annotations

import ast
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from mindllm_jax.hardware.peak_rates import CHIPS
from mindllm_jax.hardware.topologies import TopologyGpu
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import RULES, Sharding, mesh_settings, replica_axes
from mindllm_jax.planning import candidates as planner
from mindllm_jax.training.memory import gathered_bytes
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.run_spec import Loop, RunSpec, run_spec

ROOT = Path(__file__).parents[2] / "mindllm_jax"
MODEL = Model(vocab_size=64, layers=2, width=16, heads=4, head_dim=4, mlp_dim=24, max_seq_len=32)
LOOP = Loop(global_batch_size=8)
KIND = "NVIDIA H100 80GB HBM3"
SAME_WORD = {
    ("training/position.py", "data"),  # a field of a checkpoint's identity
    ("training/pretrain.py", "data"),
    ("training/load_run.py", "data"),
    ("training/task_suite.py", "data"),  # the folder of benchmarks
}


@dataclass(frozen=True)
class SixAxes(MeshAxes):
    """The mesh with a sixth axis."""

    extra: int = 1


def spec(mesh: MeshAxes) -> RunSpec:
    return run_spec(MODEL, LOOP, Optimizer(), mesh, 32)


def test_an_axis_that_splits_products(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("heads", "kv_heads", "mlp_dim", "vocab"):
        monkeypatch.setitem(RULES, name, (*RULES[name], "extra"))
    monkeypatch.setattr(planner, "MeshAxes", SixAxes)
    assert mesh_settings("vocab") == ["MeshAxes.tensor", "MeshAxes.extra"]

    # The sixth axis counts as the one that it stands beside in RULES.
    assert spec(SixAxes(fsdp=2, extra=2)).cost.memory == spec(SixAxes(fsdp=2, tensor=2)).cost.memory
    sizes = SixAxes(data=2, fsdp=2, extra=2).sizes(8)
    assert gathered_bytes(MODEL, sizes) == gathered_bytes(MODEL, {**sizes, "extra": 1}) / 2
    with pytest.raises(ValueError, match=r"heads\) = 4 is not divisible by tensor=2 x extra=4"):
        spec(SixAxes(tensor=2, extra=4))

    gpus = [TopologyGpu(number, KIND) for number in range(4)]
    ranked = planner.candidates(MODEL, LOOP, Optimizer(), 32, gpus, CHIPS[KIND])
    times = {tuple(each.sizes.values())[3:]: each.time for each in ranked if each.remat == "none"}
    assert times[1, 1, 2].total == times[1, 2, 1].total and times[1, 1, 2].exposed_comm == times[1, 2, 1].exposed_comm
    assert (1, 4, 1) in times and (1, 4, 2) not in times, "heads are split by both"


def test_an_axis_that_replicates_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "batch", (*RULES["batch"], "extra"))
    monkeypatch.setattr(planner, "MeshAxes", SixAxes)
    assert replica_axes() == ("slices", "data", "extra")
    assert spec(SixAxes(data=2, extra=4)).cost == spec(SixAxes(data=8)).cost
    assert Sharding(SixAxes(data=2, extra=4).build()).even_rows(3) == 8
    with pytest.raises(ValueError, match=r"over 8 devices \(slices x data x fsdp x extra\): take a multiple of 8"):
        run_spec(MODEL, Loop(global_batch_size=4), Optimizer(), SixAxes(extra=8, data=1), 32)
    gpus = [TopologyGpu(number, KIND) for number in range(4)]
    ranked = planner.candidates(MODEL, LOOP, Optimizer(), 32, gpus, CHIPS[KIND])
    assert {each.sizes["extra"] for each in ranked} == {1, 2, 4}


def test_mesh_axes_are_named_in_parallel_alone() -> None:
    axes = {field.name for field in dataclasses.fields(MeshAxes)}
    named = {
        (str(path.relative_to(ROOT)), node.value)
        for room in ("model", "batching", "hardware", "planning", "training", "generation")
        for path in sorted((ROOT / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and node.value in axes
    }
    assert named <= SAME_WORD, f"ask mindllm_jax/parallel/sharding.py instead: {sorted(named - SAME_WORD)}"
