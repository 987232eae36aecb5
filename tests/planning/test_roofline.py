"""The roofline: times of collectives against written formulas, and FLOPs against the traced step."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from mindllm_jax.hardware.peak_rates import CHIPS
from mindllm_jax.hardware.topologies import TopologyGpu
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.planning.hlo import Collective
from mindllm_jax.planning.links import HOP_SECONDS, Grid, group_along, seconds
from mindllm_jax.planning.roofline import step_time
from mindllm_jax.rows import Batch
from mindllm_jax.training.memory import matmul_flops
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.run_spec import Loop, run_spec
from mindllm_jax.training.step import make_step

V5P, V5E, H100 = CHIPS["TPU v5"], CHIPS["TPU v5 lite"], CHIPS["NVIDIA H100 80GB HBM3"]


@dataclass(frozen=True)
class Place:
    """A device of a torus."""

    coords: tuple[int, int, int]
    slice_index: int = 0


def torus(*sizes: int) -> Grid:
    x, y, z = (*sizes, 1)[:3]
    return Grid.of([Place((i, j, k)) for i in range(x) for j in range(y) for k in range(z)], V5P)


def gather(group: tuple[int, ...]) -> Collective:
    return Collective("all-gather", 1e9, group, 1, overlapped=False)


def test_a_torus_has_two_directions_for_every_axis_that_a_group_spans() -> None:
    cube = torus(4, 4, 4)
    line, plane = group_along((4, 4, 4), [2]), group_along((4, 4, 4), [1, 2])
    assert seconds(gather(line), cube, V5P) == pytest.approx(1e9 * 3 / 4 / (2 * V5P.link) + 2 * HOP_SECONDS)
    assert seconds(gather(plane), cube, V5P) == pytest.approx(1e9 * 15 / 16 / (4 * V5P.link) + 4 * HOP_SECONDS)
    whole = dataclasses.replace(gather(plane), kind="all-reduce")
    assert seconds(whole, cube, V5P) == pytest.approx(1e9 * 2 * 15 / 16 / (4 * V5P.link) + 4 * HOP_SECONDS)


def test_an_axis_that_is_not_closed_has_one_direction() -> None:
    assert seconds(gather((0, 1, 2, 3)), torus(1, 4), V5E) == pytest.approx(1e9 * 3 / 4 / V5E.link + 3 * HOP_SECONDS)
    closed = seconds(gather(tuple(range(16))), torus(1, 16), V5E)
    assert closed == pytest.approx(1e9 * 15 / 16 / (2 * V5E.link) + 8 * HOP_SECONDS)


def test_everyone_sends_to_everyone_over_the_longest_ring_or_the_network() -> None:
    exchange = dataclasses.replace(gather(group_along((4, 4, 4), [1, 2])), kind="all-to-all")
    assert seconds(exchange, torus(4, 4, 4), V5P) == pytest.approx(1e9 * 4 / 4 / (2 * V5P.link) + 4 * HOP_SECONDS)
    gpus = [TopologyGpu(number, "NVIDIA H100 80GB HBM3", number // 8) for number in range(16)]
    across = dataclasses.replace(exchange, group=tuple(range(16)))
    assert seconds(across, Grid.of(gpus, H100), H100) == pytest.approx(1e9 / 2 / H100.network, rel=1e-2)


def test_gpus_of_several_nodes_share_their_network() -> None:
    gpus = [TopologyGpu(number, "NVIDIA H100 80GB HBM3", number // 8) for number in range(16)]
    nodes = Grid.of(gpus, H100)
    inside = seconds(gather(tuple(range(8))), nodes, H100)
    across = seconds(gather(tuple(range(16))), nodes, H100)
    pairs = seconds(gather((0, 8)), nodes, H100)
    assert inside == pytest.approx(1e9 * 7 / 8 / H100.link, rel=1e-2)
    assert across == pytest.approx(1e9 * 15 / 16 / (8 * H100.network), rel=1e-2)
    assert pairs == pytest.approx(1e9 / 2 / H100.network, rel=1e-2)
    assert seconds(gather((3,)), nodes, H100) == 0


def test_the_slower_counts_and_exposed_communication_is_added() -> None:
    cube = torus(4, 4, 4)
    exposed, overlapped = gather((0, 1, 2, 3)), dataclasses.replace(gather((0, 1, 2, 3)), overlapped=True, times=1000)
    time = step_time(2 * V5P.flops, V5P.bandwidth, [exposed], cube, V5P)
    alone = seconds(exposed, cube, V5P)
    assert time.total == pytest.approx(2 + alone) and time.communication == pytest.approx(alone / (2 + alone))
    assert step_time(2 * V5P.flops, 3 * V5P.bandwidth, [], cube, V5P).total == 3
    assert step_time(V5P.flops, 0, [overlapped], cube, V5P).total == pytest.approx(1000 * alone)


def weight_products(jaxpr: Any, devices: int) -> float:
    """FLOPs of products without batch dimensions: those with weights; attention's products have them."""
    total = 0.0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contracted, _), (batch, _) = eqn.params["dimension_numbers"]
            if not batch:
                shape = eqn.invars[0].aval.shape
                total += 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)
        times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        times *= devices if eqn.primitive.name == "shard_map" else 1
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                total += times * weight_products(getattr(inner, "jaxpr", inner), devices)
    return total


@pytest.mark.parametrize("remat", ["none", "dots", "attention", "full"])
def test_flops_are_those_of_the_step_as_traced(remat: Any) -> None:
    """Products with weights within 1 %, recomputation included. The shape has a loss head of whole chunks."""
    model = Model(vocab_size=512, layers=3, width=64, heads=4, head_dim=16, mlp_dim=192, max_seq_len=64, remat=remat)
    run = run_spec(model, Loop(global_batch_size=8), Optimizer(), MeshAxes(fsdp=2, tensor=2), 64)
    ids, weights = (jax.ShapeDtypeStruct((8, 64), dtype) for dtype in (jnp.int32, jnp.float32))
    step = make_step(run.abstract_model, Optimizer().build(10, run.abstract_model.roles))
    batch: Any = Batch._make((ids, ids, weights, ids, ids))
    traced = weight_products(step.trace(run.abstract_state, batch).jaxpr, 8)
    visible = 4 * model.heads * model.head_dim * 32
    attention = 8 * 64 * 3 * visible * (3.5 + (remat in ("full", "dots")))
    assert traced == pytest.approx(matmul_flops(model, 8 * 64, 64) - attention, rel=0.01)
