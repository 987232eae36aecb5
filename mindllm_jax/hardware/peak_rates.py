"""Peak rates of accelerators: the one table.

Sources. TPU: the pages of each version in Google's Cloud TPU documentation (peak bfloat16 compute, capacity and
bandwidth of the memory, bidirectional interconnect bandwidth of a chip, of which a link has a sixth on a 3D torus and a
fourth on a 2D one, and a direction half of that; network of the data centre). NVIDIA: the data sheet of each board:
dense bfloat16 with float32 sums, half of the rate "with sparsity"; capacity in GiB, although the sheets write GB
(nvidia-smi shows 140.4 GiB for an H200's 141 GB); NVLink, or PCIe where a board has no switch; the power limit. A
node's network is counted as one 400 Gb/s adapter for each GPU (200 Gb/s for A100 and A800).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import jax

from mindllm_jax.kernels.target import known_name

USABLE = 0.94
"""Share of a chip's memory that a step may take: the runtime and its buffers need the rest."""
GB = 1e9
GIB = 2.0**30


@dataclass(frozen=True)
class Chip:
    """Peak rates of one JAX device, in FLOP/s, bytes and bytes/s."""

    flops: float  # dense bfloat16
    memory: float
    bandwidth: float  # of the memory
    link: float  # of one link in one direction: to a neighbour on a torus, to the switch on NVLink, to the host on PCIe
    network: float  # to other slices or nodes, in one direction
    dimensions: int  # of the torus; 0: a switch or none
    watts: float | None = None  # at the power limit, where it is published


A100 = Chip(312e12, 80 * GIB, 2039 * GB, 300 * GB, 25 * GB, 0, 400)
A100_PCIE = replace(A100, bandwidth=1935 * GB, link=32 * GB, watts=300)
H100 = Chip(989e12, 80 * GIB, 3350 * GB, 450 * GB, 50 * GB, 0, 700)
GH200 = replace(H100, memory=96 * GIB, bandwidth=4000 * GB)
H100_PCIE = Chip(756e12, 80 * GIB, 2000 * GB, 64 * GB, 50 * GB, 0, 350)

CHIPS = {
    "TPU v4": Chip(275e12, 32 * GIB, 1200 * GB, 50 * GB, 6.25 * GB, 3, 192),
    "TPU v5 lite": Chip(197e12, 16 * GIB, 819 * GB, 50 * GB, 3.1 * GB, 2),  # v5e
    "TPU v5": Chip(459e12, 95 * GIB, 2765 * GB, 100 * GB, 6.25 * GB, 3),  # v5p
    "TPU v6 lite": Chip(918e12, 32 * GIB, 1638 * GB, 100 * GB, 12.5 * GB, 2),  # v6e
    # Two devices per chip, which share its links.
    "TPU7x": Chip(2307e12 / 2, 96 * GIB, 7380 * GB / 2, 50 * GB, 6.25 * GB, 3),
    "NVIDIA A100-SXM4-40GB": replace(A100, memory=40 * GIB, bandwidth=1555 * GB),
    "NVIDIA A100-SXM4-80GB": A100,
    "NVIDIA A100-PCIE-40GB": replace(A100_PCIE, memory=40 * GIB, bandwidth=1555 * GB, watts=250),
    "NVIDIA A100 80GB PCIe": A100_PCIE,
    "NVIDIA A800-SXM4-40GB": replace(A100, memory=40 * GIB, bandwidth=1555 * GB, link=200 * GB),
    "NVIDIA A800-SXM4-80GB": replace(A100, link=200 * GB),
    "NVIDIA A800 80GB PCIe": A100_PCIE,
    "NVIDIA H100 80GB HBM3": H100,
    "NVIDIA H100 PCIe": H100_PCIE,
    "NVIDIA H100 NVL": Chip(835e12, 94 * GIB, 3900 * GB, 64 * GB, 50 * GB, 0, 400),
    "NVIDIA H800": replace(H100, link=200 * GB),
    "NVIDIA H800 PCIe": H100_PCIE,
    "NVIDIA H20": replace(H100, flops=148e12, memory=96 * GIB, bandwidth=4000 * GB, watts=400),
    "NVIDIA H200": replace(H100, memory=141 * GIB, bandwidth=4800 * GB),
    "NVIDIA H200 NVL": Chip(835e12, 141 * GIB, 4800 * GB, 64 * GB, 50 * GB, 0, 600),
    "NVIDIA GH200 120GB": GH200,
    "NVIDIA GH200 480GB": GH200,
    "NVIDIA GH200 144G HBM3e": replace(GH200, memory=144 * GIB, bandwidth=4900 * GB),
    "NVIDIA B200": Chip(2250e12, 180 * GIB, 7700 * GB, 900 * GB, 50 * GB, 0, 1000),
    "NVIDIA L4": Chip(121e12, 24 * GIB, 300 * GB, 32 * GB, 50 * GB, 0, 72),
    "NVIDIA L40S": Chip(362e12, 48 * GIB, 864 * GB, 32 * GB, 50 * GB, 0, 350),
    "NVIDIA GeForce RTX 4090": Chip(165e12, 24 * GIB, 1008 * GB, 32 * GB, 50 * GB, 0, 450),
}
"""By the full name that JAX gives a device: boards whose names begin alike differ by half in compute and memory, and a
MIG slice of a card has the card's name with a suffix."""


def chip(device_kind: str) -> Chip | None:
    """Returns the chip with JAX's name for its devices; None for what the table lacks, as CPUs and MIG slices."""
    return CHIPS.get(known_name(device_kind))


def runtime_memory(devices: Iterable[Any]) -> float | None:
    """Returns the bytes that the runtime lets a program take on the smallest device of this process, or None.

    CPUs report nothing; devices of a topology and of other processes cannot be asked.
    """
    local = set(jax.local_devices())
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in devices if device in local]
    return min(filter(None, limits), default=None)
