"""AdamW and Muon with warm-up and cosine decay, built from optax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import optax
from flax import nnx

from mindllm_jax.checks import require_at_least
from mindllm_jax.parallel.sharding import logical_axes
from mindllm_jax.training.muon import scale_by_muon


class Role(NamedTuple):
    """The facts of a parameter that decide its update rule."""

    axes: tuple[str, ...]  # logical names; `layers` first where blocks are stacked
    decay: bool  # whether weight decay shrinks it


Roles = Any  # a tree of `Role`, in the structure of the parameters


@dataclass(frozen=True)
class Optimizer:
    """Update rule and learning rate. The paper's table was not available (docs/paper.md): these values are ours."""

    name: Literal["adamw", "muon"] = "adamw"  # muon: the blocks' matrices by Muon, the rest by AdamW
    peak_learning_rate: float = 3e-4  # after the warm-up
    warmup_steps: int = 100  # linear from peak / (warmup_steps + 1); at most half of the run
    final_fraction: float = 0.1  # of the peak, where the cosine ends
    beta1: float = 0.9  # Adam's
    beta2: float = 0.95  # Adam's
    momentum: float = 0.95  # Muon's
    epsilon: float = 1e-8  # Adam's, in the denominator
    weight_decay: float = 0.1  # not of norm scales and biases
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
        """Returns the learning rate as a function of the number of updates, for a run of `steps`.

        A run of fewer than twice the warm-up's steps warms up over its first half, so that a short trial run learns.
        """
        warmup = min(self.warmup_steps, steps // 2)
        return optax.warmup_cosine_decay_schedule(
            init_value=self.peak_learning_rate / (warmup + 1),
            peak_value=self.peak_learning_rate,
            warmup_steps=warmup,
            decay_steps=max(steps, warmup + 1),
            end_value=self.peak_learning_rate * self.final_fraction,
        )

    def build(self, steps: int, roles: Roles) -> optax.GradientTransformation:
        """Returns the gradient transformation for parameters with these roles (see `roles_of`)."""
        rule = optax.scale_by_adam(self.beta1, self.beta2, self.epsilon)
        if self.name == "muon":
            dimensions = _map(_muon_dimensions, roles)
            muon = scale_by_muon(dimensions, momentum=self.momentum, epsilon=self.epsilon)
            rule = optax.partition({"muon": muon, "adam": rule}, _map(_group, roles))
        return optax.chain(
            optax.clip_by_global_norm(self.clip_norm),
            rule,
            optax.add_decayed_weights(self.weight_decay, _map(lambda role: role.decay, roles)),
            optax.scale_by_learning_rate(self.schedule(steps)),
        )


def roles_of(params: nnx.State) -> Roles:
    """Returns the role of every parameter, in the structure of `nnx.to_pure_dict(params)`."""

    def role(variable: nnx.Variable[jax.Array]) -> nnx.Variable[Role]:
        return variable.replace(Role(logical_axes(variable), variable.get_metadata().get("decay", True)))

    named = jax.tree.map(role, params, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    return nnx.to_pure_dict(named)


def _map(function: Callable[[Role], Any], roles: Roles) -> Any:
    return jax.tree.map(function, roles, is_leaf=lambda leaf: isinstance(leaf, Role))


def _group(role: Role) -> Literal["muon", "adam"]:
    """Muon updates the blocks' matrices; Adam the tables, the head and parameters without decay, which are vectors."""
    return "muon" if role.axes[0] == "layers" and role.decay else "adam"


def _muon_dimensions(role: Role) -> optax.contrib.MuonDimensionNumbers | optax.MaskedNode:
    """Splits the axes of a block's matrix into those of its input and those of its output."""
    if _group(role) != "muon":
        return optax.MaskedNode()
    split = 2 if role.axes[1] in ("width", "rank") else len(role.axes) - 1
    return optax.contrib.MuonDimensionNumbers(tuple(range(1, split)), tuple(range(split, len(role.axes))))
