"""How long a collective takes at the least, from where its devices lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from mindllm_jax.hardware.peak_rates import Chip
from mindllm_jax.planning.hlo import Collective

HOP_SECONDS = 1e-6
"""From a device to its neighbour, or through a switch (jax-ml.github.io/scaling-book, chapter 3, on latency)."""


class Grid(NamedTuple):
    """Devices as they lie in the flattened mesh."""

    devices: Sequence[Any]
    torus: tuple[int, ...]  # sizes of the torus; () for GPUs

    @classmethod
    def of(cls, devices: Sequence[Any], chip: Chip) -> Grid:
        """The grid of these devices, in this order."""
        return cls(devices, tuple(1 + max(d.coords[axis] for d in devices) for axis in range(chip.dimensions)))


def seconds(collective: Collective, grid: Grid, chip: Chip) -> float:
    """One run of a collective whose group names positions in the grid.

    Bytes over the bandwidth that the group has: on a torus both directions of every axis along which it lies, where
    that axis is closed to a ring, else one (the scaling book's formulas, chapter 3); among GPUs of a node the switch's,
    across nodes or slices what their members there have together. And a hop's time for each device on the way.
    """
    members = [grid.devices[position] for position in collective.group]
    count = len(members)
    if count < 2:
        return 0.0
    bandwidth, hops = _bandwidth(members, grid.torus, chip)
    parts = len({_part(device, chip) for device in members})
    if collective.kind == "all-to-all" and parts > 1:
        # A device sends each other one its share; what leaves its node or slice goes over its own part of the network.
        return collective.bytes * (1 - 1 / parts) / chip.network + hops * HOP_SECONDS
    share = {
        "all-gather": (count - 1) / count,
        "reduce-scatter": (count - 1) / count,
        "all-reduce": 2 * (count - 1) / count,
        # Shares go to all others: on a torus half of the longest ring's length on either of its two ways.
        "all-to-all": _longest(members, grid.torus) / 4 if chip.dimensions else (count - 1) / count,
        "collective-permute": 1.0,
    }[collective.kind]
    if collective.kind == "all-to-all" and chip.dimensions:
        bandwidth = 2 * chip.link
    return share * collective.bytes / bandwidth + hops * HOP_SECONDS


def _bandwidth(members: Sequence[Any], torus: tuple[int, ...], chip: Chip) -> tuple[float, int]:
    """Bytes a second, and hops, of a group."""
    parts = {_part(device, chip) for device in members}
    if len(parts) > 1:
        return chip.network * len(members) / len(parts), len(parts)
    if not chip.dimensions:
        return chip.link, 1
    lanes, hops = 0, 0
    for axis, size in enumerate(torus):
        spanned = len({device.coords[axis] for device in members})
        if spanned > 1:
            closed = spanned == size and size % (4 if chip.dimensions == 3 else 16) == 0
            lanes += 2 if closed else 1
            hops += spanned // 2 if closed else spanned - 1
    # Two devices of one chip share nothing but its memory.
    return chip.link * max(lanes, 1), max(hops, 1)


def _longest(members: Sequence[Any], torus: tuple[int, ...]) -> int:
    """Devices of a group along the axis of the torus where it has most."""
    return max(len({device.coords[axis] for device in members}) for axis in range(len(torus)))


def spans(members: Sequence[Any]) -> int:
    """Along how many axes of the torus a group lies."""
    return sum(len({device.coords[axis] for device in members}) > 1 for axis in range(3))


def _part(device: Any, chip: Chip) -> int:
    """The slice or node: devices of another one are reached over the network."""
    return (getattr(device, "slice_index", None) or 0) if chip.dimensions else device.process_index


def group_along(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """Positions in a flattened mesh of the first group of devices along some of its axes."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    members = [0]
    for axis in axes:
        members = [member + step * strides[axis] for member in members for step in range(shape[axis])]
    return tuple(members)
