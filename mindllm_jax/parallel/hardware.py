"""What accelerators can do at most: the one table of peak rates.

Sources. TPU: the pages of each version in Google's Cloud TPU documentation (peak bfloat16 compute, capacity and
bandwidth of the memory, bidirectional interconnect bandwidth of a chip, of which a link has a sixth on a 3D torus and a
fourth on a 2D one, and a direction half of that; network of the data centre). NVIDIA: the data sheets of the SXM
boards; dense bfloat16 is half of what they give "with sparsity"; a node's network is counted as one 400 Gb/s adapter
for each GPU (200 Gb/s for A100).
"""

from __future__ import annotations

from dataclasses import dataclass

USABLE = 0.94
"""Share of a device's memory that a step may take: the runtime and its buffers need the rest."""
GB = 1e9
GIB = 2.0**30


@dataclass(frozen=True)
class Chip:
    """Peak rates of what JAX calls a device, in FLOP/s, bytes and bytes/s."""

    flops: float  # dense bfloat16
    memory: float
    bandwidth: float  # of the memory
    link: float  # of one link in one direction: to a neighbour on a torus, to the switch on NVLink
    network: float  # to other slices or nodes, in one direction
    dimensions: int  # of the torus; 0: a switch
    watts: float | None = None  # at the power limit, where it is published


CHIPS = {
    "TPU v4": Chip(275e12, 32 * GIB, 1200 * GB, 50 * GB, 6.25 * GB, 3, 192),
    "TPU v5 lite": Chip(197e12, 16 * GIB, 819 * GB, 50 * GB, 3.1 * GB, 2),
    "TPU v5": Chip(459e12, 95 * GIB, 2765 * GB, 100 * GB, 6.25 * GB, 3),
    "TPU v6 lite": Chip(918e12, 32 * GIB, 1638 * GB, 100 * GB, 12.5 * GB, 2),
    # Two devices a chip, which share its links.
    "TPU7x": Chip(2307e12 / 2, 96 * GIB, 7380 * GB / 2, 50 * GB, 6.25 * GB, 3),
    "NVIDIA A100": Chip(312e12, 80 * GIB, 2039 * GB, 300 * GB, 25 * GB, 0, 400),
    "NVIDIA H100": Chip(989e12, 80 * GIB, 3350 * GB, 450 * GB, 50 * GB, 0, 700),
    "NVIDIA H200": Chip(989e12, 141 * GB, 4800 * GB, 450 * GB, 50 * GB, 0, 700),
}


def chip(device_kind: str) -> Chip | None:
    """The chip with JAX's name for its devices; None for what the table does not have, as CPUs."""
    known = [name for name in CHIPS if device_kind.startswith(name)]
    return CHIPS[max(known, key=len)] if known else None
