"""Reads a PartitionSpec against the current mesh: under automatic sharding a callee cannot inspect its arguments."""

from __future__ import annotations

import math

import jax
from jax.sharding import PartitionSpec


def axes_of(spec: PartitionSpec, dimension: int) -> tuple[str, ...]:
    """Returns the mesh axes that split one dimension of an array; () for none."""
    entry = spec[dimension] if dimension < len(spec) else None
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)


def shards(axes: tuple[str, ...]) -> int:
    """Returns the number of parts into which these axes of the current mesh split a dimension.

    Raises ValueError when no mesh is set or it has no such axis.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        raise ValueError("partition is given but no mesh is set: call under jax.set_mesh(mesh)")
    for axis in axes:
        if axis not in mesh.shape:
            raise ValueError(f"partition names the axis {axis!r}; the mesh has {', '.join(mesh.axis_names)}")
    return math.prod(mesh.shape[axis] for axis in axes)


def check_divisible(argument: str, size: int, axes: tuple[str, ...]) -> None:
    """Raises ValueError that names the dimension when the mesh does not divide it."""
    if size % shards(axes):
        raise ValueError(f"{argument} = {size} is not a multiple of the {shards(axes)} shards of partition axes {axes}")
