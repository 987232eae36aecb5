"""The training loop, for pre-training and tuning alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from mindllm_jax.checks import require_at_least, require_seed
from mindllm_jax.data.batches import GlobalBatches
from mindllm_jax.data.rows import Batch, TrainingRows
from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.parallel.startup import layout
from mindllm_jax.parallel.together import from_first, together
from mindllm_jax.training.checkpoint import Checkpointing, Checkpoints, Restored
from mindllm_jax.training.console import RunConsole
from mindllm_jax.training.cost import Cost, run_cost
from mindllm_jax.training.interrupt import StopSignal
from mindllm_jax.training.metrics import MetricsWriter, evaluated_steps
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.position import Position, fingerprint, require_planned_length, require_same_past
from mindllm_jax.training.profiling import ProfileWindow
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
from mindllm_jax.training.throughput import Throughput


@dataclass(frozen=True)
class Loop:
    """How long a run is, how large its steps are, and what happens once in a while."""

    steps: int = 1000
    batch_rows: int = 8  # rows of one step over all devices
    accumulation: int = 1  # micro-batches of one step
    z_loss: float = 0.0  # weight of the squared log-normalizer (PaLM, section 5)
    log_every: int = 10
    evaluate_every: int = 200
    max_skipped: int = 20  # steps in a row without a finite loss after which the run stops
    compiler_options: dict[str, bool | int | str] = field(default_factory=dict)  # XLA's: see configs/hardware
    profile_steps: tuple[int, int] | None = None  # first and last step of a profiler trace, both included
    seed: int = 0  # of the initial parameters

    def __post_init__(self) -> None:
        require_at_least(self, 1, "steps", "batch_rows", "accumulation", "log_every", "evaluate_every")
        require_at_least(self, 0, "z_loss", "max_skipped")
        require_seed(self, "seed")
        if self.profile_steps and not 1 <= self.profile_steps[0] <= self.profile_steps[1] <= self.steps:
            raise ValueError(
                f"Loop.profile_steps = {self.profile_steps}: must be the first and the last step of a range inside of "
                f"1 to Loop.steps = {self.steps}"
            )
        if self.batch_rows % self.accumulation:
            raise ValueError(
                f"Loop.batch_rows = {self.batch_rows} is not a multiple of accumulation {self.accumulation}"
            )


class Every(NamedTuple):
    """Calls `measure(decoder)` after every `steps` steps and at the end; what it returns is logged."""

    steps: int
    measure: Callable[[Decoder], Mapping[str, float]]

    def is_due(self, step: int, last: int) -> bool:
        """Returns whether it measures after this step of a run that ends with the step `last`."""
        return step % self.steps == 0 or step == last


class Plan(NamedTuple):
    """A run on abstract shapes: everything but the values."""

    model: Model
    loop: Loop
    optimizer: Optimizer
    length: int  # T, the tokens of a row
    blueprint: Blueprint
    abstract: TrainState
    cost: Cost

    def transformation(self) -> optax.GradientTransformation:
        """The optimizer's update."""
        return self.optimizer.build(self.loop.steps, self.blueprint.axes)

    def compiled_step(self) -> Any:
        """Compiles the training step (see `make_step`) from the run's shapes."""
        step = make_step(
            self.blueprint,
            self.transformation(),
            accumulation=self.loop.accumulation,
            z_loss=self.loop.z_loss,
            compiler_options=self.loop.compiler_options,
        )
        rows, shape = self.blueprint.sharding.named("batch", "length"), (self.loop.batch_rows, self.length)
        ids, weights = (jax.ShapeDtypeStruct(shape, dtype, sharding=rows) for dtype in (jnp.int32, jnp.float32))
        batch: Any = Batch._make((ids, ids, weights, ids, ids))
        return step.lower(self.abstract, batch).compile()


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
    return Plan(model, loop, optimizer, length, drawing, abstract, cost)


