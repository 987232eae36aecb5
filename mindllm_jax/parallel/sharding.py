"""The sharding table: it maps the logical axes of arrays to the axes of the mesh.

Every question about how an array is split is answered by `RULES` alone: a new mesh axis is one field of
`mesh.MeshAxes` and one entry here. Functions that take `sizes` read the devices along each mesh axis, as
`MeshAxes.sizes` and `Mesh.shape` give them.
"""

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
    "rank": (),
    "layers": (),
}
"""Mesh axes over which each logical axis is split; () replicates it on every device."""

MATRIX_AXES = ("width", "heads", "kv_heads", "mlp_dim", "vocab")
"""Logical axes of matrices. `width` is gathered before a product; a product over one of the others is summed."""


def shard_count(name: str, sizes: Mapping[str, int]) -> int:
    """Returns the number of parts into which a mesh of these sizes splits the logical axis `name`."""
    return math.prod(sizes[axis] for axis in RULES[name])


def token_shards(sizes: Mapping[str, int]) -> int:
    """Returns the number of parts into which a mesh of these sizes splits the tokens of a batch [B T]."""
    return shard_count("batch", sizes) * shard_count("length", sizes)


def replica_axes() -> tuple[str, ...]:
    """Returns the mesh axes along which devices hold the same parameters and different tokens."""
    return tuple(axis for axis in RULES["batch"] + RULES["length"] if axis not in RULES["width"])


def mesh_settings(*names: str) -> list[str]:
    """Returns the settings that split these logical axes, as `MeshAxes.fsdp`, without repetition."""
    return [f"MeshAxes.{axis}" for axis in dict.fromkeys(axis for name in names for axis in RULES[name])]


@dataclass(frozen=True)
class Sharding:
    """A mesh with the sharding table: turns logical axes into partition specs. Hashable, so that a model can carry it.

    The methods take logical axes, one for each axis of an array, and raise KeyError for a name that `RULES` lacks.
    """

    mesh: jax.sharding.Mesh

    def spec(self, *names: str) -> PartitionSpec:
        """Returns the partition spec of an array with these logical axes."""
        return PartitionSpec(*(RULES[name] if len(RULES[name]) != 1 else RULES[name][0] for name in names))

    def named(self, *names: str) -> NamedSharding:
        """Returns the sharding of an array with these logical axes."""
        return NamedSharding(self.mesh, self.spec(*names))

    def partition(self, *names: str) -> PartitionSpec | None:
        """Returns the `partition` argument of a kernel for an array with these logical axes; None on one device."""
        return self.spec(*names) if self.mesh.size > 1 else None

    def shards(self, name: str) -> int:
        """Returns the number of parts into which the mesh splits a logical axis."""
        return shard_count(name, self.mesh.shape)

    def even_rows(self, rows: int) -> int:
        """Rounds a number of rows up to a multiple of the parts into which the mesh splits a batch."""
        return math.ceil(rows / self.shards("batch")) * self.shards("batch")

    def place(self, array: np.ndarray, *names: str) -> jax.Array:
        """Places an array that every process has in full on the mesh; without names it is replicated."""
        return jax.device_put(array, self.named(*names))

    def active(self) -> AbstractContextManager[object]:
        """Makes the mesh current while a function is traced: kernels with a partition read it."""
        return jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh)

    def constrain(self, x: jax.Array, *names: str) -> jax.Array:
        """Constrains the sharding of x inside jit."""
        return jax.lax.with_sharding_constraint(x, self.named(*names))

    def of_variables(self, state: nnx.State) -> nnx.State:
        """Returns shardings in the structure of `state`, by the `axes` in the metadata of each variable.

        A stack of layers has the logical axis `layers` in front. Raises ValueError, with the parameter, its dimension,
        the mesh axes and a remedy, for a size that the mesh does not divide.
        """

        def place(path: tuple[object, ...], variable: nnx.Variable[jax.Array]) -> nnx.Variable[NamedSharding]:
            axes = logical_axes(variable)
            for dimension, (name, size) in enumerate(zip(axes, variable.shape, strict=True)):
                if size % self.shards(name):
                    key = "/".join(str(getattr(part, "key", part)) for part in path)
                    parts = " x ".join(f"{axis}={self.mesh.shape[axis]}" for axis in RULES[name])
                    raise ValueError(
                        f"{key} dim {dimension} ({name}) = {size} is not divisible by {parts}: "
                        f"{self._remedy(name, size)}"
                    )
            return variable.replace(self.named(*axes))

        return jax.tree_util.tree_map_with_path(place, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))

    def _remedy(self, name: str, size: int) -> str:
        if name == "vocab":
            # A multiple of 256 as well: matrix units work in tiles of that.
            multiple = math.lcm(256, self.shards(name))
            return f"pad the vocabulary to Model.vocab_size = {-(-size // multiple) * multiple}"
        # The logical axes of matrices are named after the settings of their sizes.
        *first, last = f"Model.{name}" if name in MATRIX_AXES else "this size", *mesh_settings(name)
        return f"change {', '.join(first)} or {last}"


def logical_axes(variable: nnx.Variable[jax.Array]) -> tuple[str, ...]:
    """Returns the logical axes of a parameter; `layers` first where blocks are stacked."""
    axes: tuple[str, ...] = variable.get_metadata()["axes"]
    return ("layers", *axes) if len(variable.shape) == len(axes) + 1 else axes
