"""Rows are placed on every mesh that splits them, whatever the axes are called."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding

LENGTH = 8


@pytest.mark.parametrize(
    "mesh",
    [
        MeshAxes(),
        MeshAxes(slices=8, data=1),
        MeshAxes(slices=2, data=1, fsdp=4),
        MeshAxes(slices=2, data=2, fsdp=2),
        MeshAxes(slices=2, data=1, fsdp=2, context=2),
        MeshAxes(slices=4, data=1, tensor=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("rows", [1, 3, 9])
def test_rows_rounded_up_can_be_placed_and_no_fewer_could(mesh: MeshAxes, rows: int) -> None:
    sharding = Sharding(mesh.build())
    count = sharding.even_rows(rows)

    def fits(count: int) -> bool:
        try:
            placed = sharding.place(np.zeros((count, LENGTH), np.int32), "batch", "length")
        except ValueError:
            return False
        return isinstance(placed, jax.Array)

    assert count >= rows and fits(count)
    assert not any(map(fits, range(rows, count)))
