"""Meshes and rules that do not fit are refused before anything is compiled, with what to do."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import pytest
from flax import nnx

from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import RULES, Sharding
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.run_spec import Loop, run_spec

MODEL = Model(vocab_size=62, layers=2, width=16, heads=4, head_dim=4, mlp_dim=24, max_seq_len=32)


def planned(mesh: MeshAxes, length: int = 32, **changes: Any) -> None:
    run_spec(dataclasses.replace(MODEL, **changes), Loop(global_batch_size=8), Optimizer(), mesh, length)


@pytest.mark.parametrize(
    ("mesh", "changes", "message"),
    [
        (
            MeshAxes(data=1, fsdp=2, tensor=4),
            {},
            r"embedding dim 0 \(vocab\) = 62 is not divisible by tensor=4: .* Model\.vocab_size = 256",
        ),
        (
            MeshAxes(data=1, tensor=8),
            {"vocab_size": 64},
            r"blocks/attention/\w+ dim \d \((kv_)?heads\) = 4 is not divisible by tensor=8: change Model\.(kv_)?heads",
        ),
        (
            MeshAxes(data=1, fsdp=4, context=2),
            {"width": 12, "vocab_size": 64},
            r"width\) = 12 is not divisible by fsdp=4 x context=2: .*Model\.width, MeshAxes\.fsdp or MeshAxes\.context",
        ),
    ],
)
def test_an_axis_that_does_not_divide_a_parameter(mesh: MeshAxes, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        planned(mesh, **changes)


def test_an_axis_without_a_setting_of_its_own_does_not_divide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "norm", ("tensor",))
    with pytest.raises(
        ValueError, match=r"norm\) = 12 is not divisible by tensor=8: change this size or MeshAxes\.tensor"
    ):
        planned(MeshAxes(data=1, tensor=8), width=12, heads=8, vocab_size=64)


def test_rows_that_cannot_be_split_in_balanced_chunks() -> None:
    with pytest.raises(ValueError, match=r"rows of 28 tokens .* MeshAxes\.context = 8 devices: take a multiple of 16"):
        planned(MeshAxes(data=1, context=8), length=28, vocab_size=64)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"data": 3}, r"'data': 3, .* needs 3 devices; there are 8"),
        ({"fsdp": 3}, r"'data': -1, .* needs a multiple of 3 devices; there are 8"),
        ({"data": -1, "fsdp": -1}, r"at most one may be -1"),
        ({"tensor": 0}, r"sizes are at least 1"),
    ],
)
def test_meshes_that_do_not_fit_the_devices(axes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MeshAxes(**axes).build()


def test_slices_hold_devices_that_are_close_to_each_other() -> None:
    grid = MeshAxes(slices=2, data=1, fsdp=4).build().devices
    assert [[device.id for device in part.flat] for part in grid] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_generation_refuses_a_mesh_that_splits_rows() -> None:
    sharding = Sharding(MeshAxes(data=1, context=8).build())
    decoder = nnx.eval_shape(
        lambda: Decoder(dataclasses.replace(MODEL, vocab_size=64), rngs=nnx.Rngs(0), sharding=sharding)
    )
    with pytest.raises(ValueError, match=r"can split rows over devices: set MeshAxes\.context = 1"):
        jax.eval_shape(lambda: decoder.new_cache(1, 16))
