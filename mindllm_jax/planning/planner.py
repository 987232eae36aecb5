"""The planner: ranks configurations of a run for a topology by memory and step time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from mindllm_jax.checks import require_at_least
from mindllm_jax.hardware.peak_rates import USABLE, Chip, chip
from mindllm_jax.hardware.topologies import topology_devices
from mindllm_jax.planning.candidates import Candidate, candidates
from mindllm_jax.planning.compiled import Compiled, compile_step, predicted_time, with_candidate
from mindllm_jax.planning.roofline import REACHED, StepTime
from mindllm_jax.reporting.tables import Table
from mindllm_jax.training.cost import flops_per_token
from mindllm_jax.training.pretrain import Pretrain
from mindllm_jax.training.run_spec import require_length

ATTEMPTS = 6
"""Candidates compiled at most, those included that run out of memory."""


@dataclass(frozen=True)
class Planner:
    """A run to plan, its target hardware, and the prices of that."""

    run: Pretrain
    topology: str  # "v5p:4x4x4", "h100:8x8" (nodes x GPUs)
    compile: int = 2  # how many of the most promising candidates are compiled
    watts: float | None = None  # per device, with its share of the machine; None: the chip's, where it is published
    price: float | None = None  # per device-hour, in any currency

    def __post_init__(self) -> None:
        if not 0 <= self.compile <= ATTEMPTS:
            raise ValueError(f"Planner.compile = {self.compile}: must be 0 to {ATTEMPTS}")
        require_at_least(self, 0, "watts", "price")


class Estimate(NamedTuple):
    """The step time and memory of a candidate: by the compiler where it was compiled, else by arithmetic."""

    candidate: Candidate
    time: StepTime
    bytes: float  # per device
    compiled: Compiled | None


class Plan(NamedTuple):
    """The planner's result: estimates, those that fit first, of these the compiled ones first, each kind by time."""

    config: Planner
    chip: Chip
    kind: str  # the devices' name
    devices: int
    estimates: list[Estimate]

    @property
    def best(self) -> Estimate:
        """The first estimate. Raises ValueError, with the memory by part and remedies, when it does not fit."""
        if not self.fits(self.estimates[0]):
            smallest = min(self.estimates, key=lambda estimate: estimate.bytes)
            parts = ", ".join(f"{part} {size / 2**30:.1f}" for part, size in smallest.candidate.memory.items())
            raise ValueError(
                f"nothing fits: the smallest candidate needs {smallest.bytes / 2**30:.1f} GiB per device, and a "
                f"{self.kind} has {self.chip.memory / 2**30:.0f} ({smallest.candidate.name()}; GiB by part: {parts}). "
                "Take more or larger devices, fewer rows per step (Loop.global_batch_size), shorter rows or a smaller "
                "model"
            )
        return self.estimates[0]

    def fits(self, estimate: Estimate) -> bool:
        """Returns whether a device has the memory."""
        return estimate.bytes <= USABLE * self.chip.memory

    def ranking(self) -> Table:
        """Returns a table with a row per estimate."""
        columns = ("mesh", "micro-batches", "remat", "by", "GiB", "step s", "MFU", "tokens/s", "days")
        rows = [
            (
                estimate.candidate.axes(),
                estimate.candidate.grad_accum_steps,
                estimate.candidate.remat,
                "compiler" if estimate.compiled else "arithmetic",
                f"{estimate.bytes / 2**30:.1f}" + ("" if self.fits(estimate) else " too much"),
                f"{self.expected(estimate):.3f}",
                f"{self.mfu(estimate):.1%}",
                round(self.rate(estimate)),
                f"{self.hours(estimate) / 24:.1f}",
            )
            for estimate in self.estimates
        ]
        return Table(columns, rows, f"{self.config.topology}: {self.devices} x {self.kind}; predicted, not measured")

    def details(self, estimate: Estimate) -> Table:
        """Returns a table with the parts of one estimate's step and memory, and the cost of the run."""
        loop, length, time = self.config.run.loop, self.config.run.data.sequence_length, estimate.time
        device_hours = self.hours(estimate) * self.devices
        watts = self.chip.watts if self.config.watts is None else self.config.watts
        price = self.config.price
        rows = [
            ("matrix products", f"{time.matmul:.4f} s"),
            ("memory traffic, overlapped", f"{time.memory:.4f} s"),
            ("collectives, overlapped", f"{time.overlapped_comm:.4f} s"),
            *((f"{kind}, exposed", f"{seconds:.4f} s") for kind, seconds in time.exposed_comm.items() if seconds),
            ("roofline", f"{time.total:.4f} s"),
            (f"expected, at {self.reached:.0%} of the roofline", f"{self.expected(estimate):.4f} s"),
            ("tokens of the run", f"{loop.steps * loop.global_batch_size * length:,}"),
            ("device-hours", f"{device_hours:,.0f} in {self.hours(estimate) / 24:.1f} days"),
            ("energy", f"{device_hours * watts / 1e3:,.0f} kWh" if watts is not None else "set Planner.watts"),
            ("price", f"{device_hours * price:,.0f}" if price is not None else "set Planner.price"),
            *((f"arithmetic: {part}", f"{size / 2**30:.2f} GiB") for part, size in estimate.candidate.memory.items()),
        ]
        if estimate.compiled:
            rows.append(("compiler: parameters, opt_state, batch", f"{estimate.compiled.state / 2**30:.2f} GiB"))
            rows.append(("compiler: everything else", f"{estimate.compiled.temporary / 2**30:.2f} GiB"))
        return Table(("", ""), rows, estimate.candidate.name())

    @property
    def reached(self) -> float:
        """The expected share of the roofline."""
        return REACHED["tpu" if self.chip.dimensions else "gpu"]

    def expected(self, estimate: Estimate) -> float:
        """Returns the expected seconds of a step."""
        return estimate.time.total / self.reached

    def hours(self, estimate: Estimate) -> float:
        """Returns the expected hours of the run."""
        return self.config.run.loop.steps * self.expected(estimate) / 3600

    def rate(self, estimate: Estimate) -> float:
        """Returns the expected tokens per second over all devices."""
        return self.config.run.loop.global_batch_size * self.config.run.data.sequence_length / self.expected(estimate)

    def mfu(self, estimate: Estimate) -> float:
        """Returns the expected MFU, by `training.cost.flops_per_token`."""
        flops = flops_per_token(self.config.run.model, self.config.run.data.sequence_length)
        return self.rate(estimate) * flops / (self.chip.flops * self.devices)

    def settings(self, estimate: Estimate) -> str:
        """Returns the settings of an estimate as lines of a gin file."""
        mesh = "\n".join(f"MeshAxes.{axis} = {size}" for axis, size in estimate.candidate.sizes.items())
        loop = self.config.run.loop
        return (
            f"{mesh}\nLoop.global_batch_size = {loop.global_batch_size}\n"
            f"Loop.grad_accum_steps = {estimate.candidate.grad_accum_steps}\n"
            f"Loop.compiler_options = {loop.compiler_options!r}\nModel.remat = {estimate.candidate.remat!r}\n"
        )


