"""The time of a step by a roofline model, with its parts.

The matrix units, the memory and the links each run at their peak rate (hardware/peak_rates.py). Matrix products and
memory traffic overlap, so the slower of them counts. Overlapped communication counts where it is longer than they are;
exposed communication is added. `REACHED` is the share of this roofline that published runs reach.
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

    matmul: float
    memory: float
    exposed_comm: dict[str, float]  # collectives that overlap with nothing, by kind
    overlapped_comm: float  # collectives that overlap with matrix products

    @property
    def total(self) -> float:
        """Seconds of the step."""
        busy = max(self.matmul, self.memory)
        return max(busy, self.overlapped_comm) + sum(self.exposed_comm.values())

    @property
    def communication(self) -> float:
        """The share of the step in which nothing but collectives runs."""
        return 1 - max(self.matmul, self.memory) / self.total


def step_time(flops: float, traffic: float, collectives: Iterable[Collective], grid: Grid, chip: Chip) -> StepTime:
    """Returns the time of a step with these FLOPs, bytes of memory traffic and collectives on one device."""
    exposed: dict[str, float] = {}
    overlapped = 0.0
    for collective in collectives:
        time = collective.times * seconds(collective, grid, chip)
        if collective.overlapped:
            overlapped += time
        else:
            exposed[collective.kind] = exposed.get(collective.kind, 0.0) + time
    return StepTime(flops / chip.flops, traffic / chip.bandwidth, exposed, overlapped)
