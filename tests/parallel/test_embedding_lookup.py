"""Looking up a table that is split over the mesh."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numerics import SEED, assert_same

from mindllm_jax.parallel.embedding_lookup import lookup
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding


@pytest.mark.parametrize(
    "mesh", [MeshAxes(fsdp=4), MeshAxes(data=1, fsdp=2, context=2, tensor=2), MeshAxes(slices=2, data=2, tensor=2)]
)
def test_rows_and_gradient_are_those_of_the_whole_table(mesh: MeshAxes) -> None:
    rng = np.random.default_rng(SEED)
    table = jnp.asarray(rng.normal(size=(24, 16)), jnp.float32)
    tokens = jnp.asarray(rng.integers(0, 24, (8, 6)), jnp.int32)
    factors = jnp.asarray(rng.normal(size=(8, 6, 16)), jnp.float32)
    sharding = Sharding(mesh.build())

    def both(table: jax.Array, sharding: Sharding | None) -> tuple[jax.Array, jax.Array]:
        rows, vjp = jax.vjp(lambda table: lookup(table, tokens, jnp.dtype("float32"), sharding), table)
        return rows, vjp(factors)[0]

    expected = both(table, None)
    placed = jax.device_put(table, sharding.named("vocab", "width"))
    found = jax.jit(lambda table: both(table, sharding))(placed)
    assert found[1].sharding == placed.sharding
    np.testing.assert_array_equal(found[0], expected[0])
    assert_same(found[1], expected[1], "float32")
