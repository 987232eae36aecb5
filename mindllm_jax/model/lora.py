"""LoRA (Hu et al. 2021, arXiv 2106.09685): trained matrices of low rank beside the blocks' frozen ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from mindllm_jax.checks import require_at_least
from mindllm_jax.model.config import Model
from mindllm_jax.model.linear import GradientSums, matmul
from mindllm_jax.model.nf4 import NF4

Target = Literal["query", "key", "value", "out", "gate", "up", "down"]
TARGETS: tuple[Target, ...] = ("query", "key", "value", "out", "gate", "up", "down")
"""The matrices of a block that may have an adapter: attention's and the feed-forward layer's."""


@dataclass(frozen=True)
class Lora:
    """Settings of the adapters; without dropout.

    Attributes:
        rank: columns of A and rows of B; 0 tunes all parameters, without adapters.
        alpha: an adapter's product is scaled by alpha / rank.
        targets: the matrices with an adapter; a feed-forward layer without a gate has none for it.
        base: how the blocks' frozen matrices are held: in the compute dtype, or in NF4, in four bits (QLoRA).
    """

    rank: int = 0
    alpha: float = 32.0
    targets: tuple[Target, ...] = TARGETS
    base: Literal["compute", "nf4"] = "compute"

    def __post_init__(self) -> None:
        require_at_least(self, 0, "rank")
        if not self.alpha > 0:
            raise ValueError(f"Lora.alpha = {self.alpha}: must be greater than 0")
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"Lora.targets = {self.targets}: name one matrix at least, and each once")

    @property
    def scale(self) -> float:
        """The factor of the product of A and B."""
        return self.alpha / self.rank


class AdapterParam(nnx.Param[jax.Array]):
    """A parameter of an adapter, which LoRA trains; every other parameter is frozen then."""


class Adapter(nnx.Module):
    """Adds alpha / rank x A B to the product of x with a weight [I... O...]: A is [I... r] and B [r O...].

    A is uniform within 1 / sqrt(inputs), as in PEFT, and B zero, so that tuning starts from the base.
    """

    def __init__(self, config: Model, weight: nnx.Param[jax.Array], inputs: int, lora: Lora, *, rngs: nnx.Rngs):
        axes, shape = weight.get_metadata()["axes"], weight.shape
        bound = 1 / math.sqrt(math.prod(shape[:inputs]))
        a_shape, b_shape = (*shape[:inputs], lora.rank), (lora.rank, *shape[inputs:])
        values = jax.random.uniform(rngs.params(), a_shape, config.param_dtype, -bound, bound)
        self.a = AdapterParam(values, axes=(*axes[:inputs], "rank"))
        self.b = AdapterParam(jnp.zeros(b_shape, config.param_dtype), axes=("rank", *axes[inputs:]))
        self.inputs, self.scale = inputs, lora.scale

    def __call__(self, x: jax.Array, gradient_sums: GradientSums) -> jax.Array:
        hidden = matmul(x, self.a[...], self.inputs, gradient_sums=gradient_sums)
        return self.scale * matmul(hidden, self.b[...], gradient_sums=gradient_sums)


def adapter(
    config: Model,
    lora: Lora | None,
    target: Target,
    weight: nnx.Param[jax.Array] | None,
    *,
    inputs: int,
    rngs: nnx.Rngs,
) -> Adapter | None:
    """Returns the adapter of a weight, or None where LoRA does not target it."""
    if lora is None or weight is None or target not in lora.targets:
        return None
    return Adapter(config, weight, inputs, lora, rngs=rngs)


def adapted_matmul(
    x: jax.Array, weight: jax.Array | NF4, beside: Adapter | None, inputs: int = 1, *, gradient_sums: GradientSums
) -> jax.Array:
    """Multiplies x with a weight as `matmul` does, and adds the product of its adapter."""
    product = matmul(x, weight, inputs, gradient_sums=gradient_sums)
    return product if beside is None else product + beside(x, gradient_sums)


def merged(weight: jax.Array, a: jax.Array, b: jax.Array, scale: float) -> jax.Array:
    """Returns stacked weights [L I... O...] with the products of their adapters A [L I... r] and B [L r O...] added."""
    layers, rank = a.shape[0], a.shape[-1]
    product = jnp.einsum(
        "lir,lro->lio", a.reshape(layers, -1, rank), b.reshape(layers, rank, -1), precision=jax.lax.Precision.HIGHEST
    )
    return weight + scale * product.reshape(weight.shape)
