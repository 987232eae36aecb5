"""The table of tiles: every chip and kernel has a line, and a call takes the one that the rule says."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from mindllm_jax.kernels.block_ranges import BLOCK
from mindllm_jax.kernels.flash_attention import tiles, tpu_tiles, triton

ROWS = [
    tiles.Row("TPU v4", "forward", 64, None, 1, 1, None, None, ""),
    tiles.Row("TPU v4", "forward", 256, None, 7, 1, None, None, ""),
    tiles.Row("TPU v5", "forward", 64, 1024, 2, 1, None, None, ""),
    tiles.Row("TPU v5", "forward", 64, 4096, 3, 1, None, None, ""),
    tiles.Row("TPU v5", "forward", 128, None, 4, 1, None, None, ""),
    tiles.Row("TPU v5 lite", "forward", 128, 2048, 5, 1, None, None, ""),
    tiles.Row("TPU v5 lite", "backward", 64, None, 6, 1, None, None, ""),
]


@pytest.mark.parametrize(
    ("kind", "head_dim", "length", "expected"),
    [
        ("TPU v5p", 64, 1024, 2),
        ("TPU v5p", 64, 1025, 3),
        ("TPU v5p", 64, 8192, 3),  # longer than all: the longest
        ("TPU v5p", 32, 10, 2),
        ("TPU v5p", 80, 10, 4),  # the next larger head
        ("TPU v5p", 256, 10, 7),  # larger than its own: another chip's that suffices
        ("TPU v5p", 512, 10, 4),  # larger than all: its own largest
        ("TPU v5 lite", 64, 10, 5),  # the longest name that fits, and only its own lines
        ("TPU v5e", 64, 10, 5),  # the same chip by its other name
        ("TPU v9", 64, 10, 1),  # not known
    ],
)
def test_the_line_of_a_call(
    kind: str, head_dim: int, length: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "rows", lambda: ROWS)
    device = AbstractDevice(device_kind=kind, num_cores=None, platform="tpu")
    with use_abstract_mesh(AbstractMesh((1,), ("device",), abstract_device=device)):
        assert tiles.row("forward", head_dim, length, otherwise="TPU v4").queries == expected


def test_no_two_lines_for_one_call() -> None:
    keys = [row[:4] for row in tiles.rows()]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("chip", tpu_tiles.VMEM)
def test_every_tpu_has_both_kernels(chip: str) -> None:
    own = [row for row in tiles.rows() if row.chip == chip]
    assert {row.kernel for row in own} == {"forward", "backward"}
    assert all(row.queries % BLOCK == row.keys % BLOCK == 0 and row.source for row in own)


@pytest.mark.parametrize("kernel", ["forward", "backward_queries", "backward_keys"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_every_gpu_has_all_kernels(kernel: str, dtype: Any) -> None:
    tile = triton.tile_sizes(kernel, jnp.dtype(dtype), 96, 1000)
    assert all(jax.tree.map(lambda size: size & (size - 1) == 0, tile))  # Triton's arrays are powers of 2
