"""A plan for a run on named hardware: what fits, how fast it will be, and which settings to take."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from mindllm_jax.checks import require_at_least
from mindllm_jax.hardware.peak_rates import USABLE, Chip, chip
from mindllm_jax.hardware.topologies import described
from mindllm_jax.planning.candidates import Candidate, candidates
from mindllm_jax.planning.compiled import Compiled, compile_step, predicted, with_candidate
from mindllm_jax.planning.roofline import REACHED, StepTime
from mindllm_jax.reporting.tables import Table
from mindllm_jax.training.cost import flops_per_token
from mindllm_jax.training.pretrain import Pretrain

ATTEMPTS = 6
"""How many ways are compiled at most, those included that the compiler refuses for their memory."""


@dataclass(frozen=True)
class Planner:
    """What is planned, and for what."""

    run: Pretrain
    topology: str  # "v5p:4x4x4", "h100:8x8" (nodes x GPUs)
    compile: int = 2  # how many of the most promising ways are compiled
    watts: float | None = None  # of a device with its share of the machine; the chip's own where it is published
    price: float | None = None  # of a device for an hour, in any currency

    def __post_init__(self) -> None:
        if not 0 <= self.compile <= ATTEMPTS:
            raise ValueError(f"Planner.compile = {self.compile}: must be 0 to {ATTEMPTS}")
        require_at_least(self, 0, "watts", "price")


class Way(NamedTuple):
    """One way to run, by the compiler where it was compiled and by arithmetic else."""

    candidate: Candidate
    time: StepTime
    bytes: float
    compiled: Compiled | None


class Plan(NamedTuple):
    """The ways that were looked at: those that fit first, of these the compiled ones, of each kind the fastest."""

    config: Planner
    chip: Chip
    kind: str  # of the devices
    devices: int
    ways: list[Way]

    @property
    def best(self) -> Way:
        """The first way. Raises ValueError, with what to change, when it does not fit."""
        if not self.fits(self.ways[0]):
            way = min(self.ways, key=lambda way: way.bytes)
            parts = ", ".join(f"{part} {size / 2**30:.1f}" for part, size in way.candidate.memory.items())
            raise ValueError(
                f"nothing fits: the least is {way.bytes / 2**30:.1f} GiB a device, and a {self.kind} has "
                f"{self.chip.memory / 2**30:.0f} ({way.candidate.name()}; GiB by part: {parts}). Take more devices or "
                "larger ones, fewer rows a step (Loop.global_batch_size), shorter rows or a smaller model"
            )
        return self.ways[0]

    def fits(self, way: Way) -> bool:
        """Whether a device has the memory."""
        return way.bytes <= USABLE * self.chip.memory

    def ranking(self) -> Table:
        """All ways, a row each."""
        columns = ("mesh", "micro", "remat", "by", "GiB", "step s", "MFU", "tokens/s", "days")
        rows = [
            (
                way.candidate.axes(),
                way.candidate.grad_accum_steps,
                way.candidate.remat,
                "compiled" if way.compiled else "estimate",
                f"{way.bytes / 2**30:.1f}" + ("" if self.fits(way) else " too much"),
                f"{self.expected(way):.3f}",
                f"{self.mfu(way):.1%}",
                round(self.rate(way)),
                f"{self.hours(way) / 24:.1f}",
            )
            for way in self.ways
        ]
        return Table(columns, rows, f"{self.config.topology}: {self.devices} x {self.kind}; predicted, never measured")

    def details(self, way: Way) -> Table:
        """The parts of one way's step and memory, and what the whole run takes."""
        loop, length, time = self.config.run.loop, self.config.run.data.sequence_length, way.time
        device_hours = self.hours(way) * self.devices
        watts = self.config.watts or self.chip.watts
        rows = [
            ("matrix products", f"{time.products:.4f} s"),
            ("memory, beside them", f"{time.memory:.4f} s"),
            ("collectives, beside them", f"{time.beside:.4f} s"),
            *((f"waiting for {kind}", f"{seconds:.4f} s") for kind, seconds in time.waiting.items() if seconds),
            ("roofline", f"{time.total:.4f} s"),
            (f"expected, at the {self.reached:.0%} that published runs reach", f"{self.expected(way):.4f} s"),
            ("tokens of the run", f"{loop.steps * loop.global_batch_size * length:,}"),
            ("device-hours", f"{device_hours:,.0f} in {self.hours(way) / 24:.1f} days"),
            ("energy", f"{device_hours * watts / 1e3:,.0f} kWh" if watts else "set Planner.watts"),
            ("price", f"{device_hours * self.config.price:,.0f}" if self.config.price else "set Planner.price"),
            *((f"arithmetic: {part}", f"{size / 2**30:.2f} GiB") for part, size in way.candidate.memory.items()),
        ]
        if way.compiled:
            rows.append(("compiler: parameters, optimizer, batch", f"{way.compiled.state / 2**30:.2f} GiB"))
            rows.append(("compiler: all else", f"{way.compiled.temporary / 2**30:.2f} GiB"))
        return Table(("", ""), rows, way.candidate.name())

    @property
    def reached(self) -> float:
        """The share of the roofline that is expected."""
        return REACHED["tpu" if self.chip.dimensions else "gpu"]

    def expected(self, way: Way) -> float:
        """Seconds of a step."""
        return way.time.total / self.reached

    def hours(self, way: Way) -> float:
        """Of the whole run."""
        return self.config.run.loop.steps * self.expected(way) / 3600

    def rate(self, way: Way) -> float:
        """Tokens a second over all devices."""
        return self.config.run.loop.global_batch_size * self.config.run.data.sequence_length / self.expected(way)

    def mfu(self, way: Way) -> float:
        """Model FLOPs utilization, by `training.cost.flops_per_token`."""
        flops = flops_per_token(self.config.run.model, self.config.run.data.sequence_length)
        return self.rate(way) * flops / (self.chip.flops * self.devices)

    def settings(self, way: Way) -> str:
        """The settings of a way, as lines of a gin file."""
        mesh = "\n".join(f"MeshAxes.{axis} = {size}" for axis, size in way.candidate.sizes.items())
        loop = self.config.run.loop
        return (
            f"{mesh}\nLoop.global_batch_size = {loop.global_batch_size}\n"
            f"Loop.grad_accum_steps = {way.candidate.grad_accum_steps}\n"
            f"Loop.compiler_options = {loop.compiler_options!r}\nModel.remat = {way.candidate.remat!r}\n"
        )


