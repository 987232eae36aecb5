"""A small suite of benchmark tasks as a measurement of the training loop."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from mindllm_jax.evaluation.harness.cloze import CLOZE, with_cloze_forms
from mindllm_jax.evaluation.harness.model import harness_model
from mindllm_jax.evaluation.harness.run import draw_samples, members, run_task, scores_right_choice
from mindllm_jax.evaluation.harness.tasks import fit_generation, load_tasks, without_tags
from mindllm_jax.evaluation.measures import ANSWER_MEASURES, ITEM_MEASURES
from mindllm_jax.files import sha256
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.model.not_finite import NotFiniteError
from mindllm_jax.parallel.together import require_same, together
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.loop import Periodic
from mindllm_jax.training.task_suite import TaskSuite

if TYPE_CHECKING:
    from lm_eval.api.group import Group
    from lm_eval.api.task import Task

log = logging.getLogger(__name__)

_UNFILTERED = "none"  # the harness's name
_SEED = 0  # of the samples: the same whatever the seed of a run, so that runs can be compared


def load_suite(suite: TaskSuite, max_seq_len: int) -> dict[str, Task | Group]:
    """Loads the tasks of a suite that a model of `max_seq_len` positions is to answer; none without a suite.

    Returns them by their names in `TaskSuite.tasks`. Raises as `load_tasks` and `fit_generation` do, and ValueError
    for the cloze form of a task that has none.
    """
    with_shots = [name for name in suite.tasks if "@" in name]
    names = [name for name in suite.tasks if "@" not in name]
    if suite.shots and not names:
        raise ValueError("TaskSuite.shots: all tasks name their examples, as 'cmmlu@5': leave it empty")
    tasks = _load(suite, names, suite.shots) if names else {}
    for name in with_shots:
        task, _, shots = name.partition("@")
        loaded = _load(suite, [task], {task.removesuffix(CLOZE): int(shots)})
        tasks |= {f"{own}@{shots}": one for own, one in loaded.items()}
    fit_generation(tasks, max_seq_len, remedy="leave it out of TaskSuite.tasks")
    return tasks


def suite_items(tasks: Mapping[str, Task | Group]) -> bytes:
    """Returns what identifies the items of tasks from `TaskSuite.data`: the hashes of their files.

    Nothing identifies those of the hub's cache.
    """
    leaves = (leaf for task in tasks.values() for leaf in members(task).values())
    files = {path for leaf in leaves for path in getattr(leaf, "local_files", {}).values()}
    return "".join(map(sha256, sorted(files))).encode()


def suite_metrics(tasks: Mapping[str, Task | Group]) -> list[str]:
    """Returns the names of the metrics of tasks, as `suite_measurement` has them."""
    found: list[str] = []
    for name, task in tasks.items():
        leaves = members(task).values()
        filters = [one["name"] for leaf in leaves for one in leaf.config.filter_list or ()] or [_UNFILTERED]
        if name.partition("@")[0] in members(task):
            own = [metric["metric"] for leaf in leaves for metric in leaf.config.metric_list or ()]
            declared = [(metric, end) for metric in own for end in filters]
        else:
            aggregated = getattr(task, "aggregate_metric_list", None) or ()
            declared = [(metric.metric, end) for metric in aggregated for end in metric.filter_list or filters]
        if all(map(scores_right_choice, leaves)):
            declared += [(metric, _UNFILTERED) for metric in ITEM_MEASURES]
        elif all(scores_right_choice(leaf) or leaf.OUTPUT_TYPE == "loglikelihood" for leaf in leaves):
            declared += [(metric, _UNFILTERED) for metric in ANSWER_MEASURES]
        labels = [metric if end == _UNFILTERED else f"{metric},{end}" for metric, end in declared]
        found += [f"tasks/{name}/{label}" for label in dict.fromkeys(labels)]
    return found


def suite_measurement(
    suite: TaskSuite, tokenizer: Tokenizer, max_seq_len: int
) -> Callable[[Decoder], Mapping[str, float]]:
    """Returns a measurement for the training loop: `tasks/NAME/METRIC` of each task of a suite.

    The metrics are those of `TaskResult`, without standard errors, by the default protocol; NaN of a model whose
    log-likelihoods are not finite. Every process of a run makes the same call. Raises as `load_suite`, and ValueError
    where the items are not the same on all hosts.
    """
    tasks = together(lambda: load_suite(suite, max_seq_len))
    require_same("the data of the tasks in TaskSuite.data", suite_items(tasks))
    samples = draw_samples(tasks, suite.samples, _SEED)

    def measure(decoder: Decoder) -> dict[str, float]:
        model = harness_model(decoder, tokenizer, batch_size=suite.batch_size)
        found: dict[str, float] = {}
        for name, task in tasks.items():
            try:
                metrics = run_task(name.partition("@")[0], task, model, samples=samples).metrics
            except NotFiniteError as error:  # the run may recover, and each resume would end here again
                log.warning("the task %s is not measured: %s", name, error)
                found |= dict.fromkeys(suite_metrics({name: task}), math.nan)
                continue
            values = {metric: value for metric, value in metrics.items() if not metric.endswith("_stderr")}
            found |= {f"tasks/{name}/{metric}": value for metric, value in values.items()}
        return found

    return measure


def suite_periodic(suite: TaskSuite, tokenizer: Tokenizer, max_seq_len: int) -> list[Periodic]:
    """Returns the measurement of a suite with its steps; none without a suite. Raises as `load_suite`."""
    return [Periodic(suite.every, suite_measurement(suite, tokenizer, max_seq_len))] if suite.tasks else []


def _load(suite: TaskSuite, names: Sequence[str], shots: Mapping[str, int]) -> dict[str, Task | Group]:
    """Loads tasks, and of names that end in `_cloze` the cloze forms."""
    plain = without_tags([name for name in names if not name.endswith(CLOZE)], "TaskSuite")
    of_cloze = [name.removesuffix(CLOZE) for name in names if name.endswith(CLOZE)]
    loaded = load_tasks(list(dict.fromkeys(plain + of_cloze)), data=suite.data, shots=shots, settings="TaskSuite")
    forms = loaded | with_cloze_forms(loaded) if of_cloze else loaded
    if absent := [name for name in of_cloze if name + CLOZE not in forms]:
        raise ValueError(
            f"TaskSuite.tasks: there is no {absent[0] + CLOZE!r}: only tasks and groups that ask for letters have a"
            " cloze form; the tasks of a tag are named one by one"
        )
    return {name: task for name, task in forms.items() if name in plain or name in names}
