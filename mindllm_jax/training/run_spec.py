"""The settings and abstract shapes of a run: everything but its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from mindllm_jax.checks import require_at_least, require_seed
from mindllm_jax.model.config import Model
from mindllm_jax.model.lora import Lora
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import RULES, Sharding, mesh_settings
from mindllm_jax.rows import Batch
from mindllm_jax.training.cost import Cost, run_cost
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.state import AbstractModel, TrainState, abstract_model, initial_state, state_shardings
from mindllm_jax.training.step import make_step


@dataclass(frozen=True)
class Loop:
    """The length of a run, the size of its steps, and the intervals of logs and evaluations."""

    steps: int = 1000  # updates in total, with those before a resume
    global_batch_size: int = 8  # rows of a step over all devices
    grad_accum_steps: int = 1  # micro-batches of a step
    z_loss: float = 0.0  # weight of the squared log-normalizer (PaLM, section 5)
    log_every: int = 10  # steps between lines of the log and metrics.jsonl
    evaluate_every: int = 200  # steps between evaluations on held-out text
    max_skipped: int = 20  # more steps in a row without a finite loss end the run, at a log line or checkpoint
    compiler_options: dict[str, bool | int | str] = field(default_factory=dict)  # XLA's: see configs/hardware
    profile_steps: tuple[int, int] | None = None  # first and last step of a profiler trace, both included
    seed: int = 0  # of the initial parameters

    def __post_init__(self) -> None:
        require_at_least(self, 1, "steps", "global_batch_size", "grad_accum_steps", "log_every", "evaluate_every")
        require_at_least(self, 0, "z_loss", "max_skipped")
        require_seed(self, "seed")
        if self.profile_steps and not 1 <= self.profile_steps[0] <= self.profile_steps[1] <= self.steps:
            raise ValueError(
                f"Loop.profile_steps = {self.profile_steps}: must be the first and the last step of a range within "
                f"1 to Loop.steps = {self.steps}"
            )
        if self.global_batch_size % self.grad_accum_steps:
            raise ValueError(
                f"Loop.global_batch_size = {self.global_batch_size} is not a multiple of "
                f"Loop.grad_accum_steps = {self.grad_accum_steps}"
            )


class RunSpec(NamedTuple):
    """The settings of a run, its model and state on abstract shapes, and its cost."""

    model: Model
    loop: Loop
    optimizer: Optimizer
    length: int  # T, the tokens of a row
    abstract_model: AbstractModel
    abstract_state: TrainState
    cost: Cost
    embedding_noise: float = 0.0  # see `make_step`

    def transformation(self) -> optax.GradientTransformation:
        """Builds the optimizer for this run."""
        return self.optimizer.build(self.loop.steps, self.abstract_model.roles)

    def compiled_step(self) -> Any:
        """Compiles the training step (see `make_step`) for the run's shapes."""
        step = make_step(
            self.abstract_model,
            self.transformation(),
            grad_accum_steps=self.loop.grad_accum_steps,
            z_loss=self.loop.z_loss,
            embedding_noise=self.embedding_noise,
            noise_seed=self.loop.seed,
            compiler_options=self.loop.compiler_options,
        )
        rows, shape = self.abstract_model.sharding.named("batch", "length"), (self.loop.global_batch_size, self.length)
        ids, weights = (jax.ShapeDtypeStruct(shape, dtype, sharding=rows) for dtype in (jnp.int32, jnp.float32))
        batch: Any = Batch._make((ids, ids, weights, ids, ids))
        return step.lower(self.abstract_state, batch).compile()


def require_length(model: Model, length: int) -> None:
    """Raises ValueError where rows of `length` tokens are longer than the model's positions."""
    if length > model.max_seq_len:
        raise ValueError(
            f"rows of {length} tokens are longer than Model.max_seq_len = {model.max_seq_len}: raise it or shorten them"
        )


def run_spec(
    model: Model,
    loop: Loop,
    optimizer: Optimizer,
    mesh: MeshAxes,
    length: int,
    devices: Sequence[Any] | None = None,
    *,
    lora: Lora | None = None,
    embedding_noise: float = 0.0,
) -> RunSpec:
    """Builds the run on abstract shapes for rows of `length` tokens; allocates and compiles nothing.

    devices: by default those of all processes; or those of a topology, for AOT compilation. lora: the adapters, where
    they alone are trained. embedding_noise: as in `make_step`.

    Raises ValueError where model, rows, batch and mesh do not fit together.
    """
    sharding = Sharding(mesh.build(devices))
    shares = sharding.shards("batch")
    if loop.global_batch_size // loop.grad_accum_steps % shares:
        raise ValueError(
            f"Loop.global_batch_size = {loop.global_batch_size} in {loop.grad_accum_steps} micro-batches cannot be "
            f"split over {shares} devices ({' x '.join(RULES['batch'])}): take a multiple of "
            f"{loop.grad_accum_steps * shares}"
        )
    chunks = 2 * sharding.shards("length")
    if length % chunks and chunks > 2:
        raise ValueError(
            f"rows of {length} tokens cannot be split into two chunks for each of "
            f"{' x '.join(mesh_settings('length'))} = {chunks // 2} devices: take a multiple of {chunks}"
        )
    require_length(model, length)
    abstract = abstract_model(model, sharding, lora)
    transformation = optimizer.build(loop.steps, abstract.roles)
    shardings = state_shardings(abstract, transformation)
    params, frozen = nnx.to_pure_dict(abstract.params), nnx.to_pure_dict(abstract.frozen)
    shapes = jax.eval_shape(lambda p, f: initial_state(p, abstract, transformation, f), params, frozen)
    state = jax.tree.map(lambda s, at: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=at), shapes, shardings)
    cost = run_cost(
        model,
        state.params,
        state.opt_state,
        state.frozen,
        rows=loop.global_batch_size,
        length=length,
        grad_accum_steps=loop.grad_accum_steps,
        steps=loop.steps,
        mesh=sharding.mesh,
    )
    return RunSpec(model, loop, optimizer, length, abstract, state, cost, embedding_noise)
