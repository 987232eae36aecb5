"""Training over two processes of four devices each gives what one device gives, on every mesh."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from train_on_meshes import train

from mindllm_jax.parallel.mesh import MeshAxes

ROOT = Path(__file__).parents[2]
AXES = ("slices", "data", "fsdp", "context", "tensor")
FIVE = ["slices=2,data=4", "fsdp=8", "data=2,fsdp=2,tensor=2", "fsdp=2,context=4", "context=2,tensor=4"]
ALL = [
    ",".join(f"{axis}={size}" for axis, size in zip(AXES[1:], sizes, strict=True))
    for sizes in itertools.product((1, 2, 4, 8), repeat=4)
    if math.prod(sizes) == 8
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("grad_accum_steps", "meshes"),
    [
        (1, FIVE),
        pytest.param(1, ALL, marks=pytest.mark.slow, id="1-all"),
        pytest.param(2, ALL, marks=pytest.mark.slow, id="2-all"),
    ],
    ids=str,
)
def test_meshes_over_two_processes_give_what_one_device_gives(
    grad_accum_steps: int, meshes: list[str], tmp_path: Path
) -> None:
    cluster = [sys.executable, "launch/local_cluster.py", "--processes", "2", "--devices", "4", "--"]
    script = [sys.executable, "tests/parallel/train_on_meshes.py", str(tmp_path), str(grad_accum_steps), *meshes]
    # Code that is not optimized: each step runs a few times and takes long to compile.
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    environment = os.environ | {"XLA_FLAGS": flags}
    done = subprocess.run([*cluster, *script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    with jax.enable_x64(True):
        reference = train(MeshAxes().build(jax.devices()[:1]), grad_accum_steps)
    assert len(set(reference["losses"])) == len(reference["losses"])
    for name in meshes:
        found = np.load(tmp_path / f"{name}.npz")
        assert set(found.files) == set(reference)
        for key, expected in reference.items():
            worst = np.linalg.norm(found[key] - expected) / np.linalg.norm(expected)
            assert worst < 1e-9, (name, key, worst)
