"""Accelerators that are described and not there: what programs are compiled for ahead of time."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies


def described_tpus(topology: str) -> Sequence[Any]:
    """The devices of a TPU slice, as "v5e:16x16" or "v5p:4x4x4", for the mesh that a program is compiled for.

    They come from libtpu, the TPU's own compiler, which needs no TPU.

    Raises:
        ImportError: libtpu is not installed.
        ValueError: there is no such topology.
    """
    if importlib.util.find_spec("libtpu") is None and "TPU_LIBRARY_PATH" not in os.environ:
        raise ImportError("compiling for a TPU needs libtpu: pip install 'mindllm-jax[tpu]'")
    # Read when libtpu is loaded: there is no machine to ask about its TPUs, and nobody to share them with.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"libtpu describes no topology {topology!r} (such are v5e:2x2, v5p:4x4x4): {reason}") from None


def one_device_mesh(devices: Sequence[Any]) -> jax.sharding.Mesh:
    """A mesh of the first device, with the axis "device"."""
    return jax.sharding.Mesh(np.array(devices[:1]), ("device",), axis_types=(jax.sharding.AxisType.Auto,))
