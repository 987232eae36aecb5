"""The run of a task or group through lm-evaluation-harness."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mindllm_jax.evaluation import measures
from mindllm_jax.evaluation.harness.cloze import CLOZE
from mindllm_jax.evaluation.harness.model import HarnessRequests, require_harness
from mindllm_jax.evaluation.harness.tasks import FEWSHOT_SEED, tasks_of
from mindllm_jax.hashing import hash64

if TYPE_CHECKING:
    from lm_eval.api.group import Group
    from lm_eval.api.task import Task

BOOTSTRAP_ITERS = 1000  # resamples behind the standard error of F1, perplexity and the like; the harness's: 100,000


@dataclass(frozen=True)
class TaskResult:
    """The result of a task or group.

    Attributes:
        name: of the task or group.
        metrics: the harness's by name (`acc`; `exact_match,strict-match` for a filter of that name), those of
            `measures` that it lacks, over all items, and their standard errors as `NAME_stderr`.
        items: how many were scored.
        requests: what the model was asked with a prompt: one per choice, or one per generation.
        cut_requests: those that were too long and lost the beginning of their context.
        seam_differs: items whose tokens depend on `Protocol.seam`.
        chance: accuracy of choosing at random; None where not all is multiple choice.
        shots: examples in a prompt, the most of the members.
        seconds: wall-clock time.
        harness: the harness's own dictionary: results, groups, configs, versions, n-shot, n-samples, ….
        samples: its records by task, one per item and filter; those of a right choice have `choices`, their texts,
            and `right`, the numbers of the right ones, besides; those of the likelihood of an answer `choices` alone.
    """

    name: str
    metrics: dict[str, float]
    items: int
    requests: int
    cut_requests: int
    seam_differs: int
    chance: float | None
    shots: int
    seconds: float
    harness: dict[str, Any]
    samples: dict[str, list[dict[str, Any]]]

    def summary(self) -> dict[str, Any]:
        """Returns the entry of eval.json: metrics and counts, flat, without what there is none of."""
        counts = {name: getattr(self, name) for name in ("items", "requests", "cut_requests", "seam_differs", "shots")}
        return self.metrics | counts | ({} if self.chance is None else {"chance": self.chance})


def members(task: Task | Group) -> dict[str, Task]:
    """Returns the tasks of a group by name, those of its subgroups included, or the task alone."""
    return {leaf.task_name: leaf for leaf in tasks_of(task)}


def most_shots(task: Task | Group) -> int:
    """Returns the examples in a prompt of a task, of a group the most of the members."""
    return max(leaf.config.num_fewshot or 0 for leaf in tasks_of(task))


def draw_samples(tasks: Mapping[str, Task | Group], count: int | None, seed: int) -> dict[str, list[int]]:
    """Draws `count` items of each task, of a group from each member, all where there are no more; None: of all tasks.

    Returns the sorted numbers of the items by task. A task's cloze form gets the same items.
    """
    chosen: dict[str, list[int]] = {}
    for name, leaf in (pair for task in tasks.values() for pair in members(task).items()):
        total = len(leaf.eval_docs)
        if count is None or count >= total:
            chosen[name] = list(range(total))
        else:
            generator = np.random.default_rng([seed, hash64(name.removesuffix(CLOZE))])
            chosen[name] = sorted(generator.choice(total, count, replace=False).tolist())
    return chosen


def item_count(task: Task | Group, samples: Mapping[str, Sequence[int]]) -> int:
    """Returns how many items of a task or group are to be scored."""
    return sum(len(samples[name]) for name in members(task))


def run_task(
    name: str,
    task: Task | Group,
    model: HarnessRequests,
    *,
    samples: Mapping[str, Sequence[int]],
) -> TaskResult:
    """Runs a task or group; `samples` holds the numbers of the items of each member, as `draw_samples` gives them.

    Raises whatever the code of the task and of the harness raises.
    """
    require_harness()
    from lm_eval.api.group import Group
    from lm_eval.evaluator import evaluate

    leaves = members(task)
    groups = {group.name: group for group in (task, *task.get_all_groups())} if isinstance(task, Group) else {}
    for leaf in leaves.values():
        leaf.set_fewshot_seed(FEWSHOT_SEED)  # again: drawing examples advances it
        if leaf.config.num_fewshot is None:
            leaf.set_config("num_fewshot", 0)
    cut, differing, begin = model.cut, model.seam_differs, time.monotonic()
    os.environ.setdefault("DISABLE_MULTIPROC", "1")  # forked from JAX's threads, a bootstrap may hang
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
        evaluation = evaluate(
            model,  # pyright: ignore[reportArgumentType]  # an LM by `harness_model`
            {"tasks": leaves, "groups": groups},  # pyright: ignore[reportArgumentType]
            samples={leaf: list(samples[leaf]) for leaf in leaves},
            bootstrap_iters=BOOTSTRAP_ITERS,
            system_instruction=model.protocol.system_prompt,
            apply_chat_template=model.protocol.chat_template,
            fewshot_as_multiturn=model.protocol.chat_template,
        )
    assert evaluation is not None  # our models are always process 0 to the harness
    harness: dict[str, Any] = dict(evaluation)
    records: dict[str, list[dict[str, Any]]] = harness.pop("samples")
    first: list[dict[str, Any]] = []
    for leaf_name, leaf in leaves.items():
        own = _first_filter(records[leaf_name])
        for record in own:
            if scores_right_choice(leaf):
                record |= _choices(leaf, record)
            elif leaf.OUTPUT_TYPE == "loglikelihood":
                record["choices"] = [str(record["target"])]
        first += own
    choices = [measures.scored_item(record) for record in first if "right" in record]
    return TaskResult(
        name=name,
        metrics=_metrics(harness["results"].get(name, {}), list(map(measures.sample_measures, first))),
        items=len(first),
        # The choices without their prompt, for acc_mutual_info, have nothing that could be cut.
        requests=sum(prompt != "" for record in first for prompt, *_ in record["arguments"]),
        cut_requests=model.cut - cut,
        seam_differs=model.seam_differs - differing,
        chance=measures.chance(choices) if len(choices) == len(first) else None,
        shots=most_shots(task),
        seconds=time.monotonic() - begin,
        harness=harness,
        samples=records,
    )


def scores_right_choice(task: Any) -> bool:
    """Returns whether a task scores that the likeliest choice is its item's target, so that `item_measures` are of it.

    A multiple choice with code of its own may score another thing: the mass of all true answers, as truthfulqa_mc2, or
    which of two sentences is likelier. Its target is then a constant, or it has no accuracy.
    """
    if task.OUTPUT_TYPE != "multiple_choice" or not task.config.process_results:
        return task.OUTPUT_TYPE == "multiple_choice"
    has_accuracy = any(metric["metric"] == "acc" for metric in task.config.metric_list or ())
    return has_accuracy and isinstance(task.config.doc_to_target, str) and "{{" in task.config.doc_to_target


def _first_filter(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns one record per item: a generating task with several filters has one for each of them."""
    return [record for record in records if record["filter"] == records[0]["filter"]]


