"""The mesh: which devices lie along which axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType


@dataclass(frozen=True)
class MeshAxes:
    """Devices along each axis of the mesh; -1 (at most once) takes all that are left.

    On a TPU torus axes are laid along whole axes of the torus where sizes allow. Keep fsdp to two of the three of a
    large v4 or v5p slice (16 of 4x4x4, 64 of 8x8x8) and give the third to data: over all three the compiler turns each
    gathering of parameters into a sum of the whole (docs/results/planner.md).
    """

    slices: int = 1  # copies of the model on either side of slow links: TPU slices, or GPU nodes
    data: int = -1  # copies of the model inside of a slice, each with its share of the batch
    fsdp: int = 1  # the batch, parameters and optimizer state are split; parameters are gathered layer by layer
    context: int = 1  # rows are split, and parameters and optimizer state as by fsdp; for long rows
    tensor: int = 1  # heads, feed-forward and vocabulary are split

    def __post_init__(self) -> None:
        sizes = vars(self)
        if list(sizes.values()).count(-1) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
            raise ValueError(f"MeshAxes {sizes}: sizes are at least 1, and at most one may be -1")

    def build(self, devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
        """The mesh over `devices` (all by default). Raises ValueError when the product is not their number."""
        devices = jax.devices() if devices is None else devices
        sizes = self.sizes(len(devices))
        # On GPUs a slice is what NVLink joins; splitting parameters across several is slow there, but can be.
        slices = {getattr(device, "slice_index", None) for device in devices if device.platform == "tpu"}
        if slices and sizes["slices"] % len(slices):
            raise ValueError(f"these are {len(slices)} TPU slices: set MeshAxes.slices = {len(slices)} or a multiple")
        # Devices in the order of the links between them: slices, then hosts, then what a host has.
        place = [(getattr(device, "slice_index", 0), device.process_index, device.id) for device in devices]
        ordered = [devices[index] for index in sorted(range(len(devices)), key=place.__getitem__)]
        count = len(devices) // sizes["slices"]
        grids = [
            mesh_utils.create_device_mesh(
                tuple(sizes.values())[1:], ordered[start : start + count], allow_split_physical_axes=True
            )
            for start in range(0, len(devices), count)
        ]
        return jax.sharding.Mesh(np.stack(grids), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))

    def sizes(self, devices: int) -> dict[str, int]:
        """The size of every axis over so many devices, by name and in order."""
        names = ("slices", "data", "fsdp", "context", "tensor")
        sizes = {name: getattr(self, name) for name in names}
        free = [name for name, size in sizes.items() if size == -1]
        fixed = math.prod(size for size in sizes.values() if size != -1)
        if free and devices % fixed == 0:
            sizes[free[0]] = devices // fixed
        if math.prod(sizes.values()) != devices:
            raise ValueError(f"MeshAxes {sizes} wants {abs(math.prod(sizes.values()))} devices; there are {devices}")
        return sizes
