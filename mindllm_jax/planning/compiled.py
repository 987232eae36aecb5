"""AOT compilation of a run's training step for the devices of a topology."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from mindllm_jax.hardware.peak_rates import Chip
from mindllm_jax.planning import hlo
from mindllm_jax.planning.candidates import Candidate
from mindllm_jax.planning.links import Grid
from mindllm_jax.planning.roofline import StepTime, step_time
from mindllm_jax.training.memory import matmul_flops
from mindllm_jax.training.pretrain import Pretrain
from mindllm_jax.training.run_spec import run_spec


class Compiled(NamedTuple):
    """A compiled step with its memory on each device."""

    state: float  # bytes of parameters, opt_state and batch
    temporary: float  # bytes of everything else that lives during the step
    program: hlo.Program
    text: str  # the optimised HLO
    seconds: float  # of the compilation


def with_candidate(run: Pretrain, candidate: Candidate) -> Pretrain:
    """Returns the run with a candidate's settings."""
    return dataclasses.replace(
        run,
        model=dataclasses.replace(run.model, remat=candidate.remat),
        loop=dataclasses.replace(run.loop, grad_accum_steps=candidate.grad_accum_steps),
        mesh=candidate.mesh,
    )


def compile_step(run: Pretrain, devices: Sequence[Any]) -> Compiled:
    """Compiles the step of a run for `devices`. Raises jax.errors.JaxRuntimeError when out of memory."""
    started = time.perf_counter()
    spec = run_spec(run.model, run.loop, run.optimizer, run.mesh, run.data.sequence_length, devices)
    compiled = spec.compiled_step()
    memory, text = compiled.memory_analysis(), compiled.as_text() or ""
    # The new state takes the place of the old one.
    state = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    temporary = memory.temp_size_in_bytes
    return Compiled(state, temporary, hlo.read(text), text, time.perf_counter() - started)


def predicted_time(run: Pretrain, compiled: Compiled, devices: Sequence[Any], chip: Chip) -> StepTime:
    """Returns the roofline time of a compiled step."""
    grid = Grid.of(list(run.mesh.build(devices).devices.flat), chip)
    tokens = run.loop.global_batch_size * run.data.sequence_length
    flops = matmul_flops(run.model, tokens, run.data.sequence_length) / len(devices)
    return step_time(flops, compiled.program.memory_traffic, compiled.program.collectives, grid, chip)
