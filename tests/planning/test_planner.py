"""The planner ranks, writes and refuses. GPUs by arithmetic need nothing installed."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import jax
import pytest

from mindllm_jax.hardware.peak_rates import USABLE
from mindllm_jax.hardware.topologies import topology_devices
from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.model.config import Model
from mindllm_jax.planning.planner import Planner, make_plan
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.pretrain import Pretrain
from mindllm_jax.training.run_spec import Loop

ROOT = Path(__file__).parents[2]
SHAPE = Model(vocab_size=32768, layers=24, width=2048, heads=16, head_dim=128, mlp_dim=5632, max_seq_len=2048)
TINY = Model(vocab_size=64, layers=2, width=64, heads=8, head_dim=8, mlp_dim=128, max_seq_len=16)
RUN = Pretrain(Mixture("none", sequence_length=2048), SHAPE, loop=Loop(global_batch_size=256))


def plan_of(run: Pretrain, topology: str):
    return make_plan(Planner(run, topology, compile=0), log=lambda _: None)


def test_estimates_are_ranked_fit_and_use_every_device() -> None:
    plan = plan_of(RUN, "h100:2x8")
    times = [estimate.time.total for estimate in plan.estimates]
    assert times == sorted(times) and len(plan.estimates) == 6
    for estimate in plan.estimates:
        assert math.prod(estimate.candidate.sizes.values()) == 16
        assert estimate.bytes == sum(estimate.candidate.memory.values()) <= USABLE * 80 * 2**30
    assert 0.3 < plan.mfu(plan.best) < 0.6
    assert plan.rate(plan.best) == pytest.approx(256 * 2048 / plan.expected(plan.best))


def test_less_memory_asks_for_more_splitting_or_recomputation() -> None:
    roomy, tight = plan_of(RUN, "h200:1x8"), plan_of(dataclasses.replace(RUN, model=larger(RUN.model)), "h200:1x8")
    shares = [plan.best.candidate.sizes["fsdp"] * plan.best.candidate.sizes["tensor"] for plan in (roomy, tight)]
    assert shares[0] < shares[1]
    assert tight.best.bytes <= USABLE * tight.chip.memory


def larger(model: Model) -> Model:
    return dataclasses.replace(model, layers=48, width=5120, heads=40, mlp_dim=13824)


def test_nodes_of_four_count_as_slices() -> None:
    gpus = topology_devices("h100:2x4")
    assert [gpu.process_index for gpu in gpus] == [0] * 4 + [1] * 4
    assert any(each.candidate.sizes["slices"] == 2 for each in plan_of(RUN, "h100:2x4").estimates)


@pytest.mark.parametrize("changes", [{}, {"positions": "learned"}, {"compute_dtype": "float64"}], ids=str)
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_memory_of_the_state_is_that_of_the_run(name: Literal["adamw", "muon"], changes: dict[str, Any]) -> None:
    model = dataclasses.replace(TINY, **changes)
    run = dataclasses.replace(
        RUN, model=model, optimizer=Optimizer(name=name), data=Mixture("none", sequence_length=16)
    )
    with jax.enable_x64("compute_dtype" in changes):
        estimates = plan_of(run, "h100:1x8").estimates
        for estimate in estimates:
            spec = dataclasses.replace(run, mesh=estimate.candidate.mesh).spec()
            for part in ("parameters (float32)", "optimizer"):
                # The spec's counts and its learning rate's step are whole on every device.
                assert estimate.candidate.memory[part] == pytest.approx(spec.cost.memory[part], abs=1), part
    assert len({estimate.candidate.axes() for estimate in estimates}) == len(estimates)


def test_rows_that_training_refuses_are_not_planned() -> None:
    run = dataclasses.replace(RUN, data=Mixture("none", sequence_length=4096))
    with pytest.raises(ValueError, match=r"rows of 4096 tokens are longer than Model\.max_seq_len = 2048: raise it"):
        plan_of(run, "h100:1x8")


def test_a_price_of_nothing_is_a_price() -> None:
    plan = make_plan(Planner(RUN, "h100:1x8", compile=0, watts=0, price=0), log=lambda _: None)
    rows = {row[0]: row[1] for row in plan.details(plan.best).rows}
    assert (rows["energy"], rows["price"]) == ("0 kWh", "0")


def test_nothing_fits_names_the_parts_and_a_remedy() -> None:
    plan = plan_of(dataclasses.replace(RUN, model=larger(RUN.model)), "a100:1x2")
    with pytest.raises(
        ValueError,
        match=r"nothing fits: the smallest candidate needs \d+\.\d GiB .*optimizer \d+.*Take more or larger devices",
    ):
        _ = plan.best


@pytest.mark.parametrize(
    ("topology", "message"),
    [
        ("v9:2x2", "unknown hardware 'v9': known are v4, v5e, v5p, v6e, tpu7x, a100, h100, h200"),
        ("h100:2x9", "write nodes x GPUs per node, as h100:16x8; a node has at most 8"),
        ("h100", "write nodes x GPUs per node"),
    ],
)
def test_unknown_topologies_raise(topology: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        topology_devices(topology)


def test_a_batch_that_cannot_be_split() -> None:
    run = dataclasses.replace(RUN, loop=Loop(global_batch_size=257))
    with pytest.raises(
        ValueError, match=r"no mesh over 64 devices splits Loop\.global_batch_size = 257 .* multiple of"
    ):
        plan_of(run, "a100:8x8")


@pytest.mark.long
def test_the_command_prints_the_plan_and_writes_settings_that_training_takes(tmp_path: Path) -> None:
    preset = "configs/pretrain/mindllm_3b.gin"
    plan = [sys.executable, "launch/plan.py", "--gin", preset, "--topology", "a100:8x8", "--workdir", str(tmp_path)]
    settings = ["--gin.Loop.global_batch_size=512", "--gin.Loop.steps=7", "--gin.Planner.price=2.5"]
    done = subprocess.run([*plan, *settings], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("predicted, not measured", "roofline", "device-hours", "price", "arithmetic: optimizer"):
        assert word in done.stdout
    train = [sys.executable, "launch/train.py", "--gin", preset, "--gin", str(tmp_path / "plan.gin")]
    read = subprocess.run([*train, "--print_config"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
    assert "--gin.Loop.steps=7" in done.stdout and "Planner.price" not in done.stdout.split("launch/train.py")[-1]
    assert "plan.gin" in read.stdout and "Loop.global_batch_size = 512" in read.stdout
