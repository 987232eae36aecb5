"""Trains a small model in float64 on each of the given meshes, and writes losses and last parameters.

python tests/parallel/train_on_meshes.py FOLDER ACCUMULATION AXIS=SIZE,… [AXIS=SIZE,… …]
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.parallel.startup import start
from mindllm_jax.rows import Batch
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.state import abstract_model, initial_params, initial_state
from mindllm_jax.training.step import make_step

MODEL = Model(
    vocab_size=64, layers=2, width=16, heads=8, head_dim=4, mlp_dim=32, max_seq_len=32, compute_dtype="float64"
)
ROWS, LENGTH, STEPS = 16, 32, 20


def batch(step: int) -> Batch:
    """Rows of packed documents with padding at the end, another for each step."""
    rng = np.random.default_rng(step)
    shape = (ROWS, LENGTH)
    tokens = rng.integers(0, MODEL.vocab_size, shape, dtype=np.int32)
    begins = rng.random(shape) < 0.1
    segments = 1 + np.cumsum(begins, axis=1, dtype=np.int32)
    segments = np.where(np.arange(LENGTH) < LENGTH - rng.integers(0, 9, (ROWS, 1)), segments, 0)
    column = np.arange(LENGTH, dtype=np.int32) * np.ones(shape, np.int32)
    positions = column - np.maximum.accumulate(begins * column, axis=1)
    return Batch(tokens, np.roll(tokens, -1, axis=1), (segments > 0).astype(np.float64), segments, positions)


@functools.cache
def first_params() -> Any:
    """Made on one device: to compile that for each mesh would take longer than all the rest."""
    abstract = abstract_model(MODEL, Sharding(MeshAxes().build(jax.local_devices()[:1])))
    return jax.tree.map(np.asarray, initial_params(MODEL, abstract, seed=1))


def place(x: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    """An array of which each process gives its own part."""
    return jax.make_array_from_callback(x.shape, sharding, np.asarray(x).__getitem__)


def train(mesh: jax.sharding.Mesh, grad_accum_steps: int) -> dict[str, np.ndarray]:
    """Losses of all steps and every parameter after the last, whole."""
    abstract = abstract_model(MODEL, Sharding(mesh))
    transformation = Optimizer(peak_learning_rate=1e-2, warmup_steps=2).build(STEPS, abstract.roles)
    state = initial_state(jax.tree.map(place, first_params(), abstract.shardings), abstract, transformation)
    step = make_step(abstract, transformation, grad_accum_steps=grad_accum_steps, z_loss=1e-3)
    rows = abstract.sharding.named("batch", "length")
    losses = []
    for number in range(STEPS):
        state, metrics = step(state, Batch(*(place(x, rows) for x in batch(number))))
        losses.append(metrics.loss)
    params = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state.params)}
    return process_allgather({"losses": jnp.stack(losses), **params}, tiled=True)


def main() -> None:
    """Each mesh after the other, over all devices of all processes."""
    folder, grad_accum_steps, *meshes = sys.argv[1:]
    start()
    jax.config.update("jax_enable_x64", True)
    for name in meshes:
        sizes = {axis: int(size) for axis, size in (part.split("=") for part in name.split(","))}
        found: Any = train(MeshAxes(**{"data": 1} | sizes).build(), int(grad_accum_steps))
        if jax.process_index() == 0:
            np.savez(Path(folder) / f"{name}.npz", **found)


if __name__ == "__main__":
    main()
