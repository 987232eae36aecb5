"""Device topologies for AOT compilation: devices that this machine need not have."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies

from mindllm_jax.hardware.peak_rates import CHIPS

TPUS = {
    "v4": "2x2x1, 2x2x2, 2x2x4, 2x4x4, 4x4x4, 4x4x8, 4x8x8, 8x8x8 and larger",
    "v5e": "1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16",
    "v5p": "2x2x1, 2x2x2, 2x2x4, 2x4x4, 4x4x4, 4x4x8, 4x8x8, 8x8x8, 8x8x16 to 16x16x24",
    "v6e": "1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16",
    "tpu7x": "2x2x1, 2x2x2, 2x2x4, 2x4x4, 4x4x4, 4x4x8, 4x8x8, 8x8x8 and larger",
}
GPUS = {"a100": "NVIDIA A100-SXM4-80GB", "h100": "NVIDIA H100 80GB HBM3", "h200": "NVIDIA H200"}


@dataclass(frozen=True)
class TopologyGpu:
    """A GPU of a topology by its place, for arithmetic where the CUDA compiler is not installed."""

    id: int
    device_kind: str
    process_index: int = 0
    platform: str = "gpu"


def topology_devices(topology: str) -> Sequence[Any]:
    """Returns the devices of a TPU slice, as "v5e:16x16", or of GPU nodes, as "h100:16x8" (nodes x GPUs per node).

    TPUs come from libtpu, which needs no TPU to compile for one. GPUs come from JAX's CUDA plugin, which needs no GPU;
    where it is not installed, and for A100s, they are `TopologyGpu`, for which nothing can be compiled.

    Raises:
        ImportError: libtpu is not installed.
        ValueError: the topology is unknown.
    """
    family, _, shape = topology.partition(":")
    if family in GPUS:
        sizes = re.fullmatch(r"([1-9]\d*)x([1-8])", shape)
        if sizes is None:
            raise ValueError(f"{topology!r}: write nodes x GPUs per node, as {family}:16x8; a node has at most 8")
        return _gpus(family, int(sizes.group(1)), int(sizes.group(2)))
    if family not in TPUS:
        names = ", ".join([*TPUS, *GPUS])
        raise ValueError(f"unknown hardware {family!r}: known are {names}, as v5p:4x4x4 or h100:1x8")
    return tpu_topology(topology)


def tpu_topology(topology: str) -> Sequence[Any]:
    """Returns the devices of a TPU slice; see `topology_devices`."""
    if importlib.util.find_spec("libtpu") is None and "TPU_LIBRARY_PATH" not in os.environ:
        raise ImportError("compiling for a TPU needs libtpu: pip install 'mindllm-jax[tpu]'")
    # Read when libtpu is loaded: no metadata server to ask about TPUs, and no other process to share them with.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    options = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology, **options).devices
    except (RuntimeError, ValueError, NotImplementedError) as error:
        family = topology.partition(":")[0]
        raise ValueError(
            f"libtpu has no topology {topology!r} ({str(error).splitlines()[0]}); {family} has "
            f"{TPUS.get(family, 'none')}"
        ) from None


def _gpus(family: str, nodes: int, each: int) -> Sequence[Any]:
    gpus = [TopologyGpu(number, GPUS[family], number // each) for number in range(nodes * each)]
    if family not in HOPPER:
        return gpus
    peak = CHIPS[GPUS[family]]
    memory = f"device_memory_size: {peak.memory:.0f} memory_bandwidth: {peak.bandwidth:.0f}"
    try:
        return topologies.get_topology_desc(
            platform="cuda",
            topology_name=family,
            topology=f"1x{nodes}x{each}",
            target_config=f'{SXM_TARGET} {memory} }} device_description_str: "{GPUS[family]}"',
        ).devices
    except NotImplementedError:
        return gpus


def one_device_mesh(devices: Sequence[Any]) -> jax.sharding.Mesh:
    """Returns a mesh of the first device, with the axis "device"."""
    return jax.sharding.Mesh(np.array(devices[:1]), ("device",), axis_types=(jax.sharding.AxisType.Auto,))


HOPPER = ("h100", "h200")
# XLA's GpuTargetConfigProto of their SXM boards, from NVIDIA's data sheets and CUDA's table of capabilities.
SXM_TARGET = """
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 patch: 0 }
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  registers_per_core_limit: 65536 registers_per_block_limit: 65536 l2_cache_size: 52428800
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
"""
