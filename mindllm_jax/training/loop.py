"""The training loop, for pre-training and tuning alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from rich.console import Console

from mindllm_jax.checks import require_at_least, require_seed
from mindllm_jax.data.batches import GlobalBatches, Rows
from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.parallel.startup import layout
from mindllm_jax.training.checkpoint import Checkpointing, Checkpoints
from mindllm_jax.training.cost import Cost, run_cost
from mindllm_jax.training.interrupt import StopSignal
from mindllm_jax.training.metrics import MetricsWriter
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.step import (
    Blueprint,
    Metrics,
    Params,
    TrainState,
    blueprint,
    initial_params,
    initial_state,
    make_step,
    state_shardings,
)


@dataclass(frozen=True)
class Loop:
    """How long a run is, how large its steps are, and what happens once in a while."""

    steps: int = 1000
    batch_rows: int = 8  # rows of one step over all devices
    accumulation: int = 1  # micro-batches of one step
    z_loss: float = 0.0  # weight of the squared log-normalizer (PaLM, section 5)
    log_every: int = 10
    evaluate_every: int = 200
    max_skipped: int = 20  # steps without a finite loss after which the run stops
    compiler_options: dict[str, bool | int | str] = field(default_factory=dict)  # XLA's: see configs/hardware
    profile_steps: tuple[int, int] | None = None  # first and last step of a profiler trace
    seed: int = 0  # of the initial parameters

    def __post_init__(self) -> None:
        require_at_least(self, 1, "steps", "batch_rows", "accumulation", "log_every", "evaluate_every")
        require_at_least(self, 0, "z_loss", "max_skipped")
        require_seed(self, "seed")
        if self.batch_rows % self.accumulation:
            raise ValueError(
                f"Loop.batch_rows = {self.batch_rows} is not a multiple of accumulation {self.accumulation}"
            )


class Every(NamedTuple):
    """Calls `measure(decoder)` after every `steps` steps and at the end; what it returns is logged."""

    steps: int
    measure: Callable[[Decoder], Mapping[str, float]]


class Plan(NamedTuple):
    """A run on abstract shapes: everything but the values."""

    model: Model
    loop: Loop
    optimizer: Optimizer
    blueprint: Blueprint
    abstract: TrainState
    cost: Cost

    def transformation(self) -> optax.GradientTransformation:
        """The optimizer's update."""
        return self.optimizer.build(self.loop.steps, self.blueprint.axes)

    def step(self) -> Any:
        """The training step under jit; see `make_step`."""
        return make_step(
            self.blueprint,
            self.transformation(),
            accumulation=self.loop.accumulation,
            z_loss=self.loop.z_loss,
            compiler_options=self.loop.compiler_options,
        )


def plan(
    model: Model,
    loop: Loop,
    optimizer: Optimizer,
    mesh: MeshAxes,
    length: int,
    devices: Sequence[Any] | None = None,
) -> Plan:
    """Builds the run on abstract shapes for rows of `length` tokens; allocates and compiles nothing.

    devices: all that are here by default; or described ones, to compile for hardware that is not here.

    Raises ValueError where model, rows, batch and mesh do not fit together.
    """
    sharding = Sharding(mesh.build(devices))
    shares = sharding.shards("batch")
    if loop.batch_rows // loop.accumulation % shares:
        raise ValueError(
            f"Loop.batch_rows = {loop.batch_rows} in {loop.accumulation} micro-batches cannot be split over "
            f"{shares} devices (slices x data x fsdp): take a multiple of {loop.accumulation * shares}"
        )
    if length % (2 * sharding.shards("length")) and sharding.shards("length") > 1:
        raise ValueError(
            f"rows of {length} tokens cannot be split into two chunks for each of MeshAxes.context = "
            f"{sharding.shards('length')} devices: take a multiple of {2 * sharding.shards('length')}"
        )
    if length > model.max_length:
        raise ValueError(
            f"rows of {length} tokens are longer than Model.max_length = {model.max_length}: raise one of them"
        )
    drawing = blueprint(model, sharding)
    transformation = optimizer.build(loop.steps, drawing.axes)
    shardings = state_shardings(drawing, transformation)
    shapes = jax.eval_shape(lambda p: initial_state(p, drawing, transformation), nnx.to_pure_dict(drawing.abstract))
    abstract = jax.tree.map(lambda s, at: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=at), shapes, shardings)
    cost = run_cost(
        model,
        abstract.params,
        abstract.optimizer,
        rows=loop.batch_rows,
        length=length,
        accumulation=loop.accumulation,
        steps=loop.steps,
        mesh=sharding.mesh,
    )
    return Plan(model, loop, optimizer, drawing, abstract, cost)


