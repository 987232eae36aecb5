"""For which hardware a call is traced: that of the current mesh, which need not be the machine's own."""

from __future__ import annotations

from typing import NamedTuple

import jax


class Target(NamedTuple):
    """A platform (`jax.default_backend()`'s names) and the device's name, as "TPU v5 lite" or "NVIDIA H100"."""

    platform: str
    device_kind: str


def target() -> Target:
    """The devices of the mesh that is set (also one of described devices, for compilation ahead of time), or else the
    default device."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    if device is not None:
        return Target(device.platform or jax.default_backend(), device.device_kind)
    default = jax.local_devices()[0]
    return Target(jax.default_backend(), default.device_kind)
