"""AdamW and Muon with warm-up and cosine decay, built from optax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import optax
from flax import nnx

from mindllm_jax.checks import require_at_least
from mindllm_jax.parallel.sharding import logical_axes
from mindllm_jax.training.muon import scale_by_muon

Axes = Any  # a tree of tuples of logical axis names, in the structure of the parameters


@dataclass(frozen=True)
class Optimizer:
    """Update rule and learning rate. The paper's own table was not found (docs/paper.md): these values are ours."""

    name: Literal["adamw", "muon"] = "adamw"  # muon: the blocks' matrices by Muon, the rest by AdamW
    peak_learning_rate: float = 3e-4
    warmup_steps: int = 100  # linear from peak / warmup_steps
    final_fraction: float = 0.1  # the cosine ends at this share of the peak
    beta1: float = 0.9  # Adam's
    beta2: float = 0.95  # Adam's
    momentum: float = 0.95  # Muon's
    epsilon: float = 1e-8
    weight_decay: float = 0.1  # on matrices only
    clip_norm: float = 1.0  # global norm of the gradient

    def __post_init__(self) -> None:
        for name in ("peak_learning_rate", "epsilon", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Optimizer.{name} = {getattr(self, name)}: must be greater than 0")
        for name in ("beta1", "beta2", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"Optimizer.{name} = {getattr(self, name)}: must be at least 0 and less than 1")
        require_at_least(self, 0, "warmup_steps", "weight_decay")
        if not 0 <= self.final_fraction <= 1:
            raise ValueError(f"Optimizer.final_fraction = {self.final_fraction}: must lie between 0 and 1")

    def schedule(self, steps: int) -> optax.Schedule:
        """Learning rate as a function of the number of updates made, for a run of `steps`.

        A run shorter than the warm-up warms up over its first half, so that a trial run of a few steps still learns.
        """
        warmup = min(self.warmup_steps, steps // 2)
        return optax.warmup_cosine_decay_schedule(
            init_value=self.peak_learning_rate / (warmup + 1),
            peak_value=self.peak_learning_rate,
            warmup_steps=warmup,
            decay_steps=max(steps, warmup + 1),
            end_value=self.peak_learning_rate * self.final_fraction,
        )

    def build(self, steps: int, axes: Axes) -> optax.GradientTransformation:
        """The gradient transformation for parameters whose logical axes are `axes` (see `axes_of`)."""
        direction = optax.scale_by_adam(self.beta1, self.beta2, self.epsilon)
        if self.name == "muon":
            dimensions = jax.tree.map(_muon_dimensions, axes, is_leaf=_is_axes)
            muon = scale_by_muon(dimensions, momentum=self.momentum, epsilon=self.epsilon)
            direction = optax.partition({"muon": muon, "adam": direction}, jax.tree.map(_group, axes, is_leaf=_is_axes))
        return optax.chain(
            optax.clip_by_global_norm(self.clip_norm),
            direction,
            optax.add_decayed_weights(self.weight_decay, jax.tree.map(_is_matrix, axes, is_leaf=_is_axes)),
            optax.scale_by_learning_rate(self.schedule(steps)),
        )


def axes_of(params: nnx.State) -> Axes:
    """The logical axis names of every parameter, in the structure that `nnx.to_pure_dict` gives `params`."""
    named = jax.tree.map(
        lambda variable: variable.replace(logical_axes(variable)),
        params,
        is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
    )
    return nnx.to_pure_dict(named)


def _is_axes(leaf: object) -> bool:
    return isinstance(leaf, tuple)


def _is_matrix(axes: tuple[str, ...]) -> bool:
    """Norm scales and biases are vectors, also when stacked over layers."""
    return "norm" not in axes


def _group(axes: tuple[str, ...]) -> Literal["muon", "adam"]:
    """Muon takes the blocks' matrices; tables, the head and vectors are Adam's."""
    return "muon" if axes[0] == "layers" and _is_matrix(axes) else "adam"


def _muon_dimensions(axes: tuple[str, ...]) -> optax.contrib.MuonDimensionNumbers | optax.MaskedNode:
    """Which axes a block's matrix contracts and which it makes."""
    if _group(axes) != "muon":
        return optax.MaskedNode()
    split = 2 if axes[1] == "width" else len(axes) - 1
    return optax.contrib.MuonDimensionNumbers(tuple(range(1, split)), tuple(range(split, len(axes))))
