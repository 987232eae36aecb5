"""Measuring a decoder on rows of text."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import numpy as np
from flax import nnx
from rich.console import Console
from rich.progress import track

from mindllm_jax.batching.global_batches import GlobalBatches
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.rows import Rows

BATCH_ROWS = 8  # at a time, or a few more that the devices share evenly


def sums_over(
    decoder: Decoder,
    rows: Rows,
    of_batch: Callable[..., tuple[jax.Array, ...]],
    *arrays: jax.Array,
    title: str | None = None,
) -> np.ndarray:
    """Adds up what `of_batch(definition, params, batch, *arrays)` gives for batches of all rows.

    The last batch is filled up with padding, whose targets have weight 0, so that sums over weighted targets are the
    same on any number of devices, but for the rounding within a batch.

    Args:
        decoder: what is measured, as `nnx.split` gives it to `of_batch`.
        rows: each is read once.
        of_batch: a function under jit that returns scalars.
        arrays: further arguments, on the decoder's devices.
        title: of the progress that is shown; without one none is.

    Returns float64 [scalars].
    """
    count = decoder.layout.placement.even_rows(BATCH_ROWS)
    steps = math.ceil(len(rows) / count)
    definition, params = nnx.split(decoder)
    total = np.zeros(())
    console = Console(stderr=True, quiet=title is None or jax.process_index() != 0)
    with GlobalBatches(rows, count, decoder.layout.placement.named("batch", "length")) as batches:
        for batch in track(batches, title or "", total=steps, console=console, transient=True):
            total = total + np.asarray(jax.device_get(of_batch(definition, params, batch, *arrays)), np.float64)
    return total
