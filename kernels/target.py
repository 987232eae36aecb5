"""For which hardware a call is traced: that of the current mesh, which need not be the machine's own."""

from __future__ import annotations

from typing import NamedTuple

import jax


class Target(NamedTuple):
    """A platform (`jax.default_backend()`'s names) and the device's name, as "TPU v5 lite" or "NVIDIA H200"."""

    platform: str
    device_kind: str


OTHER_NAMES = {"TPU v5e": "TPU v5 lite", "TPU v5p": "TPU v5", "TPU v6e": "TPU v6 lite"}
"""Some runtimes name a chip as its documentation does; tables have it under the name that libtpu gives."""


def known_name(device_kind: str) -> str:
    """The name under which tables have a device that JAX names `device_kind`."""
    return OTHER_NAMES.get(device_kind, device_kind)


def target() -> Target:
    """The devices of the mesh that is set (also one of described devices, for compilation ahead of time), or else the
    default device."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    if device is not None:
        return Target(device.platform or jax.default_backend(), known_name(device.device_kind))
    default = jax.local_devices()[0]
    return Target(jax.default_backend(), known_name(default.device_kind))
