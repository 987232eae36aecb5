"""The static arguments and the results of the loss head's implementations."""

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
    """The gradients of the summed loss, in float32 or wider."""

    hidden: jax.Array  # [B T D]
    head: jax.Array  # [D V]
    weights: jax.Array  # [B T]: the losses themselves, 0 where the loss of a token of weight 0 is not finite


@dataclass(frozen=True)
class Settings:
    """The arguments that are static when a call is traced. The axes are those of the current mesh."""

    z_loss: float
    logit_cap: float | None
    chunk: int | None
    vocab_size: int | None  # columns of the unsplit head that are tokens; None: all
    row_axes: tuple[str, ...] = ()  # split the tokens
    width_axes: tuple[str, ...] = ()  # split the head's rows, and the tokens too
    vocab_axes: tuple[str, ...] = ()  # split the head's columns