def train(
    plan: Plan,
    rows: Rows,
    workdir: Path,
    checkpointing: Checkpointing,
    identity: dict[str, Any],
    *,
    every: Iterable[Every] = (),
    start: Callable[[], Params] | None = None,
) -> TrainState:
    """Trains until the last step, from the newest checkpoint in `workdir` if there is one.

    rows: where batches come from; step s reads rows s * batch_rows and on. identity: stored with every checkpoint and
    held against it on resume. start: gives the parameters of a new run (fresh ones by default). Returns the last state;
    raises KeyboardInterrupt after a requested stop, with everything saved.
    """
    loop, drawing, every = plan.loop, plan.blueprint, list(every)
    console = Console(quiet=jax.process_index() != 0, highlight=False)
    say = console.print

    # ------------------------------------------------------------------ build
    schedule = plan.optimizer.schedule(loop.steps)
    step_fn = plan.step()
    say(layout(drawing.sharding.mesh))
    say(plan.cost.table().terminal())
    if warning := plan.cost.warning():
        say(f"[bold yellow]warning[/]: {warning}")

    with Checkpoints(workdir, checkpointing, identity) as checkpoints, StopSignal() as stop:
        # ------------------------------------------------------------ restore
        state = checkpoints.restore(plan.abstract)
        if state is None:
            params = start() if start else initial_params(plan.model, drawing, loop.seed)
            state = initial_state(params, drawing, plan.transformation())
        step = int(state.step)
        if step >= loop.steps:
            say(f"all {loop.steps} steps are done; nothing to do")
            return state
        if step:
            say(f"resuming after step {step} of {loop.steps}")

        # --------------------------------------------------------------- loop
        sharding = drawing.sharding.named("batch", "length")
        with (
            GlobalBatches(rows, loop.batch_rows, sharding, start_step=step) as batches,
            MetricsWriter(workdir, step, active=jax.process_index() == 0) as writer,
        ):
            since, timed_from, last = time.perf_counter(), step, False
            for _, batch in batches:
                if loop.profile_steps and step + 1 == loop.profile_steps[0]:
                    jax.profiler.start_trace(str(workdir / "profile"))
                with jax.transfer_guard("disallow"):
                    state, metrics = step_fn(state, batch)
                step += 1
                last = step == loop.steps

                # -------------------------------------- once in a while: log
                if step % loop.log_every == 0 or last:
                    values = _read(metrics)
                    rate = (step - timed_from) * plan.cost.tokens_per_step / (time.perf_counter() - since)
                    values |= {"learning_rate": jnp.asarray(schedule(step - 1 - int(values["skipped"]))).item()}
                    values |= {"tokens_per_second": rate, "tokens": float(step * plan.cost.tokens_per_step)}
                    if (mfu := plan.cost.utilization(rate)) is not None:
                        values["mfu"] = mfu
                    writer.write(step, values)
                    say(_line(step, loop.steps, values))
                    _stop_if_diverged(values, loop)
                    since, timed_from = time.perf_counter(), step

                # --------------------------------- once in a while: evaluate
                for event in every:
                    if step % event.steps == 0 or last:
                        results = event.measure(drawing.decoder(state.params))
                        writer.write(step, results)
                        say(f"step {step:>6}  " + "  ".join(f"{name} {value:.4f}" for name, value in results.items()))
                        since, timed_from = time.perf_counter(), step

                # ------------------------------------- once in a while: save
                if loop.profile_steps and step == loop.profile_steps[1]:
                    jax.block_until_ready(state.params)
                    jax.profiler.stop_trace()
                ending = stop.at(step) or last
                if step % checkpointing.every_steps == 0 or ending:
                    checkpoints.save(state, step)
                if ending:
                    break
        checkpoints.wait()
    if not last:
        raise KeyboardInterrupt
    return state


def _read(metrics: Metrics) -> dict[str, float]:
    return {name: value.item() for name, value in jax.device_get(metrics)._asdict().items() if name != "tokens"}


def _line(step: int, steps: int, values: Mapping[str, float]) -> str:
    left = (steps - step) * values["tokens"] / step / values["tokens_per_second"]
    mfu = f"  mfu {values['mfu']:.1%}" if "mfu" in values else ""
    skipped = f"  skipped {values['skipped']:.0f}" if values["skipped"] else ""
    return (
        f"step {step:>6}/{steps}  loss {values['loss']:.4f}  lr {values['learning_rate']:.2e}  "
        f"grad {values['gradient_norm']:.2f}  {values['tokens_per_second']:,.0f} tokens/s{mfu}{skipped}  "
        f"{left // 60:.0f}:{left % 60:02.0f} left"
    )


def _stop_if_diverged(values: Mapping[str, float], loop: Loop) -> None:
    if values["skipped"] > loop.max_skipped:
        raise ValueError(
            f"{values['skipped']:.0f} steps had no finite loss or gradient (Loop.max_skipped = {loop.max_skipped}): "
            "lower Optimizer.peak_learning_rate or look at the data; the last checkpoint is from before"
        )
