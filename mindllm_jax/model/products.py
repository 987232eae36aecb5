"""Products of activations with weights."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

GradientSums = Literal["compute", "float32"]


def product(x: jax.Array, weight: jax.Array, inputs: int = 1, *, sums: GradientSums = "compute") -> jax.Array:
    """x [B T I...] times weight [I... O...], which is cast to x's dtype, over `inputs` axes: [B T O...].

    The gradient of the weight is written as x^T dy. Left to itself, JAX forms its transpose, and XLA on a CPU then
    computes dy a second time, transposed, with everything elementwise that belongs to it: a quarter of a training step.

    sums: the dtype in which the weight's gradient leaves that product, in which the compiler sums it over the devices
    that have other tokens: x's, or float32 (float64 for float64). Over the tokens of a device it is summed in float32
    or wider either way, and it arrives in the weight's own dtype.
    """
    return _with_gradients(x, weight, inputs, sums)


def _product(x: jax.Array, weight: jax.Array, inputs: int, _: GradientSums) -> jax.Array:
    axes = tuple(range(inputs))
    return lax.dot_general(x, weight.astype(x.dtype), ((tuple(2 + axis for axis in axes), axes), ((), ())))


def _forward(
    x: jax.Array, weight: jax.Array, inputs: int, sums: GradientSums
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _product(x, weight, inputs, sums), (x, weight)


def _backward(
    inputs: int, sums: GradientSums, kept: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, weight = kept
    outputs = (tuple(range(2, dy.ndim)), tuple(range(inputs, weight.ndim)))
    dx = lax.dot_general(dy, weight.astype(dy.dtype), (outputs, ((), ())))
    summed = jnp.promote_types(x.dtype, jnp.float32) if sums == "float32" else x.dtype
    d_weight = lax.dot_general(x, dy, (((0, 1), (0, 1)), ((), ())), preferred_element_type=summed)
    return dx.astype(x.dtype), d_weight.astype(weight.dtype)


_with_gradients: Any = jax.custom_vjp(_product, nondiff_argnums=(2, 3))
_with_gradients.defvjp(_forward, _backward)
