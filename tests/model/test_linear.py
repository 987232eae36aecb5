"""In which type the gradients of the blocks' matrices are rounded and summed over devices."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numerics import SEED, floor, relative_error

from mindllm_jax.model.config import Model
from mindllm_jax.model.linear import matmul
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.rows import Batch
from mindllm_jax.training.state import abstract_model
from mindllm_jax.training.step import loss_sums

MATRICES = 7  # of a block: query, key, value, out, up, gate, down


def summed_over_devices(sums: Any) -> list[tuple[str, bool]]:
    """Of each gradient that four devices, two by two, sum of a block: the type, and whether it was bfloat16 before.

    XLA's CPU sums bfloat16 in float32, and says so in the name of the addition.
    """
    model = Model(
        vocab_size=64,
        layers=2,
        width=32,
        heads=4,
        head_dim=16,
        mlp_dim=48,
        compute_dtype="bfloat16",
        gradient_sums=sums,
    )
    abstract = abstract_model(model, Sharding(MeshAxes(data=2, fsdp=2).build(jax.devices()[:4])))
    rows: Any = abstract.sharding.named("batch", "length")
    ids, weights = (jax.ShapeDtypeStruct((8, 32), dtype) for dtype in (jnp.int32, jnp.float32))

    def gradients(params: Any, batch: Batch) -> Any:
        with abstract.sharding.active():
            return jax.grad(lambda params: loss_sums(abstract.decoder(params), batch).loss)(params)

    shardings = (abstract.shardings, Batch(rows, rows, rows, rows, rows))
    compiled = jax.jit(gradients, in_shardings=shardings, out_shardings=abstract.shardings)
    batch: Any = Batch._make((ids, ids, weights, ids, ids))
    text = compiled.lower(nnx.to_pure_dict(abstract.params), batch).compile().as_text()
    found = []
    for line in (text or "").splitlines():
        collective = re.search(
            r"= (.*?) (?:all-reduce|reduce-scatter)\(.*to_apply=%([\w.-]+),.*op_name=\"(.*?)\"", line
        )
        if collective and "transpose" in collective[3] and "dot_general" in collective[3]:
            found += [(dtype, "promoted" in collective[2]) for dtype in re.findall(r"(\w+)\[", collective[1])]
    return found


@pytest.mark.long
def test_gradients_of_blocks_are_summed_over_devices_as_asked() -> None:
    """Once along each of both axes of the mesh."""
    assert summed_over_devices("compute") == [("f32", True)] * 2 * MATRICES
    assert summed_over_devices("float32") == [("f32", False)] * 2 * MATRICES


@pytest.mark.parametrize(("sums", "least", "most"), [("compute", 1e-3, 1e-2), ("float32", 0, floor("float32"))])
def test_a_gradient_in_float32_is_nearer_to_the_truth(sums: Any, least: float, most: float) -> None:
    """Against float64, from operands in bfloat16, summed over four devices."""
    rng = np.random.default_rng(SEED)
    x, weight, dy = (rng.standard_normal(shape) for shape in ((8, 32, 24), (24, 4, 6), (8, 32, 4, 6)))
    x, dy = (jnp.asarray(array, jnp.bfloat16) for array in (x, dy))
    truth = np.einsum("bti,btno->ino", np.asarray(x, np.float64), np.asarray(dy, np.float64))
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    rows = jax.NamedSharding(mesh, jax.P("data"))

    @jax.jit
    def gradient(weight: jax.Array, x: jax.Array, dy: jax.Array) -> jax.Array:
        return jax.vjp(lambda weight: matmul(x, weight, gradient_sums=sums), weight)[1](dy)[0]

    found = gradient(jnp.asarray(weight, jnp.float32), jax.device_put(x, rows), jax.device_put(dy, rows))
    assert found.dtype == jnp.float32
    assert least <= relative_error(found, truth) <= most
