"""NF4 (Dettmers et al. 2023, arXiv 2305.14314): matrices in four bits, with a scale for every 64 inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

BLOCK = 64
"""Inputs that share a scale; every 64 inputs in a row, as in bitsandbytes."""

VALUES = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""The sixteen values of a code: quantiles of the normal distribution over its largest, and zero (their appendix E)."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NF4:
    """A matrix [... I... O...] in four bits, with a scale per block: 4.5 bits per weight.

    Attributes:
        codes: uint8, two indices of `VALUES` each, the first in the low bits; half as long on the axis of the blocks.
        scales: float32, the largest absolute value of each block; a 64th as long on that axis.
        axis: the axis of the blocks, the last of the inputs, counted from the end.
    """

    codes: jax.Array
    scales: jax.Array
    axis: int = field(metadata={"static": True})

    def __getitem__(self, index: object) -> NF4:
        """Returns the whole matrix, which is all that a parameter is asked for."""
        assert index is Ellipsis
        return self

    @property
    def size(self) -> int:
        """The number of weights."""
        return 2 * int(np.prod(self.codes.shape))

    def dequantized(self, dtype: jnp.dtype) -> jax.Array:
        """Returns the matrix, computed in float32 and cast."""
        axis = self.codes.ndim + self.axis
        indices = jnp.stack([self.codes & 15, self.codes >> 4], axis=axis + 1)
        values = jnp.asarray(VALUES, jnp.float32)[_joined(indices, axis)]
        blocks = _split(values, axis, BLOCK) * jnp.expand_dims(self.scales, axis + 1)
        return _joined(blocks, axis).astype(dtype)


def quantized(weight: jax.Array, axis: int) -> NF4:
    """Quantizes a matrix to the nearest values, in blocks of 64 along an axis that is counted from the end.

    It is rounded to bfloat16 first: so is a base that is held in it, and NF4 is the same from a wider dtype.
    """
    position = weight.ndim + axis
    blocks = _split(weight.astype(jnp.bfloat16).astype(jnp.float32), position, BLOCK)
    scales = jnp.max(jnp.abs(blocks), axis=position + 1)
    shares = blocks / jnp.expand_dims(jnp.where(scales > 0, scales, 1), position + 1)
    # Comparisons are fused; jnp.searchsorted holds 24 bytes per weight.
    found = [(shares > np.float32((low + high) / 2)).astype(jnp.uint8) for low, high in pairwise(VALUES)]
    indices = _split(_joined(reduce(jnp.add, found), position), position, 2)
    low, high = (jax.lax.index_in_dim(indices, place, position + 1, keepdims=False) for place in (0, 1))
    return NF4(low | (high << 4), scales, axis)


def _split(x: jax.Array, axis: int, size: int) -> jax.Array:
    """Divides an axis into two, of the parts and of the `size` places in each."""
    return x.reshape(*x.shape[:axis], -1, size, *x.shape[axis + 1 :])


def _joined(x: jax.Array, axis: int) -> jax.Array:
    """Joins an axis with the next one."""
    return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
