"""The loss head over chunks of tokens, in plain XLA: [C V] logits are in memory at a time, never [B T V].

The gradients of a sum of cross-entropies depend on later operations only through one factor, so they are computed
together with the loss: three matrix products, where recomputing the logits would take four.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mindllm_jax.kernels.linear_cross_entropy.problem import Gradients, LossSums, Settings

FORBIDDEN = -2e38
"""The logit of a column that pads the vocabulary: its exponential is exactly zero."""

SMALLEST_CHUNK = 256


class Tokens(NamedTuple):
    """A chunk of tokens: hidden [C D], targets [C], weights [C]."""

    hidden: jax.Array
    targets: jax.Array
    weights: jax.Array


class Terms(NamedTuple):
    """The losses of a chunk of tokens, and their intermediate values."""

    capped: jax.Array  # logits [C V] after the cap
    logits: jax.Array  # and after the mask
    is_target: jax.Array  # bool [C V]
    lse: jax.Array  # [C]
    losses: jax.Array  # [C]
    correct: jax.Array  # [C], 0 or 1


def forward(hidden: jax.Array, head: jax.Array, targets: jax.Array, weights: jax.Array, settings: Settings) -> LossSums:
    """Returns the sums without gradients."""
    matrix = _gather_width(head.astype(hidden.dtype), settings)

    def of_chunk(_: None, tokens: Tokens) -> tuple[None, tuple[jax.Array, jax.Array]]:
        terms = _terms(tokens, matrix, settings)
        return None, (terms.losses, terms.correct)

    _, (losses, correct) = lax.scan(of_chunk, None, _chunks(hidden, targets, weights, settings))
    return _sums(_to_rows(losses, targets), _to_rows(correct, targets), weights, settings)


def forward_and_gradients(
    hidden: jax.Array, head: jax.Array, targets: jax.Array, weights: jax.Array, settings: Settings
) -> tuple[LossSums, Gradients]:
    """Returns the sums, and the gradients of `loss`."""
    matrix = _gather_width(head.astype(hidden.dtype), settings)
    wide = jnp.promote_types(hidden.dtype, jnp.float32)

    def of_chunk(d_head: jax.Array, tokens: Tokens) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        terms = _terms(tokens, matrix, settings)
        d_logits = _d_logits(terms, tokens.weights, settings).astype(hidden.dtype)
        d_hidden = jnp.einsum("cv,dv->cd", d_logits, matrix, preferred_element_type=wide)
        # XLA multiplies a transposed left operand at half speed on a CPU: the barrier makes it copy first. Without the
        # axis of size one XLA would still fold the transpose in after the barrier, and widen operands in bfloat16.
        transposed = lax.optimization_barrier(_where_weighted(tokens.weights[:, None], tokens.hidden).T[None])[0]
        d_head += jnp.einsum("dc,cv->dv", transposed, d_logits, preferred_element_type=wide)
        return d_head, (terms.losses, terms.correct, d_hidden)

    chunks = _chunks(hidden, targets, weights, settings)
    d_head, (losses, correct, d_hidden) = lax.scan(of_chunk, jnp.zeros(matrix.shape, wide), chunks)
    losses = _to_rows(losses, targets)
    gradients = Gradients(
        hidden=lax.psum(_to_rows(d_hidden, targets), settings.vocab_axes),
        head=_sum_over_rows(d_head, settings),
        weights=jnp.where((weights != 0) | jnp.isfinite(losses), losses, 0),
    )
    return _sums(losses, _to_rows(correct, targets), weights, settings), gradients


def _chunks(hidden: jax.Array, targets: jax.Array, weights: jax.Array, settings: Settings) -> Tokens:
    """Splits all tokens into equal chunks along a new leading axis, the last one padded with tokens of weight 0.

    By default a chunk has D tokens, so that its logits [D V] are as large as the head. With smaller chunks, most of the
    traffic would be the head and its gradient, which every chunk reads; larger ones take more memory and were not
    faster.
    """
    width = hidden.shape[-1]
    size = settings.chunk or max(width, SMALLEST_CHUNK)
    count = -(-targets.size // size)
    missing = -targets.size % count
    hidden = jnp.pad(hidden.reshape(-1, width), ((0, missing), (0, 0)))
    targets, weights = (jnp.pad(x.reshape(-1), (0, missing)) for x in (targets, weights))
    return Tokens(hidden.reshape(count, -1, width), targets.reshape(count, -1), weights.reshape(count, -1))


def _to_rows(x: jax.Array, targets: jax.Array) -> jax.Array:
    """Reshapes [chunks, C, ...] to [B T ...], without the padding of the last chunk."""
    return x.reshape(-1, *x.shape[2:])[: targets.size].reshape(*targets.shape, *x.shape[2:])


def _terms(tokens: Tokens, head: jax.Array, settings: Settings) -> Terms:
    wide = jnp.promote_types(head.dtype, jnp.float32)
    capped = jnp.einsum("cd,dv->cv", tokens.hidden, head, preferred_element_type=wide)
    if settings.logit_cap is not None:
        capped = settings.logit_cap * jnp.tanh(capped / settings.logit_cap)
    shard = head.shape[1] * lax.axis_index(settings.vocab_axes) if settings.vocab_axes else 0
    columns = shard + jnp.arange(head.shape[1])
    logits = capped
    if settings.vocab_size is not None:
        logits = jnp.where(columns < settings.vocab_size, capped, FORBIDDEN)

    is_target = columns == tokens.targets[:, None]
    local = jnp.where(tokens.targets < shard, head.shape[1], tokens.targets - shard)  # or out of range
    local_logits = jnp.take_along_axis(logits, local[:, None], axis=1, mode="fill", fill_value=0)
    target = lax.psum(local_logits[:, 0], settings.vocab_axes)
    others = lax.pmax(jnp.where(is_target, FORBIDDEN, logits).max(-1), settings.vocab_axes)
    highest = jnp.maximum(others, target)
    lse = highest + jnp.log(lax.psum(jnp.exp(logits - highest[:, None]).sum(-1), settings.vocab_axes))
    losses = lse - target + settings.z_loss * lse**2
    return Terms(capped, logits, is_target, lse, losses, (target > others).astype(wide))


def _d_logits(terms: Terms, weights: jax.Array, settings: Settings) -> jax.Array:
    """Returns the gradient of the weighted losses in the logits before the cap, [C V]."""
    probabilities = jnp.exp(terms.logits - terms.lse[:, None])
    d_logits = probabilities * (1 + 2 * settings.z_loss * terms.lse[:, None]) - terms.is_target
    if settings.logit_cap is not None:
        d_logits *= 1 - (terms.capped / settings.logit_cap) ** 2
    return _where_weighted(weights[:, None], d_logits * weights[:, None])


def _where_weighted(weights: jax.Array, x: jax.Array) -> jax.Array:
    """Replaces x by zeros for tokens of weight 0, whose hidden states may be infinite: 0 times infinity is not 0."""
    return jnp.where(weights != 0, x, 0)


def _sums(losses: jax.Array, correct: jax.Array, weights: jax.Array, settings: Settings) -> LossSums:
    weights = weights.astype(losses.dtype)
    loss = _where_weighted(weights, losses * weights).sum()
    return lax.psum(LossSums(loss, weights.sum(), (correct * weights).sum()), settings.row_axes)


def _gather_width(head: jax.Array, settings: Settings) -> jax.Array:
    """All-gathers the width of this device's shard of the head: [D, V / shards]."""
    return lax.all_gather(head, settings.width_axes, axis=0, tiled=True) if settings.width_axes else head


def _sum_over_rows(d_head: jax.Array, settings: Settings) -> jax.Array:
    """Sums the head's gradient over all tokens, once for all chunks; each device keeps its shard."""
    if settings.width_axes:
        d_head = lax.psum_scatter(d_head, settings.width_axes, scatter_dimension=0, tiled=True)
    return lax.psum(d_head, tuple(axis for axis in settings.row_axes if axis not in settings.width_axes))
