"""The one table that maps logical axis names to axes of the mesh."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

RULES: dict[str, tuple[str, ...]] = {
    # activations
    "batch": ("slices", "data", "fsdp"),
    "length": ("context",),
    "features": (),
    # parameters; heads, mlp_dim and vocab name activations' axes too
    "width": ("fsdp", "context"),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "mlp_dim": ("tensor",),
    "vocab": ("tensor",),
    "head_dim": (),
    "norm": (),
    "positions": (),
    "layers": (),
}
"""Mesh axes over which each logical axis is split; () leaves it whole on every device."""


def shard_count(name: str, sizes: Mapping[str, int]) -> int:
    """Returns into how many parts a mesh of these sizes, by axis, splits the logical axis `name`."""
    return math.prod(sizes[axis] for axis in RULES[name])


REMEDIES = {
    "width": "change Model.width, or MeshAxes.fsdp and MeshAxes.context",
    "heads": "change Model.heads or MeshAxes.tensor",
    "kv_heads": "change Model.kv_heads or MeshAxes.tensor",
    "mlp_dim": "change Model.mlp_dim or MeshAxes.tensor",
}


@dataclass(frozen=True)
class Sharding:
    """A mesh with the rules: turns logical names into partition specs. Hashable, so that a model can carry it."""

    mesh: jax.sharding.Mesh

    def spec(self, *names: str) -> PartitionSpec:
        """The partition spec of an array whose axes have these logical names."""
        return PartitionSpec(*(RULES[name] if len(RULES[name]) != 1 else RULES[name][0] for name in names))

    def named(self, *names: str) -> NamedSharding:
        """The sharding of an array whose axes have these logical names."""
        return NamedSharding(self.mesh, self.spec(*names))

    def partition(self, *names: str) -> PartitionSpec | None:
        """What a kernel is to be told of an array with these axes: its spec, or None on one device."""
        return self.spec(*names) if self.mesh.size > 1 else None

    def shards(self, name: str) -> int:
        """Into how many parts a logical axis is split."""
        return shard_count(name, self.mesh.shape)

    def even_rows(self, rows: int) -> int:
        """The least number of rows, at least `rows`, that the devices share evenly."""
        return math.ceil(rows / self.shards("batch")) * self.shards("batch")

    def place(self, array: np.ndarray, *names: str) -> jax.Array:
        """One global array of what every process has in full; `names` are its logical axes, none: whole everywhere."""
        return jax.device_put(array, self.named(*names))

    def active(self) -> AbstractContextManager[object]:
        """Makes the mesh the current one while a function is traced: kernels with a partition look there for it."""
        return jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh)

    def constrain(self, x: jax.Array, *names: str) -> jax.Array:
        """Tells the compiler, inside jit, how x is to be split."""
        return jax.lax.with_sharding_constraint(x, self.named(*names))

    def of_variables(self, state: nnx.State) -> nnx.State:
        """Shardings in the structure of `state`, from the `axes` that each variable names.

        A stack of layers has one axis more than its block named: the leading `layers`. Raises ValueError, with the
        parameter, its dimension, the mesh axes and a remedy, when a size is not divisible by the devices along them.
        """

        def place(path: tuple[object, ...], variable: nnx.Variable[jax.Array]) -> nnx.Variable[NamedSharding]:
            axes = logical_axes(variable)
            for dimension, (name, size) in enumerate(zip(axes, variable.shape, strict=True)):
                if size % self.shards(name):
                    key = "/".join(str(getattr(part, "key", part)) for part in path)
                    parts = " x ".join(f"{axis}={self.mesh.shape[axis]}" for axis in RULES[name])
                    remedy = self._padded(size) if name == "vocab" else REMEDIES[name]
                    raise ValueError(f"{key} dim {dimension} ({name}) = {size} is not divisible by {parts}: {remedy}")
            return variable.replace(self.named(*axes))

        return jax.tree_util.tree_map_with_path(place, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))

    def _padded(self, size: int) -> str:
        # A multiple of 256 as well: matrix units work in tiles of that.
        multiple = math.lcm(256, self.shards("vocab"))
        return f"pad the vocabulary to Model.vocab_size = {-(-size // multiple) * multiple}"


def logical_axes(variable: nnx.Variable[jax.Array]) -> tuple[str, ...]:
    """Names of the axes of a parameter; `layers` first where blocks were stacked."""
    axes: tuple[str, ...] = variable.get_metadata()["axes"]
    return ("layers", *axes) if len(variable.shape) == len(axes) + 1 else axes
