"""The loss of a decoder on rows of text."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from mindllm_jax.batching.global_batches import GlobalBatches
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.rows import Batch, Rows
from mindllm_jax.training.step import loss_sums

BATCH_ROWS = 8  # rows of a batch, or a few more that the devices share evenly


class Totals(NamedTuple):
    """Sums over the targets of some rows, weighted by the loss weights.

    Attributes:
        loss: cross-entropy in nats.
        weight: sum of the weights.
        correct: weighted count of targets that are the most probable token.
        bytes: UTF-8 bytes of the targets of weight above 0; 0 without `token_bytes`.
    """

    loss: float
    weight: float
    correct: float
    bytes: float


def measure_loss(
    decoder: Decoder, rows: Rows, token_bytes: jax.Array | None = None, *, title: str | None = None
) -> Totals:
    """Adds up the losses of a decoder over finite rows, each read once.

    The last batch is filled up with padding of weight 0, so that the sums are the same on any number of devices, but
    for the rounding within a batch.

    Args:
        decoder: the model.
        rows: finite rows.
        token_bytes: int32 [V], UTF-8 bytes of each piece, on the decoder's devices.
        title: title of a progress bar; without one none is shown.
    """
    return Totals(*_add_up(_totals, decoder, rows, token_bytes, title).tolist())


def measure_by_place(
    decoder: Decoder, rows: Rows, token_bytes: jax.Array, *, title: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Adds up losses and bytes by the place of their targets, in the same pass as `measure_loss`.

    Returns cross-entropy in nats and UTF-8 bytes, float64 [2 K]. Row 0 is by the tokens before the target in its row,
    row 1 by those of its own document in the row, `<doc>` included; column k holds the targets with 2^k to 2^(k+1) - 1
    tokens before them. The columns of a row add up to the sums of `measure_loss`, but for rounding. The arguments are
    those of `measure_loss`.
    """
    losses, sizes = _add_up(_place_totals, decoder, rows, token_bytes, title)
    return losses, sizes


def _add_up(
    sums_of_batch: Callable[..., tuple[jax.Array, ...]],
    decoder: Decoder,
    rows: Rows,
    token_bytes: jax.Array | None,
    title: str | None,
) -> np.ndarray:
    """Returns the sums of all batches: a compiled function gives those of one, arrays of one shape."""
    count = decoder.layout.placement.even_rows(BATCH_ROWS)
    steps = math.ceil(len(rows) / count)
    definition, params = nnx.split(decoder)
    total = np.zeros(())
    console = Console(stderr=True, quiet=title is None or jax.process_index() != 0)
    with GlobalBatches(rows, count, decoder.layout.placement.named("batch", "length")) as batches:
        for batch in track(batches, escape(title or ""), total=steps, console=console, transient=True):
            sums = jax.device_get(sums_of_batch(definition, params, batch, token_bytes))
            total = total + np.asarray(sums, np.float64)
    return total


@partial(jax.jit, static_argnames="definition")
def _totals(
    definition: nnx.GraphDef[Decoder], params: nnx.State, batch: Batch, token_bytes: jax.Array | None
) -> tuple[jax.Array, ...]:
    sums = loss_sums(nnx.merge(definition, params), batch)
    size = 0 if token_bytes is None else _target_bytes(batch, token_bytes)
    return sums.loss, sums.weight, sums.correct, jnp.sum(size)


@partial(jax.jit, static_argnames="definition")
def _place_totals(
    definition: nnx.GraphDef[Decoder], params: nnx.State, batch: Batch, token_bytes: jax.Array
) -> tuple[jax.Array, ...]:
    decoder = nnx.merge(definition, params)
    weights, length = jnp.asarray(batch.weights), batch.tokens.shape[1]
    # The gradient in its weight is a token's loss. XLA removes the other gradients: nothing reads them.
    losses = jax.grad(lambda weights: loss_sums(decoder, batch._replace(weights=weights)).loss)(weights)
    places = jnp.stack([jnp.broadcast_to(jnp.arange(length), weights.shape), jnp.asarray(batch.positions)])
    column = 31 - jax.lax.clz(places.astype(jnp.int32) + 1)  # floor(log2)
    chosen = column[..., None] == jnp.arange(length.bit_length())  # [2 B T K]

    def sums(x: jax.Array) -> jax.Array:
        # Replicated, so that every process can read all of it.
        return decoder.layout.placement.constrain(jnp.where(chosen, x[..., None], 0).sum((1, 2)))

    return sums(jnp.where(weights > 0, losses * weights, 0)), sums(_target_bytes(batch, token_bytes))


def _target_bytes(batch: Batch, token_bytes: jax.Array) -> jax.Array:
    """Returns the UTF-8 bytes of each target of weight above 0, int32 [B T]."""
    return jnp.where(batch.weights > 0, token_bytes[batch.targets], 0)
