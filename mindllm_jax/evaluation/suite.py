"""A small suite of benchmark tasks as a measurement of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mindllm_jax.evaluation.harness.model import harness_model
from mindllm_jax.evaluation.harness.run import draw_samples, run_task
from mindllm_jax.evaluation.harness.tasks import fit_generation, load_tasks
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.task_suite import TaskSuite

if TYPE_CHECKING:
    from lm_eval.api.group import Group
    from lm_eval.api.task import Task

_SEED = 0  # of the samples: the same whatever the seed of a run, so that runs can be compared


def load_suite(suite: TaskSuite, max_seq_len: int) -> dict[str, Task | Group]:
    """Loads the tasks of a suite that a model of `max_seq_len` positions is to answer; none without a suite.

    Raises as `load_tasks` and `fit_generation` do.
    """
    if not suite.tasks:
        return {}
    tasks = load_tasks(suite.tasks, data=suite.data, shots=suite.shots, settings="TaskSuite")
    fit_generation(tasks, max_seq_len, remedy="leave it out of TaskSuite.tasks")
    return tasks


def suite_measurement(
    suite: TaskSuite, tokenizer: Tokenizer, max_seq_len: int
) -> Callable[[Decoder], Mapping[str, float]]:
    """Returns a measurement for the training loop: `tasks/TASK/METRIC` of each task of a suite.

    The metrics are those of `TaskResult`, without standard errors, by the default protocol. Raises as `load_suite`.
    """
    tasks = load_suite(suite, max_seq_len)
    samples = draw_samples(tasks, suite.samples, _SEED)

    def measure(decoder: Decoder) -> dict[str, float]:
        model = harness_model(decoder, tokenizer, batch_size=suite.batch_size)
        results = [run_task(name, task, model, samples=samples) for name, task in tasks.items()]
        return {
            f"tasks/{result.name}/{metric}": value
            for result in results
            for metric, value in result.metrics.items()
            if not metric.endswith("_stderr")
        }

    return measure
