"""Products of activations with weights."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax


def product(x: jax.Array, weight: jax.Array, inputs: int = 1) -> jax.Array:
    """x [B T I...] times weight [I... O...], which is cast to x's dtype, over `inputs` axes: [B T O...].

    The gradient of the weight is written as x^T dy. Left to itself, JAX forms its transpose, and XLA on a CPU then
    computes dy a second time, transposed, with everything elementwise that belongs to it: a quarter of a training step.
    """
    return _with_gradients(x, weight, inputs)


def _product(x: jax.Array, weight: jax.Array, inputs: int) -> jax.Array:
    axes = tuple(range(inputs))
    return lax.dot_general(x, weight.astype(x.dtype), ((tuple(2 + axis for axis in axes), axes), ((), ())))


def _forward(x: jax.Array, weight: jax.Array, inputs: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _product(x, weight, inputs), (x, weight)


def _backward(inputs: int, kept: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = kept
    outputs = (tuple(range(2, dy.ndim)), tuple(range(inputs, weight.ndim)))
    dx = lax.dot_general(dy, weight.astype(dy.dtype), (outputs, ((), ())))
    d_weight = lax.dot_general(x, dy, (((0, 1), (0, 1)), ((), ())))
    return dx.astype(x.dtype), d_weight.astype(weight.dtype)


_with_gradients: Any = jax.custom_vjp(_product, nondiff_argnums=(2,))
_with_gradients.defvjp(_forward, _backward)
