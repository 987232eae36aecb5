"""The loss of a decoder on rows of text."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
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
    count = decoder.layout.placement.even_rows(BATCH_ROWS)
    steps = math.ceil(len(rows) / count)
    definition, params = nnx.split(decoder)
    total = np.zeros(len(Totals._fields))
    console = Console(stderr=True, quiet=title is None or jax.process_index() != 0)
    with GlobalBatches(rows, count, decoder.layout.placement.named("batch", "length")) as batches:
        for batch in track(batches, title or "", total=steps, console=console, transient=True):
            total += np.asarray(jax.device_get(_totals(definition, params, batch, token_bytes)), np.float64)
    return Totals(*total.tolist())


@partial(jax.jit, static_argnames="definition")
def _totals(
    definition: nnx.GraphDef[Decoder], params: nnx.State, batch: Batch, token_bytes: jax.Array | None
) -> tuple[jax.Array, ...]:
    sums = loss_sums(nnx.merge(definition, params), batch)
    size = 0 if token_bytes is None else jnp.where(batch.weights > 0, token_bytes[batch.targets], 0)
    return sums.loss, sums.weight, sums.correct, jnp.sum(size)
