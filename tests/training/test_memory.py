"""Memory by part, before anything is compiled."""

from __future__ import annotations

import dataclasses

import pytest

from mindllm_jax.model.config import Model
from mindllm_jax.training.cost import Cost
from mindllm_jax.training.memory import memory_parts, remat_choices

MODEL = Model(
    vocab_size=125952,
    layers=32,
    width=2560,
    heads=20,
    head_dim=128,
    feed_forward=6912,
    max_length=2048,
    compute_dtype="bfloat16",
)


def test_what_a_policy_saves_costs_flops() -> None:
    choices = remat_choices(MODEL, 16384, 2048)
    saved, added = zip(*(choices[name] for name in ("none", "dots", "attention", "full")), strict=True)
    assert saved[0] == added[0] == 0
    assert list(saved) == sorted(saved) and len(set(saved)) == 4
    assert 0 < added[1] < 0.03 < added[2] < added[3] < 0.34, "dots computes attention again, full everything"


@pytest.mark.parametrize(
    ("mesh", "remat", "rows", "accumulation", "compiled_gib"),
    [
        # As compiled by libtpu: docs/results/planner.md.
        ({"data": 4, "fsdp": 16}, "none", 512, 1, 44.0),
        ({"fsdp": 256}, "none", 2048, 4, 14.1),
    ],
)
def test_estimates_are_close_to_compiled_steps(
    mesh: dict[str, int], remat: str, rows: int, accumulation: int, compiled_gib: float
) -> None:
    sizes = dict.fromkeys(("slices", "data", "fsdp", "context", "tensor"), 1) | mesh
    model = dataclasses.replace(MODEL, remat=remat)
    params = 4 * 3.18e9 / sizes["fsdp"]
    parts = memory_parts(
        model, sizes, rows=rows, length=2048, accumulation=accumulation, params=params, moments=2 * params
    )
    assert sum(parts.values()) / 2**30 == pytest.approx(compiled_gib, rel=0.15)


def test_too_little_memory_is_told_with_the_largest_part_and_what_to_change() -> None:
    cost = Cost(
        parameters=1,
        tokens_per_step=1,
        accumulation=1,
        steps=1,
        flops_per_token=1.0,
        memory={"parameters (float32)": 4 * 2**30, "activations (estimate, remat none)": 20 * 2**30},
        remat={},
        device_kind="TPU v5 lite",
        devices=4,
    )
    warning = cost.warning()
    assert warning is not None
    assert "24.00 GiB a device are needed and a TPU v5 lite has 16.00 GiB" in warning
    assert "activations" in warning and "Loop.accumulation" in warning
    assert dataclasses.replace(cost, device_kind="TPU v5").warning() is None
    assert dataclasses.replace(cost, device_kind="cpu").warning() is None
