"""Memory by part, before anything is compiled."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.launch import train
from mindllm_jax.model.config import Model
from mindllm_jax.training.cost import Cost, flops_per_token
from mindllm_jax.training.memory import block_weights, gathered_bytes, memory_parts, remat_choices, visible_keys

PRESET = Path(__file__).parents[2] / "configs/pretrain/small_bilingual.gin"
MODEL = Model(
    vocab_size=125952,
    layers=32,
    width=2560,
    heads=20,
    head_dim=128,
    mlp_dim=6912,
    max_seq_len=2048,
    compute_dtype="bfloat16",
)


def test_saved_memory_costs_flops() -> None:
    choices = remat_choices(MODEL, 16384, 2048)
    saved, added = zip(*(choices[name] for name in ("none", "dots", "attention", "full")), strict=True)
    assert saved[0] == added[0] == 0
    assert list(saved) == sorted(saved) and len(set(saved)) == 4
    assert 0 < added[1] < 0.03 < added[2] < added[3] < 0.34, "dots computes attention again, full everything"


@pytest.mark.parametrize(
    ("mesh", "remat", "rows", "grad_accum_steps", "compiled_gib"),
    [
        # As compiled by libtpu: docs/results/planner.md.
        ({"data": 4, "fsdp": 16}, "none", 512, 1, 44.0),
        ({"fsdp": 256}, "none", 2048, 4, 14.1),
    ],
)
def test_estimates_are_close_to_compiled_steps(
    mesh: dict[str, int], remat: str, rows: int, grad_accum_steps: int, compiled_gib: float
) -> None:
    sizes = dict.fromkeys(("slices", "data", "fsdp", "context", "tensor"), 1) | mesh
    model = dataclasses.replace(MODEL, remat=remat)
    params = 4 * 3.18e9 / sizes["fsdp"]
    parts = memory_parts(
        model, sizes, rows=rows, length=2048, grad_accum_steps=grad_accum_steps, params=params, opt_state=2 * params
    )
    assert sum(parts.values()) / 2**30 == pytest.approx(compiled_gib, rel=0.15)


def test_gradients_summed_in_float32_take_twice_the_bytes_of_bfloat16() -> None:
    sizes = dict.fromkeys(("slices", "data", "context", "tensor"), 1) | {"fsdp": 16}
    wide = dataclasses.replace(MODEL, gradient_sums="float32")
    # Two blocks' parameters, and as many gradients.
    assert gathered_bytes(MODEL, sizes) == 2 * (2 + 2) * block_weights(MODEL)
    assert gathered_bytes(wide, sizes) == 2 * (2 + 4) * block_weights(MODEL)


COST = Cost(
    parameters=1,
    tokens_per_step=1,
    grad_accum_steps=1,
    steps=1,
    flops_per_token=1.0,
    memory={"parameters (float32)": 4 * 2**30, "activations (estimate, remat none)": 20 * 2**30},
    remat={},
    device_kind="TPU v5 lite",
    compute_dtype="bfloat16",
    devices=4,
)


def test_too_little_memory_names_the_largest_part_and_a_remedy() -> None:
    warning = COST.warning()
    assert warning is not None
    assert "needs about 24.00 GiB per device and a TPU v5 lite has 16.00 GiB" in warning
    assert "activations" in warning and "Loop.grad_accum_steps" in warning
    assert dataclasses.replace(COST, device_kind="TPU v5").warning() is None
    assert dataclasses.replace(COST, device_kind="cpu").warning() is None


def test_reported_memory_precedes_the_table() -> None:
    small = dataclasses.replace(COST, device_kind="NVIDIA H100 80GB HBM3 MIG 1g.10gb", runtime_memory=9.5 * 2**30)
    warning = small.warning()
    assert warning is not None and "a NVIDIA H100 80GB HBM3 MIG 1g.10gb has 9.50 GiB" in warning
    assert "of 9.50 GiB" in small.table().markdown() and small.utilization(1e6) is None
    # The reported memory is all for the step: nothing is reserved for the runtime.
    assert dataclasses.replace(small, runtime_memory=24 * 2**30).warning() is None


def test_a_dry_run_warns_as_the_run_would(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("mindllm_jax.training.cost.runtime_memory", lambda devices: 2.0**20)
    monkeypatch.setattr(sys, "argv", ["train.py", "--gin", str(PRESET), "--dry_run"])
    train.main()
    assert "\nwarning: the run needs about" in capsys.readouterr().out


@given(st.integers(1, 300), st.none() | st.integers(1, 400))
def test_visible_keys_are_those_of_every_query_counted(length: int, window: int | None) -> None:
    counted = sum(min(t + 1, window or length) for t in range(length)) / length
    assert visible_keys(dataclasses.replace(MODEL, windows=(window,)), length) == pytest.approx(counted, rel=1e-12)


def test_a_window_of_the_whole_row_is_none() -> None:
    whole = dataclasses.replace(MODEL, windows=(2048,))
    assert flops_per_token(whole, 2048) == flops_per_token(MODEL, 2048)
    # The stated formula, by hand: products with weights and both products of attention, three times.
    weights = 32 * (4 * 2560 * 2560 + 3 * 2560 * 6912) + 2560 * 125952
    assert flops_per_token(MODEL, 2048) == 3 * (2 * weights + 4 * 32 * 20 * 128 * 2049 / 2)
    half = dataclasses.replace(MODEL, windows=(1024,))
    assert flops_per_token(half, 2048) == 3 * (2 * weights + 4 * 32 * 20 * 128 * (1024 - 1024 * 1023 / 4096))


def test_frozen_weights_get_no_gradients() -> None:
    weights = 32 * (4 * 2560 * 2560 + 3 * 2560 * 6912) + 2560 * 125952
    assert flops_per_token(MODEL, 2048) - flops_per_token(MODEL, 2048, frozen=True) == 2 * weights
    sizes: dict[str, int] = dict.fromkeys(("slices", "data", "fsdp", "context", "tensor"), 1)
    parts = memory_parts(MODEL, sizes, rows=1, length=64, grad_accum_steps=1, params=8.0, opt_state=16.0, frozen=100.0)
    assert parts["frozen parameters"] == 100.0 and parts["gradients (float32)"] == 8.0
    shown = dataclasses.replace(COST, parameters=1100, frozen=1000).table().markdown()
    assert "| trained parameters | 100 |" in shown and "3 x (4/3 x weights" in shown
    assert "trained parameters" not in COST.table().markdown()
