"""`linear_cross_entropy`: checks of the arguments, choice of the implementation, sharding and differentiation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from mindllm_jax.kernels.capabilities import Capabilities, choose
from mindllm_jax.kernels.linear_cross_entropy import xla
from mindllm_jax.kernels.linear_cross_entropy.problem import Gradients, LossSums, Settings
from mindllm_jax.kernels.partition import axes_of, check_divisible
from mindllm_jax.kernels.target import target


@dataclass(frozen=True)
class Implementation:
    """Two functions, with the signatures of `xla`, and their capabilities."""

    forward: Callable[..., LossSums]
    forward_and_gradients: Callable[..., tuple[LossSums, Gradients]]
    capabilities: Capabilities


FEATURES = frozenset(["z_loss", "logit_cap", "vocab_size", "partition"])
FLOATS = frozenset(["bfloat16", "float32", "float64"])

IMPLEMENTATIONS = {
    "xla": Implementation(xla.forward, xla.forward_and_gradients, Capabilities(None, FLOATS, FEATURES)),
}
"""Implementations by name, in order of preference."""


def linear_cross_entropy(
    hidden: jax.Array,
    head: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    *,
    z_loss: float = 0.0,
    logit_cap: float | None = None,
    chunk: int | None = None,
    vocab_size: int | None = None,
    partition: PartitionSpec | tuple[PartitionSpec, PartitionSpec] | None = None,
    implementation: str | None = None,
) -> LossSums:
    """Computes the cross-entropy of the logits `hidden @ head`, without a [B T V] buffer.

    Differentiable in hidden, head and weights, through `loss` and `weight`; `correct` is a constant. When it
    is differentiated, the gradients are computed together with the loss, their sums over tokens in float32.

    Args:
        hidden: [B T D], bfloat16, float32 or float64: the dtype of the matrix products; their sums are float32 or
            wider.
        head: [D V], in hidden's dtype or in float32, the dtype of its gradient too. Prefer the float32 parameter: it is
            rounded for the products, and its gradient is not.
        targets: [B T], integers below vocab_size.
        weights: [B T], floats. A token of weight 0 is ignored, even where its loss is not finite. The gradient of its
            weight is its loss, or 0 where that is not finite.
        z_loss: adds z_loss * log(sum(exp(logits)))**2 to each loss (PaLM, section 5).
        logit_cap: logits become logit_cap * tanh(logits / logit_cap) (Gemma 2, section 2).
        chunk: tokens whose logits are in memory at a time; by default D, at least 256.
        vocab_size: number of real columns when head's V is padded; the others get no probability.
        partition: PartitionSpec of hidden over the current mesh, which may split B and T; or a pair with that of
            head, which may split V over other axes, and D over axes that split B or T too (as FSDP does).
        implementation: a name in IMPLEMENTATIONS; None takes the first that supports the call.

    Raises:
        ValueError: an argument does not fit, or the implementation does not support the call.
    """
    _check_arrays(hidden, head, targets, weights)
    if vocab_size is not None and not 1 <= vocab_size <= head.shape[1]:
        raise ValueError(f"vocab_size = {vocab_size}; it must be 1 to the {head.shape[1]} columns of head")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk = {chunk}; it must be at least 1 token")
    if logit_cap is not None and logit_cap <= 0:
        raise ValueError(f"logit_cap = {logit_cap}; it must be positive")
    used = {
        "z_loss": z_loss != 0,
        "logit_cap": logit_cap is not None,
        "vocab_size": vocab_size is not None,
        "partition": partition is not None,
    }
    name = choose(
        {name: entry.capabilities for name, entry in IMPLEMENTATIONS.items()},
        implementation,
        platform=target().platform,
        dtype=hidden.dtype.name,
        features=frozenset(feature for feature, is_used in used.items() if is_used),
    )
    settings = Settings(z_loss, logit_cap, chunk, vocab_size)
    specs = None
    if partition is not None:
        specs = partition if isinstance(partition, tuple) else (partition, PartitionSpec())
        settings = _partition_settings(settings, *specs, hidden, head)
    call = _Call(name, settings, specs, (hidden.dtype, head.dtype, weights.dtype))
    return _loss_sums_with_gradients(call, hidden, head, targets, weights)


@dataclass(frozen=True)
class _Call:
    implementation: str
    settings: Settings
    specs: tuple[PartitionSpec, PartitionSpec] | None  # of hidden and head
    dtypes: tuple[jnp.dtype, jnp.dtype, jnp.dtype]  # of hidden, head and weights

    def sharded(self, function: Callable[..., Any], *, gradients: bool) -> Callable[..., Any]:
        """Maps a function of (hidden, head, targets, weights) over the shards of the partition."""
        if self.specs is None:
            return function
        hidden, head = self.specs
        tokens: Any = PartitionSpec(axes_of(hidden, 0), axes_of(hidden, 1))
        sums = PartitionSpec()
        of_gradients: Any = Gradients._make((hidden, head, tokens))
        return jax.shard_map(
            function,
            in_specs=(hidden, head, tokens, tokens),
            out_specs=(sums, of_gradients) if gradients else sums,
            check_vma=False,
        )


def _loss_sums(call: _Call, hidden: jax.Array, head: jax.Array, targets: jax.Array, weights: jax.Array) -> LossSums:
    function = partial(IMPLEMENTATIONS[call.implementation].forward, settings=call.settings)
    return call.sharded(function, gradients=False)(hidden, head, targets, weights)


def _loss_sums_forward(call: _Call, *args: jax.Array) -> tuple[LossSums, Gradients]:
    function = partial(IMPLEMENTATIONS[call.implementation].forward_and_gradients, settings=call.settings)
    return call.sharded(function, gradients=True)(*args)


def _loss_sums_backward(call: _Call, gradients: Gradients, factors: LossSums) -> tuple[jax.Array | None, ...]:
    hidden, head, weights = call.dtypes
    return (
        (gradients.hidden * factors.loss).astype(hidden),
        (gradients.head * factors.loss).astype(head),
        None,
        (gradients.weights * factors.loss + factors.weight).astype(weights),
    )


# Differentiation is outside the shard_map: the implementation sums gradients over shards, once.
_loss_sums_with_gradients = jax.custom_vjp(_loss_sums, nondiff_argnums=(0,))
_loss_sums_with_gradients.defvjp(_loss_sums_forward, _loss_sums_backward)


def _partition_settings(
    settings: Settings, hidden_spec: PartitionSpec, head_spec: PartitionSpec, hidden: jax.Array, head: jax.Array
) -> Settings:
    """Returns the settings with the mesh axes. Raises ValueError for an unsupported partition."""
    if axes_of(hidden_spec, 2):
        raise ValueError(f"partition = {hidden_spec} splits the width of hidden; it may split batch and length only")
    rows = axes_of(hidden_spec, 0) + axes_of(hidden_spec, 1)
    width, vocab = axes_of(head_spec, 0), axes_of(head_spec, 1)
    if alone := [axis for axis in width if axis not in rows]:
        raise ValueError(f"partition of head splits its width over {alone}, which do not split hidden: they must")
    if both := [axis for axis in vocab if axis in rows]:
        raise ValueError(f"partition of head splits its columns over {both}, which split hidden too: use other axes")
    check_divisible("batch of hidden", hidden.shape[0], axes_of(hidden_spec, 0))
    check_divisible("length of hidden", hidden.shape[1], axes_of(hidden_spec, 1))
    check_divisible("width of head", head.shape[0], width)
    check_divisible("columns of head", head.shape[1], vocab)
    return replace(settings, row_axes=rows, width_axes=width, vocab_axes=vocab)


def _check_arrays(hidden: jax.Array, head: jax.Array, targets: jax.Array, weights: jax.Array) -> None:
    if hidden.ndim != 3:
        raise ValueError(f"hidden has shape {hidden.shape}; it must be [batch, length, width]")
    if head.ndim != 2 or head.shape[0] != hidden.shape[2]:
        raise ValueError(
            f"head has shape {head.shape}; for hidden of shape {hidden.shape} it must be [width, vocabulary]"
        )
    for name, x in (("targets", targets), ("weights", weights)):
        if x.shape != hidden.shape[:2]:
            raise ValueError(
                f"{name} have shape {x.shape}; for hidden of shape {hidden.shape} they must be [batch, length]"
            )
    if head.dtype not in (hidden.dtype, jnp.float32):
        raise ValueError(f"head is {head.dtype}; it must be float32 or, like hidden, {hidden.dtype}")
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise ValueError(f"targets are {targets.dtype}; they must be integers")
    if not jnp.issubdtype(weights.dtype, jnp.floating):
        raise ValueError(f"weights are {weights.dtype}; they must be floats")