def make_plan(config: Planner, say: Callable[[str], None]) -> Plan:
    """Ranks all ways by arithmetic, and compiles the most promising.

    Raises ValueError for a topology that is not known, or a run that it cannot split.
    """
    devices = described(config.topology)
    here = chip(devices[0].device_kind)
    assert here is not None
    # On an accelerator the fastest type is bfloat16, whatever machine the plan is made on.
    model = config.run.model
    if model.compute_dtype == "fastest":
        model = dataclasses.replace(model, compute_dtype="bfloat16")
    run = dataclasses.replace(config.run, model=model)
    found = candidates(model, run.loop, run.data.sequence_length, devices, here)
    say(f"{len(found)} ways to run on {len(devices)} x {devices[0].device_kind}, ranked by arithmetic")
    ways = [Way(candidate, candidate.time, sum(candidate.memory.values()), None) for candidate in found]
    promising = [way for way in ways if way.bytes <= USABLE * here.memory]
    refused: list[Candidate] = []
    compiled: list[Way] = []
    if config.compile and not hasattr(devices[0], "client"):
        say(f"not compiled: {_no_compiler(config.topology)}")
    else:
        while len(compiled) < config.compile and len(compiled) + len(refused) < ATTEMPTS:
            tried = [*refused, *(way.candidate for way in compiled)]
            way = next((way for way in promising if not any(_alike(way.candidate, other) for other in tried)), None)
            if way is None:
                break
            say(f"compiling {way.candidate.name()}")
            try:
                compiled.append(_compiled(run, way.candidate, devices, here, say))
            except MemoryError as error:
                say(f"  refused: {error}")
                refused.append(way.candidate)
    chosen = [*refused, *(way.candidate for way in compiled)]
    rest = [way for way in _one_a_mesh(promising) if way.candidate not in chosen][:6]
    listed = [*compiled, *rest] or sorted(ways, key=lambda way: way.bytes)[:6]
    plan = Plan(dataclasses.replace(config, run=run), here, devices[0].device_kind, len(devices), listed)
    # Estimates and what was compiled are not of one measure: what was compiled comes first.
    listed.sort(key=lambda way: (not plan.fits(way), way.compiled is None, way.time.total))
    if here.dimensions and not run.loop.compiler_options:
        say("without --gin configs/hardware/tpu.gin nothing is gathered while the matrix units work")
    return plan


def _no_compiler(topology: str) -> str:
    if topology.startswith("a100"):
        return "A100s are planned by arithmetic alone"
    return "JAX's CUDA plugin is not installed (pip install 'mindllm-jax[gpu]')"


def _alike(one: Candidate, other: Candidate) -> bool:
    """Not worth compiling both: the same mesh, and no less memory in the one."""
    return one.mesh == other.mesh and sum(one.memory.values()) >= 0.8 * sum(other.memory.values())


def _one_a_mesh(ways: Sequence[Way]) -> Iterator[Way]:
    """The first of each mesh."""
    meshes = set()
    for way in ways:
        if way.candidate.mesh not in meshes:
            meshes.add(way.candidate.mesh)
            yield way


def _compiled(run: Pretrain, candidate: Candidate, devices: Any, chip: Chip, say: Callable[[str], None]) -> Way:
    """Raises MemoryError where the compiler refuses for lack of memory."""
    settings = with_candidate(run, candidate)
    try:
        compiled = compile_step(settings, devices)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryError(str(error).splitlines()[0]) from None
    time = predicted(settings, compiled, devices, chip)
    needed = compiled.state + compiled.temporary
    say(f"  {compiled.seconds:.0f} s; {needed / 2**30:.1f} GiB a device, a step of {time.total:.3f} s")
    if compiled.program.unknown_loops:
        say(f"  {compiled.program.unknown_loops} loops do not tell how often they run and are counted once")
    jax.clear_caches()
    return Way(candidate, time, needed, compiled)
