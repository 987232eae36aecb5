"""The bytes of parameters and optimizer state on a device, for any mesh."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from flax import nnx

from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.state import abstract_model, state_shardings


class ByAxes(NamedTuple):
    """Bytes by the mesh axes that split them."""

    bytes: Mapping[tuple[str, ...], int]

    def on(self, sizes: Mapping[str, int]) -> float:
        """Returns the bytes on each device of a mesh of these sizes, which divides them."""
        return sum(size / math.prod(sizes[axis] for axis in axes) for axes, size in self.bytes.items())


class StateBytes(NamedTuple):
    """The bytes of a state that a step changes."""

    params: ByAxes
    opt_state: ByAxes


def state_bytes(model: Model, optimizer: Optimizer, axes: MeshAxes) -> StateBytes:
    """Counts the bytes of a run's state on abstract shapes. axes: for a mesh of one device; only their names matter."""
    abstract = abstract_model(model, Sharding(axes.build(jax.devices()[:1])))
    transformation = optimizer.build(1, abstract.roles)
    shardings = state_shardings(abstract, transformation)
    params = nnx.to_pure_dict(abstract.params)
    opt_state = jax.eval_shape(transformation.init, params)
    return StateBytes(_by_axes(params, shardings.params), _by_axes(opt_state, shardings.opt_state))


def _by_axes(tree: Any, shardings: Any) -> ByAxes:
    found = Counter[tuple[str, ...]]()
    for leaf, at in zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True):
        entries = (entry if isinstance(entry, tuple) else (entry,) for entry in at.spec if entry)
        found[tuple(axis for entry in entries for axis in entry)] += leaf.size * leaf.dtype.itemsize
    return ByAxes(found)
