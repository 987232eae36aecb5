"""The time of a step: a stated model, with its parts.

The matrix units, the memory and the links are each taken at their peak rate (hardware/peak_rates.py). Products and
memory traffic run beside each other, so the slower of them counts. A collective that runs beside products counts where
it is longer than they are; any other one is added. What published runs lose on top of that is in `REACHED`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mindllm_jax.hardware.peak_rates import Chip
from mindllm_jax.planning.hlo import Collective
from mindllm_jax.planning.links import Grid, seconds

REACHED = {"tpu": 0.82, "gpu": 0.41}
"""Share of this roofline that published runs reach, the median of four on TPUs and eight on H100s: fitted, and with the
spread that docs/results/planner.md shows."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step by part, on each device."""

    products: float
    memory: float
    waiting: dict[str, float]  # for collectives that nothing runs beside, by kind
    beside: float  # collectives that run beside products

    @property
    def total(self) -> float:
        """Seconds of the step."""
        working = max(self.products, self.memory)
        return max(working, self.beside) + sum(self.waiting.values())

    @property
    def communication(self) -> float:
        """The share of the step in which nothing but collectives runs."""
        return 1 - max(self.products, self.memory) / self.total


def step_time(products: float, traffic: float, collectives: Iterable[Collective], grid: Grid, chip: Chip) -> StepTime:
    """From FLOPs and bytes of one device, and its collectives."""
    waiting: dict[str, float] = {}
    beside = 0.0
    for collective in collectives:
        time = collective.times * seconds(collective, grid, chip)
        if collective.overlapped:
            beside += time
        else:
            waiting[collective.kind] = waiting.get(collective.kind, 0.0) + time
    return StepTime(products / chip.flops, traffic / chip.bandwidth, waiting, beside)
