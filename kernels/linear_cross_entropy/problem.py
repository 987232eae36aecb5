"""What every implementation of the loss head is given besides arrays, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax


class LossSums(NamedTuple):
    """Scalars in float32 or wider. Divide by `weight` for means."""

    loss: jax.Array  # weighted sum of the losses, z-loss included
    weight: jax.Array  # sum of the weights
    correct: jax.Array  # weighted count of the targets whose logit is above all others


class Gradients(NamedTuple):
    """Of the summed loss, in float32 or wider."""

    hidden: jax.Array  # [B T D]
    head: jax.Array  # [D V]
    weights: jax.Array  # [B T]; these are the losses themselves, 0 where one of weight 0 is not finite


@dataclass(frozen=True)
class Settings:
    """What is known when the call is traced. The axes are those of the mesh that split arrays inside a shard_map."""

    z_loss: float
    logit_cap: float | None
    chunk: int | None
    vocab_size: int | None  # columns of the whole head that are tokens; None: all
    row_axes: tuple[str, ...] = ()  # split the tokens
    width_axes: tuple[str, ...] = ()  # split the head's rows; they split the tokens too
    vocab_axes: tuple[str, ...] = ()  # split the head's columns