def _choices(task: Any, record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the texts of the choices and the numbers of the right ones. Raises ValueError without a right one."""
    choices = [str(choice) for choice in task.doc_to_choice(record["doc"])]
    # With several inputs (WinoGrande) the choices are contexts, and the target is what continues all of them.
    target = task.doc_to_text(record["doc"]) if task.multiple_input else record["target"]
    right = [
        choices.index(one) if isinstance(one, str) and one in choices else one
        for one in (target if isinstance(target, list) else [target])
    ]
    if not right or not all(isinstance(one, int) and 0 <= one < len(choices) for one in right):
        raise ValueError(
            f"task {task.task_name!r}, item {record['doc_id']}: the answer {target!r} is not one of {choices}"
        )
    if task.multiple_input:
        choices = [record["target"]] * len(choices)
    return {"choices": choices, "right": right}


def _metrics(values: Mapping[str, Any], each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the harness's metrics under the names of `TaskResult.metrics`, and the measures that it lacks."""
    found: dict[str, float] = {}
    for key, value in values.items():
        metric, comma, filter_name = key.partition(",")
        if not comma or not isinstance(value, float | int) or math.isnan(value):
            continue
        error = metric.endswith("_stderr")
        label = metric.removesuffix("_stderr") + ("" if filter_name == "none" else f",{filter_name}")
        found[f"{label}_stderr" if error else label] = float(value)
    for label, (value, error) in measures.means(each).items():
        # A group has no error where a member has a single item, although there is one over all items.
        if math.isclose(found.setdefault(label, value), value) and not math.isnan(error):
            found.setdefault(f"{label}_stderr", error)
    return found
