"""The mesh and the one table that maps logical axis names to its axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

RULES: dict[str, tuple[str, ...]] = {
    # activations
    "batch": ("data", "fsdp"),
    "length": (),
    "features": (),
    # parameters; heads, feed_forward and vocab name activations' axes too
    "width": ("fsdp",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "feed_forward": ("tensor",),
    "vocab": ("tensor",),
    "head_dim": (),
    "norm": (),
    "positions": (),
    "layers": (),
}
"""Mesh axes over which each logical axis is split; () leaves it whole on every device."""


@dataclass(frozen=True)
class MeshAxes:
    """Devices along each axis of the mesh; -1 (at most once) takes all that are left."""

    data: int = -1  # copies of the model, each with its share of the batch
    fsdp: int = 1  # parameters and optimizer state are split, and gathered layer by layer
    tensor: int = 1  # heads, feed-forward and vocabulary are split

    def build(self, devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
        """The mesh over `devices` (all by default). Raises ValueError when the product is not their number."""
        devices = jax.devices() if devices is None else devices
        sizes = {"data": self.data, "fsdp": self.fsdp, "tensor": self.tensor}
        free = [name for name, size in sizes.items() if size == -1]
        fixed = math.prod(size for size in sizes.values() if size != -1)
        if len(free) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
            raise ValueError(f"MeshAxes {sizes}: sizes are at least 1, and at most one may be -1")
        if free and len(devices) % fixed == 0:
            sizes[free[0]] = len(devices) // fixed
        if math.prod(sizes.values()) != len(devices):
            raise ValueError(
                f"MeshAxes {sizes} wants {abs(math.prod(sizes.values()))} devices; there are {len(devices)}"
            )
        grid = np.asarray(devices).reshape(tuple(sizes.values()))
        return jax.sharding.Mesh(grid, tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


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

    def active(self) -> AbstractContextManager[object]:
        """Makes the mesh the current one while a function is traced: kernels with a partition look there for it."""
        return jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh)

    def constrain(self, x: jax.Array, *names: str) -> jax.Array:
        """Tells the compiler, inside jit, how x is to be split."""
        return jax.lax.with_sharding_constraint(x, self.named(*names))

    def of_variables(self, state: nnx.State) -> nnx.State:
        """Shardings in the structure of `state`, from the `axes` that each variable names.

        A stack of layers has one axis more than its block named: the leading `layers`. Raises ValueError when a size is
        not divisible by the devices along its mesh axes.
        """

        def place(path: tuple[object, ...], variable: nnx.Variable[jax.Array]) -> nnx.Variable[NamedSharding]:
            axes = logical_axes(variable)
            for name, size in zip(axes, variable.shape, strict=True):
                parts = math.prod(self.mesh.shape[axis] for axis in RULES[name])
                if size % parts:
                    key = "/".join(str(getattr(part, "key", part)) for part in path)
                    raise ValueError(
                        f"{key}: axis {name} of {size} is not divisible by {' x '.join(RULES[name])} = {parts}; "
                        "choose other MeshAxes or another size"
                    )
            return variable.replace(self.named(*axes))

        return jax.tree_util.tree_map_with_path(place, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def logical_axes(variable: nnx.Variable[jax.Array]) -> tuple[str, ...]:
    """Names of the axes of a parameter; `layers` first where blocks were stacked."""
    axes: tuple[str, ...] = variable.get_metadata()["axes"]
    return ("layers", *axes) if len(variable.shape) == len(axes) + 1 else axes
