"""The least time of a collective, by the places of its devices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from mindllm_jax.hardware.peak_rates import Chip
from mindllm_jax.planning.hlo import Collective

HOP_SECONDS = 1e-6
"""Latency to a neighbour, or through a switch (jax-ml.github.io/scaling-book, chapter 3, on latency)."""


class Grid(NamedTuple):
    """The devices of a mesh in flattened order, with the torus that they form."""

    devices: Sequence[Any]
    torus: tuple[int, ...]  # sizes of the torus; () for GPUs

    @classmethod
    def of(cls, devices: Sequence[Any], chip: Chip) -> Grid:
        """Builds the grid of these devices, in this order."""
        return cls(devices, tuple(1 + max(d.coords[axis] for d in devices) for axis in range(chip.dimensions)))


def seconds(collective: Collective, grid: Grid, chip: Chip) -> float:
    """Returns the time of one execution of a collective; its group holds positions in the grid.

    It is the bytes over the group's bandwidth, plus the latency of each hop. On a torus the bandwidth is that of both
    directions of every axis along which the group lies, where the axis is closed to a ring, else of one (the scaling
    book, chapter 3); among GPUs of a node the switch's; across nodes or slices the sum of their members' networks.
    """
    members = [grid.devices[position] for position in collective.group]
    count = len(members)
    if count < 2:
        return 0.0
    bandwidth, hops = _bandwidth(members, grid.torus, chip)
    parts = len({_part(device, chip) for device in members})
    if collective.kind == "all-to-all" and parts > 1:
        # What a device sends to other nodes or slices leaves over its own part of the network.
        return collective.bytes * (1 - 1 / parts) / chip.network + hops * HOP_SECONDS
    share = {
        "all-gather": (count - 1) / count,
        "reduce-scatter": (count - 1) / count,
        "all-reduce": 2 * (count - 1) / count,
        # Each part travels up to half of the longest ring, in either of its two directions.
        "all-to-all": _longest_side(members, grid.torus) / 4 if chip.dimensions else (count - 1) / count,
        "collective-permute": 1.0,
    }[collective.kind]
    if collective.kind == "all-to-all" and chip.dimensions:
        bandwidth = 2 * chip.link
    return share * collective.bytes / bandwidth + hops * HOP_SECONDS


def _bandwidth(members: Sequence[Any], torus: tuple[int, ...], chip: Chip) -> tuple[float, int]:
    """Bytes per second, and hops, of a group."""
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
    # Two devices of one chip count as one link.
    return chip.link * max(lanes, 1), max(hops, 1)


def _longest_side(members: Sequence[Any], torus: tuple[int, ...]) -> int:
    """The group's largest number of devices along an axis of the torus."""
    return max(len({device.coords[axis] for device in members}) for axis in range(len(torus)))


def spans(members: Sequence[Any]) -> int:
    """Counts the axes of the torus along which a group lies."""
    return sum(len({device.coords[axis] for device in members}) > 1 for axis in range(3))


def _part(device: Any, chip: Chip) -> int:
    """Returns a device's slice or node: others are reached over the network."""
    return (getattr(device, "slice_index", None) or 0) if chip.dimensions else device.process_index


def group_along(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """Returns the positions, in a flattened mesh, of the first group of devices along some of its axes."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    members = [0]
    for axis in axes:
        members = [member + step * strides[axis] for member in members for step in range(shape[axis])]
    return tuple(members)
