"""Matrix products of activations with weights."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from mindllm_jax.kernels.target import target
from mindllm_jax.model.nf4 import NF4

GradientSums = Literal["compute", "float32"]


def matmul(
    x: jax.Array, weight: jax.Array | NF4, inputs: int = 1, *, gradient_sums: GradientSums = "compute"
) -> jax.Array:
    """Multiplies x [B T I...] with weight [I... O...], cast to x's dtype, over `inputs` axes: [B T O...].

    The weight's gradient is written as x^T dy. JAX's own rule forms its transpose, and XLA on a CPU then computes dy a
    second time, transposed, with all its elementwise work: a quarter of a training step.

    gradient_sums: the dtype in which the compiler sums the weight's gradient over devices: x's, or float32 (float64 for
    float64). Over the tokens of a device it is summed in float32 or wider, and it is returned in the weight's dtype. A
    weight in NF4 is frozen, and has none.
    """
    if isinstance(weight, NF4):
        return _matmul_with_frozen(x, weight, inputs)
    return _matmul_with_gradients(x, weight, inputs, gradient_sums)


def add_bias(x: jax.Array, bias: nnx.Param[jax.Array] | None) -> jax.Array:
    """Adds a bias over the last axes of x, cast to its dtype; None adds nothing."""
    return x if bias is None else x + bias[...].astype(x.dtype)


def _matmul(x: jax.Array, weight: jax.Array, inputs: int, _: GradientSums) -> jax.Array:
    axes = tuple(range(inputs))
    return _dot(x, weight.astype(x.dtype), tuple(2 + axis for axis in axes), axes)


def _forward(
    x: jax.Array, weight: jax.Array, inputs: int, gradient_sums: GradientSums
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _matmul(x, weight, inputs, gradient_sums), (x, weight)


def _backward(
    inputs: int, gradient_sums: GradientSums, residuals: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, weight = residuals
    outputs = tuple(range(2, dy.ndim)), tuple(range(inputs, weight.ndim))
    dx = _dot(dy, weight.astype(dy.dtype), *outputs)
    tokens = (0, 1)
    sum_dtype = jnp.promote_types(x.dtype, jnp.float32) if gradient_sums == "float32" else x.dtype
    if _is_bfloat16_on_one_cpu(x):
        # XLA would fold the transpose into the product, and then widen the operands: the barrier keeps it a copy.
        x, tokens = lax.optimization_barrier(jnp.moveaxis(x, (0, 1), (-2, -1))), (x.ndim - 2, x.ndim - 1)
    d_weight = _dot(x, dy, tokens, (0, 1), sum_dtype)
    return dx.astype(x.dtype), d_weight.astype(weight.dtype)


def _dot(
    x: jax.Array, y: jax.Array, x_axes: tuple[int, ...], y_axes: tuple[int, ...], dtype: jnp.dtype | None = None
) -> jax.Array:
    """Multiplies over these axes and returns `dtype`, by default x's.

    On a CPU, XLA's fast products of bfloat16 return float32; for bfloat16 it widens the operands first, which takes
    twice the time. There the product is rounded after it.
    """
    dtype = dtype or x.dtype
    accumulated = jnp.float32 if _is_bfloat16_on_one_cpu(x) else dtype
    return lax.dot_general(x, y, ((x_axes, y_axes), ((), ())), preferred_element_type=accumulated).astype(dtype)


def _is_bfloat16_on_one_cpu(x: jax.Array) -> bool:
    """Whether a product may be rounded late: over several devices it is summed in the type that it returns."""
    return x.dtype == jnp.bfloat16 and target().platform == "cpu" and jax.sharding.get_abstract_mesh().size <= 1


def _frozen(x: jax.Array, weight: NF4, inputs: int) -> jax.Array:
    return _matmul(x, weight.dequantized(x.dtype), inputs, "compute")


def _frozen_forward(x: jax.Array, weight: NF4, inputs: int) -> tuple[jax.Array, NF4]:
    """Keeps the four bits for the backward pass, where JAX would keep the matrix that was made of them."""
    return _frozen(x, weight, inputs), weight


def _frozen_backward(inputs: int, weight: NF4, dy: jax.Array) -> tuple[jax.Array, None]:
    matrix = weight.dequantized(dy.dtype)
    return _dot(dy, matrix, tuple(range(2, dy.ndim)), tuple(range(inputs, matrix.ndim))), None


_matmul_with_gradients: Any = jax.custom_vjp(_matmul, nondiff_argnums=(2, 3))
_matmul_with_gradients.defvjp(_forward, _backward)
_matmul_with_frozen: Any = jax.custom_vjp(_frozen, nondiff_argnums=(2,))
_matmul_with_frozen.defvjp(_frozen_forward, _frozen_backward)
