"""Products of activations with weights."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from mindllm_jax.kernels.target import target

GradientSums = Literal["compute", "float32"]


def matmul(x: jax.Array, weight: jax.Array, inputs: int = 1, *, sums: GradientSums = "compute") -> jax.Array:
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
    return _dot(x, weight.astype(x.dtype), tuple(2 + axis for axis in axes), axes)


def _forward(
    x: jax.Array, weight: jax.Array, inputs: int, sums: GradientSums
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _product(x, weight, inputs, sums), (x, weight)


def _backward(
    inputs: int, sums: GradientSums, kept: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, weight = kept
    outputs = tuple(range(2, dy.ndim)), tuple(range(inputs, weight.ndim))
    dx = _dot(dy, weight.astype(dy.dtype), *outputs)
    tokens = (0, 1)
    summed = jnp.promote_types(x.dtype, jnp.float32) if sums == "float32" else x.dtype
    if _is_bfloat16_on_one_cpu(x):
        # XLA would fold the transpose into the product, and then widen the operands: the barrier keeps it a copy.
        x, tokens = lax.optimization_barrier(jnp.moveaxis(x, (0, 1), (-2, -1))), (x.ndim - 2, x.ndim - 1)
    d_weight = _dot(x, dy, tokens, (0, 1), summed)
    return dx.astype(x.dtype), d_weight.astype(weight.dtype)


def _dot(
    x: jax.Array, y: jax.Array, x_axes: tuple[int, ...], y_axes: tuple[int, ...], dtype: jnp.dtype | None = None
) -> jax.Array:
    """The product over these axes in `dtype`, by default x's.

    XLA's fast products of bfloat16 on a CPU give float32; asked for bfloat16, it widens the operands first, which takes
    twice the time. So the sums are rounded behind the product there.
    """
    dtype = dtype or x.dtype
    leaving = jnp.float32 if _is_bfloat16_on_one_cpu(x) else dtype
    return lax.dot_general(x, y, ((x_axes, y_axes), ((), ())), preferred_element_type=leaving).astype(dtype)


def _is_bfloat16_on_one_cpu(x: jax.Array) -> bool:
    """Over several devices a product has to leave in the type in which it is to be summed."""
    return x.dtype == jnp.bfloat16 and target().platform == "cpu" and jax.sharding.get_abstract_mesh().size <= 1


_with_gradients: Any = jax.custom_vjp(_product, nondiff_argnums=(2, 3))
_with_gradients.defvjp(_forward, _backward)