def make_plan(config: Planner, log: Callable[[str], None]) -> Plan:
    """Ranks all candidates by arithmetic, and compiles the most promising.

    Raises ValueError for an unknown topology, rows that are longer than the model's positions, or a run that no mesh
    over it can split.
    """
    require_length(config.run.model, config.run.data.sequence_length)
    devices = topology_devices(config.topology)
    target = chip(devices[0].device_kind)
    assert target is not None
    # On an accelerator the fastest dtype is bfloat16, on whatever machine the planner runs.
    model = config.run.model
    if model.compute_dtype == "fastest":
        model = dataclasses.replace(model, compute_dtype="bfloat16")
    run = dataclasses.replace(config.run, model=model)
    ranked = [
        Estimate(candidate, candidate.time, sum(candidate.memory.values()), None)
        for candidate in candidates(model, run.loop, run.optimizer, run.data.sequence_length, devices, target)
    ]
    log(f"{len(ranked)} candidates for {len(devices)} x {devices[0].device_kind}, ranked by arithmetic")
    promising = [estimate for estimate in ranked if estimate.bytes <= USABLE * target.memory]
    compiled: list[Estimate] = []
    tried: list[Candidate] = []
    if config.compile and not hasattr(devices[0], "client"):
        log(f"not compiled: {_no_compiler(config.topology)}")
    else:
        while len(compiled) < config.compile and len(tried) < ATTEMPTS:
            candidate = _next_to_compile(promising, tried)
            if candidate is None:
                break
            log(f"compiling {candidate.name()}")
            tried.append(candidate)
            try:
                compiled.append(_compile(run, candidate, devices, target, log))
            except MemoryError as error:
                log(f"  out of memory: {error}")
    others = [estimate for estimate in _best_per_mesh(promising) if estimate.candidate not in tried][:6]
    listed = [*compiled, *others] or sorted(ranked, key=lambda estimate: estimate.bytes)[:6]
    plan = Plan(dataclasses.replace(config, run=run), target, devices[0].device_kind, len(devices), listed)
    # Arithmetic and the compiler are not comparable: compiled candidates come first.
    listed.sort(key=lambda estimate: (not plan.fits(estimate), estimate.compiled is None, estimate.time.total))
    if target.dimensions and not run.loop.compiler_options:
        log("without --gin configs/hardware/tpu.gin no collective overlaps with matrix products")
    return plan


def _no_compiler(topology: str) -> str:
    if topology.startswith("a100"):
        return "A100s are planned by arithmetic alone"
    return "JAX's CUDA plugin is not installed (pip install 'mindllm-jax[gpu]')"


def _next_to_compile(promising: Sequence[Estimate], tried: Sequence[Candidate]) -> Candidate | None:
    """Returns the first candidate unlike those tried: of another mesh, or with clearly less memory."""

    def is_like(one: Candidate, other: Candidate) -> bool:
        return one.mesh == other.mesh and sum(one.memory.values()) >= 0.8 * sum(other.memory.values())

    new = (each.candidate for each in promising if not any(is_like(each.candidate, other) for other in tried))
    return next(new, None)


def _best_per_mesh(estimates: Sequence[Estimate]) -> Iterator[Estimate]:
    """Yields the first estimate of each mesh."""
    meshes = set()
    for estimate in estimates:
        if estimate.candidate.mesh not in meshes:
            meshes.add(estimate.candidate.mesh)
            yield estimate


def _compile(run: Pretrain, candidate: Candidate, devices: Any, chip: Chip, log: Callable[[str], None]) -> Estimate:
    """Compiles a candidate. Raises MemoryError where the compiler reports too little memory."""
    settings = with_candidate(run, candidate)
    try:
        compiled = compile_step(settings, devices)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryError(str(error).splitlines()[0]) from None
    time = predicted_time(settings, compiled, devices, chip)
    needed = compiled.state + compiled.temporary
    log(f"  {compiled.seconds:.0f} s; {needed / 2**30:.1f} GiB per device, a step of {time.total:.3f} s")
    if compiled.program.unknown_loops:
        log(f"  {compiled.program.unknown_loops} loops have an unknown trip count; their bodies count once")
    jax.clear_caches()
    return Estimate(candidate, time, needed, compiled)
