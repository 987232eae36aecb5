"""Validates XLA compiler options by compiling a constant."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def check_compiler_options(options: dict[str, Any], mesh: jax.sharding.Mesh) -> None:
    """Compiles a constant for the mesh with these options.

    Raises ValueError that names an option or a value that the compiler of these devices rejects. Options belong to a
    compiler: those of `configs/hardware/tpu.gin` are unknown on a CPU.
    """
    if not options:
        return
    constant = jax.jit(lambda: jnp.zeros(()), out_shardings=jax.NamedSharding(mesh, jax.P()))
    try:
        constant.lower().compile(options)
    except jax.errors.JaxRuntimeError as error:
        kind, reason = mesh.devices.flat[0].device_kind, str(error).splitlines()[0].removeprefix("INVALID_ARGUMENT: ")
        raise ValueError(f"Loop.compiler_options: rejected by the compiler for {kind}: {reason}") from None
