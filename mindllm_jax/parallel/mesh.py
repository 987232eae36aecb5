"""The device mesh: its axes, and the order of devices along them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType


@dataclass(frozen=True)
class MeshAxes:
    """Devices along each axis of the mesh; -1 (at most once) takes all that remain.

    The first axis lies across slow links, the others within them. What an axis splits is said by
    `sharding.RULES` alone.

    On a TPU torus, mesh axes are laid along whole axes of the torus where sizes allow. Keep fsdp to two of the three
    axes of a large v4 or v5p slice (16 of 4x4x4, 64 of 8x8x8) and give the third to data: over all three the compiler
    replaces each all-gather of parameters by an all-reduce (docs/results/planner.md).
    """

    slices: int = 1  # replicas of the model across slow links: TPU slices, or GPU nodes
    data: int = -1  # replicas of the model within a slice, each with its share of the batch
    fsdp: int = 1  # splits the batch, parameters and opt_state; parameters are gathered layer by layer
    context: int = 1  # splits rows, for long ones, and parameters and opt_state as fsdp does
    tensor: int = 1  # splits heads, the feed-forward width and the vocabulary

    def __post_init__(self) -> None:
        sizes = vars(self)
        if list(sizes.values()).count(-1) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
            raise ValueError(f"MeshAxes {sizes}: sizes are at least 1, and at most one may be -1")

    def build(self, devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
        """Builds the mesh over `devices` (all by default). Raises ValueError when the sizes do not multiply to them."""
        devices = jax.devices() if devices is None else devices
        sizes = self.sizes(len(devices))
        # On GPUs a slice is an NVLink domain; splitting parameters across several is slow, but possible.
        slices = {getattr(device, "slice_index", None) for device in devices if device.platform == "tpu"}
        groups, *inner = sizes.values()
        if slices and groups % len(slices):
            raise ValueError(f"these are {len(slices)} TPU slices: set MeshAxes.slices = {len(slices)} or a multiple")
        # In the order of the links between them: slices, then hosts, then the devices of a host.
        place = [(getattr(device, "slice_index", 0), device.process_index, device.id) for device in devices]
        ordered = [devices[index] for index in sorted(range(len(devices)), key=place.__getitem__)]
        count = len(devices) // groups
        grids = [
            mesh_utils.create_device_mesh(inner, ordered[start : start + count], allow_split_physical_axes=True)
            for start in range(0, len(devices), count)
        ]
        return jax.sharding.Mesh(np.stack(grids), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))

    def sizes(self, devices: int) -> dict[str, int]:
        """Returns the size of every axis over this many devices, by name and in order. Raises ValueError as `build`."""
        sizes = {axis.name: getattr(self, axis.name) for axis in fields(self)}
        free = [name for name, size in sizes.items() if size == -1]
        fixed = math.prod(size for size in sizes.values() if size != -1)
        if free and devices % fixed == 0:
            sizes[free[0]] = devices // fixed
        if math.prod(sizes.values()) != devices:
            needed = f"a multiple of {fixed}" if free else f"{fixed}"
            raise ValueError(f"MeshAxes {sizes} needs {needed} devices; there are {devices}")
        return sizes