def train(
    plan: Plan,
    rows: TrainingRows,
    workdir: Path,
    checkpointing: Checkpointing,
    identity: dict[str, Any],
    *,
    every: Iterable[Every] = (),
    start: Callable[[], Params] | None = None,
    accept: Callable[[], None] = lambda: None,
) -> TrainState:
    """Trains until the last step, from the latest checkpoint in `workdir` if there is one.

    rows: where batches come from, read in order. identity: stored with every checkpoint and compared with it on resume.
    start: gives the parameters of a new run (fresh ones by default). accept: called once the run was found to fit what
    is in the workdir, before anything is written there.

    Returns the last state. Raises KeyboardInterrupt after a requested stop, with everything saved; OSError when metrics
    or stdout cannot be written, with everything saved; ValueError when the run does not fit its latest checkpoint or
    diverges.
    """
    loop, drawing, every = plan.loop, plan.blueprint, list(every)
    leader = jax.process_index() == 0
    say = RunConsole(active=leader)

    # ------------------------------------------------------------------ build
    schedule = plan.optimizer.schedule(loop.steps)
    dtype = plan.model.dtype.name
    identity = identity | {"compute_dtype": dtype}  # which the settings may leave to the machine
    say(layout(drawing.sharding.mesh))
    say(plan.cost.table().terminal())
    if warning := plan.cost.warning():
        say(f"[bold yellow]warning[/]: {warning}")

    with Checkpoints(workdir, checkpointing, identity) as checkpoints, StopSignal() as stop:
        # ------------------------------------------------------------ restore
        restored = checkpoints.restore(plan.abstract)
        if restored:
            _require_same_run(restored, rows, identity, loop)
            state, position = restored.state, restored.position
        else:
            params = start() if start else initial_params(plan.model, drawing, loop.seed)
            state, position = initial_state(params, drawing, plan.transformation()), Position()
        step = int(state.step)
        done = together(lambda: evaluated_steps(workdir) if leader else set[int]())
        owed = bool(step) and from_first(str(step not in done)) == "True"  # the run ended before it was evaluated
        measuring = [event for event in every if owed and event.is_due(step, loop.steps)]
        if step == loop.steps and not measuring:
            say(f"all {loop.steps} steps are done; nothing to do")
            return state
        if restored:
            before = restored.identity.get("compute_dtype", dtype)
            other = f", in {dtype} from now on, in {before} before" if before != dtype else ""
            say(f"resuming after step {step} of {loop.steps}{other}")
        step_fn = plan.compiled_step()
        together(accept)
        checkpoints.start()

        # --------------------------------------------------------------- loop
        sharding = drawing.sharding.named("batch", "length")
        with (
            GlobalBatches(rows, loop.batch_rows, sharding, first_row=position.rows) as batches,
            together(lambda: MetricsWriter(workdir, step, active=leader)) as writer,
            ProfileWindow(loop.profile_steps, workdir / "profile") as profile,
        ):

            def evaluate(events: list[Every]) -> None:
                for event in events:
                    results = event.measure(drawing.decoder(state.params))
                    say(f"step {step:>6}  " + "  ".join(f"{name} {value:.4f}" for name, value in results.items()))
                    writer.write(step, results)

            evaluate(measuring)
            throughput, last = Throughput(), step == loop.steps
            for _, batch in batches if not last else ():
                profile.before(step + 1)
                with jax.transfer_guard("disallow"):
                    state, metrics = step_fn(state, batch)
                step, position = step + 1, position.after(loop.batch_rows, rows.sequence_length)
                throughput.step()
                profile.after(step, state.step)
                last = step == loop.steps
                stopping = stop.at(step) and not last
                # After a signal the grace period is short: the run evaluates when it resumes.
                measuring = [] if stopping else [event for event in every if event.is_due(step, loop.steps)]
                saving = step % checkpointing.every_steps == 0 or measuring or stopping or last
                logging = step % loop.log_every == 0 or last
                if not (logging or saving):
                    continue

                # ------------------------------------------ once in a while
                jax.block_until_ready(state)
                with throughput.paused():
                    if logging:
                        values = _read(metrics)
                        rate = throughput.rate() * plan.cost.tokens_per_step
                        values |= {"learning_rate": jnp.asarray(schedule(step - 1 - int(values["skipped"]))).item()}
                        values |= {"tokens_per_second": rate, "tokens": float(position.tokens)}
                        if (mfu := plan.cost.utilization(rate)) is not None:
                            values["mfu"] = mfu
                        say(_line(step, loop.steps, plan.cost.tokens_per_step, values))
                        writer.write(step, values)
                        if writer.failure or say.failure:
                            stop.request()
                        _stop_if_diverged(values, loop)
                    if saving:  # before evaluating: what fails there costs no step
                        checkpoints.save(state, position, fingerprint(rows, position.rows))
                    evaluate(measuring)
                if stopping or last:
                    break
        checkpoints.wait()
    if failure := writer.failure or say.failure:
        raise failure
    if not last:
        raise KeyboardInterrupt
    return state


def _read(metrics: Metrics) -> dict[str, float]:
    return {name: value.item() for name, value in jax.device_get(metrics)._asdict().items() if name != "tokens"}


def _require_same_run(restored: Restored, rows: TrainingRows, identity: dict[str, Any], loop: Loop) -> None:
    """Raises ValueError where the run cannot read on, or has no step left to do under a smaller Loop.steps."""
    step, where = int(restored.state.step), str(restored.folder)
    if step > loop.steps:
        raise ValueError(f"{where}: the run has done {step} steps, more than Loop.steps = {loop.steps}: raise it")
    require_same_past(rows, restored.position, restored.identity, identity, where)
    require_planned_length(rows, restored.position, (loop.steps - step) * loop.batch_rows, where)


def _line(step: int, steps: int, tokens_per_step: int, values: Mapping[str, float]) -> str:
    left = (steps - step) * tokens_per_step / values["tokens_per_second"]
    mfu = f"  mfu {values['mfu']:.1%}" if "mfu" in values else ""
    skipped = f"  skipped {values['skipped']:.0f}" if values["skipped"] else ""
    return (
        f"step {step:>6}/{steps}  loss {values['loss']:.4f}  lr {values['learning_rate']:.2e}  "
        f"grad {values['gradient_norm']:.2f}  {values['tokens_per_second']:,.0f} tokens/s{mfu}{skipped}  "
        f"{left // 60:.0f}:{left % 60:02.0f} left"
    )


def _stop_if_diverged(values: Mapping[str, float], loop: Loop) -> None:
    if values["skipped_in_a_row"] > loop.max_skipped:
        raise ValueError(
            f"{values['skipped_in_a_row']:.0f} steps in a row had no finite loss or gradient (Loop.max_skipped = "
            f"{loop.max_skipped}): lower Optimizer.peak_learning_rate or look at the data; parameters are as they were "
            "before these steps"
        )
