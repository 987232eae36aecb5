"""Settings of the benchmark tasks that a run answers while it trains; `evaluation.suite` runs them."""

from __future__ import annotations

from dataclasses import dataclass, field

from mindllm_jax.checks import require_at_least, require_local


@dataclass(frozen=True)
class TaskSuite:
    """A small suite of benchmark tasks, run every few steps; the fields are those of `Evaluate`."""

    tasks: tuple[str, ...] = ()  # none: no suite; NAME_cloze: by the text of the answers; NAME@5: with five examples
    data: str | None = None  # folder that prepare_benchmarks.py wrote; None: the cache of Hugging Face
    shots: dict[str, int] = field(default_factory=dict)  # examples in a prompt, by task or group; else the task's own
    every: int = 1000  # steps between runs of the suite, which also runs at the end
    samples: int | None = 100  # items per task, the same each time, in a group of each member; None: all
    batch_size: int = 16  # sequences per batch

    def __post_init__(self) -> None:
        require_at_least(self, 1, "every", "samples", "batch_size")
        require_local(self, "data")
        for name in self.tasks:
            task, sign, shots = name.partition("@")
            if sign and not (task and shots.isdecimal()):
                raise ValueError(f"TaskSuite.tasks: {name!r}: a task, @ and its examples in a prompt, as 'cmmlu@5'")
