"""The hardware that a call is traced for: the current mesh's, which this machine need not have."""

from __future__ import annotations

from typing import NamedTuple

import jax


class Target(NamedTuple):
    """A platform (`jax.default_backend()`'s names) and the device's name, as "TPU v5 lite" or "NVIDIA H200"."""

    platform: str
    device_kind: str


OTHER_NAMES = {"TPU v5e": "TPU v5 lite", "TPU v5p": "TPU v5", "TPU v6e": "TPU v6 lite"}
"""Names of chips in their documentation, which some runtimes use, and libtpu's names, which our tables use."""


def known_name(device_kind: str) -> str:
    """Returns the name of a device in our tables."""
    return OTHER_NAMES.get(device_kind, device_kind)


def target() -> Target:
    """Returns the hardware of the current mesh, which may be a topology's for AOT compilation, or else of the default
    device."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    if device is not None:
        return Target(device.platform or jax.default_backend(), known_name(device.device_kind))
    default = jax.local_devices()[0]
    return Target(jax.default_backend(), known_name(default.device_kind))
