"""The training loop, for pre-training and tuning alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from rich.text import Text

from mindllm_jax.batching.global_batches import GlobalBatches, Loader
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.startup import layout
from mindllm_jax.parallel.together import from_first, together
from mindllm_jax.reporting.units import metric_text
from mindllm_jax.rows import TrainingRows
from mindllm_jax.training.checkpoint import Checkpointing, Checkpoints, Restored
from mindllm_jax.training.console import RunConsole
from mindllm_jax.training.interrupt import StopSignal
from mindllm_jax.training.metrics import MetricsWriter, evaluated_steps
from mindllm_jax.training.position import Position, fingerprint, require_planned_length, require_same_past
from mindllm_jax.training.profiling import ProfileWindow
from mindllm_jax.training.run_spec import Loop, RunSpec
from mindllm_jax.training.state import Params, TrainState, initial_params, initial_state
from mindllm_jax.training.step import Metrics
from mindllm_jax.training.throughput import Throughput


class Diverged(ValueError):
    """More steps in a row than `Loop.max_skipped` had no finite loss or gradient."""


class Periodic(NamedTuple):
    """Calls `measure(decoder)` after every `steps` steps and at the end; what it returns is logged."""

    steps: int
    measure: Callable[[Decoder], Mapping[str, float]]
    before: bool = False  # also before the first step

    def is_due(self, step: int, last: int) -> bool:
        """Returns whether it measures after this step of a run that ends with the step `last`; step 0 is its start."""
        return self.before if step == 0 else step % self.steps == 0 or step == last


def train(
    spec: RunSpec,
    rows: TrainingRows,
    workdir: Path,
    checkpointing: Checkpointing,
    identity: dict[str, Any],
    *,
    loader: Loader,
    periodic: Iterable[Periodic] = (),
    start: Callable[[], Params] | None = None,
    frozen: Callable[[], Params] | None = None,
    accept: Callable[[], None] = lambda: None,
) -> TrainState:
    """Trains until the last step, from the latest checkpoint in `workdir` if there is one.

    Args:
        spec: the settings and shapes of the run.
        rows: the rows of the batches, read in order.
        workdir: the folder of the run.
        checkpointing: when checkpoints are written.
        identity: stored with every checkpoint and compared with it on resume.
        loader: how batches are read ahead.
        periodic: measurements between steps.
        start: returns the parameters of a new run; fresh ones by default.
        frozen: returns the frozen parameters of a run that trains adapters.
        accept: called after the checks against the workdir, before anything is written to it.

    Returns the last state. Raises KeyboardInterrupt after a requested stop, with everything saved; OSError when metrics
    or stdout cannot be written, with everything saved; ValueError when the run does not fit its latest checkpoint or
    diverges.
    """
    loop, model, periodic = spec.loop, spec.abstract_model, list(periodic)
    leader = jax.process_index() == 0
    log = RunConsole(active=leader)

    # ------------------------------------------------------------------ build
    schedule = spec.optimizer.schedule(loop.steps)
    dtype = spec.model.dtype.name
    identity = identity | {"compute_dtype": dtype}  # the settings may leave it to the machine
    log(layout(model.sharding.mesh))
    log(spec.cost.table().terminal())
    if warning := spec.cost.warning():
        log(Text.assemble(("warning", "bold yellow"), f": {warning}"))

    with Checkpoints(workdir, checkpointing, identity) as checkpoints, StopSignal() as stop:
        # ------------------------------------------------------------ restore
        restored = checkpoints.restore(spec.abstract_state)
        if restored:
            _require_same_run(restored, rows, identity, loop)
            state, position = restored.state, restored.position
        else:
            params = start() if start else initial_params(spec.model, model, loop.seed)
            state, position = initial_state(params, model, spec.transformation()), Position()
        state = state._replace(frozen=frozen() if frozen else {})
        step = int(state.step)
        saved = step  # 0 without a checkpoint
        # Figures of a run that ended before its first checkpoint may be of another base or other data.
        done = together(lambda: evaluated_steps(workdir) if leader and restored else set[int]())
        owed = from_first(str(step not in done)) == "True"  # a new run, or one that ended before it was evaluated
        measuring = [event for event in periodic if owed and event.is_due(step, loop.steps)]
        if step == loop.steps and not measuring:
            log(f"all {loop.steps} steps are done; nothing to do")
            return state
        if restored:
            before = restored.identity.get("compute_dtype", dtype)
            other = f", in {dtype} from now on, in {before} before" if before != dtype else ""
            log(f"resuming after step {step} of {loop.steps}{other}")
        step_fn: Any = spec.compiled_step() if step < loop.steps else None
        checkpoints.start()  # removes what an interrupted save left: on a full disk accept could write nothing
        together(accept)

        # --------------------------------------------------------------- loop
        sharding = model.sharding.named("batch", "length")
        with (
            GlobalBatches(rows, loop.global_batch_size, sharding, first_row=position.rows, loader=loader) as batches,
            together(lambda: MetricsWriter(workdir, step if restored else -1, active=leader)) as writer,
            ProfileWindow(loop.profile_steps, workdir / "profile") as profile,
        ):

            def evaluate(events: list[Periodic]) -> bool:
                """Returns False where a stop was requested before the last one: the resumed run then does them all."""
                results: dict[str, float] = {}
                for event in events:
                    if saved == step and stop.at(step):
                        return False
                    measured = event.measure(model.decoder(state.params, state.frozen))
                    log(f"step {step:>6}  " + "  ".join(metric_text(*result) for result in measured.items()))
                    results |= measured
                if results:  # as one line: a run that ends between two measurements owes both
                    writer.write(step, results)
                return True

            stopping = not evaluate(measuring)
            throughput, last = Throughput(), step == loop.steps
            for batch in batches if not (stopping or last) else ():
                profile.before(step + 1)
                with jax.transfer_guard("disallow"):
                    state, metrics = step_fn(state, batch)
                step += 1
                position = position.at(batches.get_state()["next_index"], rows.sequence_length)
                throughput.step()
                profile.after(step, state.step)
                last = step == loop.steps
                stopping = stop.at(step) and not last
                measuring = [event for event in periodic if event.is_due(step, loop.steps)]
                saving = step % checkpointing.every_steps == 0 or measuring or stopping or last
                logging = step % loop.log_every == 0 or last
                if not (logging or saving):
                    continue

                # ---------------------------------- log, save, evaluate
                jax.block_until_ready(state)
                with throughput.paused():
                    values = _read(metrics)
                    skipped_in_a_row = int(values["skipped_in_a_row"])
                    diverged = skipped_in_a_row > loop.max_skipped
                    if logging or diverged:
                        rate = throughput.rate() * spec.cost.tokens_per_step
                        values |= {"learning_rate": jnp.asarray(schedule(step - 1 - int(values["skipped"]))).item()}
                        values |= {"tokens_per_second": rate, "tokens": float(position.tokens)}
                        if (mfu := spec.cost.utilization(rate)) is not None:
                            values["mfu"] = mfu
                        log(_line(step, loop.steps, spec.cost.tokens_per_step, values))
                        writer.write(step, values)
                        if writer.failure or log.failure:
                            stop.request()
                    if diverged:
                        raise Diverged(_divergence(skipped_in_a_row, saved, loop))
                    if saving and skipped_in_a_row:  # a run that diverges keeps the checkpoints from before
                        saving = stopping or last
                        log(_skipped_warning(step, skipped_in_a_row, saved=saving))
                    if saving:  # before evaluating, whose failure then costs no step
                        checkpoints.save(state, position, fingerprint(rows, position.rows))
                        saved = step
                    # After a signal the grace period is short: the run evaluates when it resumes.
                    stopping = stopping or not evaluate(measuring)
                if stopping or last:
                    break
        checkpoints.wait()
    if failure := writer.failure or log.failure:
        raise failure
    if stopping:
        raise KeyboardInterrupt
    return state


def _read(metrics: Metrics) -> dict[str, float]:
    return {name: value.item() for name, value in jax.device_get(metrics)._asdict().items()}


def _require_same_run(restored: Restored, rows: TrainingRows, identity: dict[str, Any], loop: Loop) -> None:
    """Raises ValueError where the run cannot read on, or has no step left to do under a smaller Loop.steps."""
    step, where = int(restored.state.step), str(restored.folder)
    if step > loop.steps:
        raise ValueError(f"{where}: the run has done {step} steps, more than Loop.steps = {loop.steps}: raise it")
    require_same_past(rows, restored.position, restored.identity, identity, where)
    require_planned_length(rows, restored.position, (loop.steps - step) * loop.global_batch_size, where)


def _line(step: int, steps: int, tokens_per_step: int, values: Mapping[str, float]) -> str:
    left = (steps - step) * tokens_per_step / values["tokens_per_second"]
    mfu = f"  mfu {values['mfu']:.1%}" if "mfu" in values else ""
    skipped = f"  skipped {values['skipped']:.0f}" if values["skipped"] else ""
    return (
        f"step {step:>6}/{steps}  loss {values['loss']:.4f}  lr {values['learning_rate']:.2e}  "
        f"grad {values['gradient_norm']:.2f}  {values['tokens_per_second']:,.0f} tokens/s{mfu}{skipped}  "
        f"{left // 60:.0f}:{left % 60:02.0f} left"
    )


def _skipped_warning(step: int, skipped_in_a_row: int, *, saved: bool) -> Text:
    done = "saved" if saved else "not saved"
    steps = "it" if skipped_in_a_row == 1 else f"its last {skipped_in_a_row} steps"
    what = f"step {step} is {done}: {steps} had no finite loss or gradient and changed nothing"
    return Text.assemble(("warning", "bold yellow"), f": {what}")


def _divergence(skipped_in_a_row: int, saved: int, loop: Loop) -> str:
    """Returns what a run that diverged says. saved: the step of the latest checkpoint, 0 without one."""
    restart = f"resumes after step {saved}" if saved else "starts over, as it has no checkpoint"
    return (
        f"{skipped_in_a_row} steps in a row had no finite loss or gradient (Loop.max_skipped = {loop.max_skipped}):"
        " lower Optimizer.peak_learning_rate, with --accept_changes, or look at the data. The same command"
        f" {restart}"
    )
