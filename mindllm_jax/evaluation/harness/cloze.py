"""The cloze form of tasks that show lettered choices: the text of each answer is scored without the list of choices.

Letters stay at chance below about a billion parameters, so small models are scored in both forms (OLMES, arXiv
2406.08446). Everything but the prompt, the choices and the metrics is the original task's: items, examples, groups.
"""

from __future__ import annotations

import dataclasses
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mindllm_jax.evaluation.harness.items import check_choices
from mindllm_jax.evaluation.measures import item_measures, scored_item

if TYPE_CHECKING:
    from lm_eval.api.group import Group
    from lm_eval.api.task import ConfigurableTask, Task

CLOZE = "_cloze"
"""Ends the name of a cloze form."""

_METRICS = [
    {"metric": name, "aggregation": "mean", "higher_is_better": True}
    for name in ("acc", "acc_bytes", "acc_mutual_info")
]
_LINES = r"(?m)^A\. "


class _Form(NamedTuple):
    """Templates over the fields of an item; a form fits tasks whose items have these fields and that list choices."""

    fields: frozenset[str]
    lists: str  # expression that the prompt matches where it lists the choices
    question: str
    choices: str | Callable[[Mapping[str, Any]], list[str]]


def _columns(item: Mapping[str, Any]) -> list[str]:
    return [item[letter] for letter in "ABCD"]


_FORMS = (
    _Form(frozenset("ABCD") | {"question"}, _LINES, "{{question.strip()}}", _columns),  # C-Eval
    _Form(frozenset("ABCD") | {"Question"}, _LINES, "{{Question.strip()}}", _columns),  # CMMLU
    _Form(frozenset(("question", "choices", "answer")), _LINES, "{{question.strip()}}", "choices"),  # MMLU
    _Form(frozenset(("context", "question", "options")), _LINES, "{{context}}\n{{question}}", "options"),  # LogiQA
    _Form(  # AGIEval: finished prompts, a passage in front of some, and choices that begin with their letters
        frozenset(("query", "choices", "gold")),
        r"Among A through|从A到",
        r"{{query.split('Answer Choices:')[0].split('选项：')[0]"
        r" | regex_replace('(?s)^(.*?)(?:Q:|问题：)\\s*', '\\1\n', 1) | trim}}",
        lambda item: without_letters(item["choices"]),
    ),
)


def without_letters(choices: Sequence[str]) -> list[str]:
    """Removes the letters in front of choices: "(A)" and "B．" wherever they stand, "C " where all begin so.

    A choice that is a letter alone stays, as "(D)" of two published items of AGIEval.
    """
    marked = [re.sub(r"^\s*(?:[(（]\s*[A-Z]\s*[)）]|[A-Z]\s*[.．、)）:：])\s*(?=\S)", "", choice) for choice in choices]
    bare = [
        re.sub(rf"^\s*{letter}\s+(?=\S)", "", choice)
        for letter, choice in zip(string.ascii_uppercase, marked, strict=False)
    ]
    return bare if all(text != choice for text, choice in zip(bare, marked, strict=True)) else marked


def with_cloze_forms(tasks: Mapping[str, Task | Group]) -> dict[str, Task | Group]:
    """Returns the tasks by name, each that has a cloze form followed by it, as `NAME_cloze`.

    Raises ValueError, as `check_choices`, for an item of a local file that its cloze form cannot score.
    """
    every: dict[str, Task | Group] = {}
    for name, task in tasks.items():
        every[name] = task
        if cloze := _cloze(task):
            every[name + CLOZE] = cloze
    return every


def _cloze(task: Task | Group) -> Task | Group | None:
    """Returns the cloze form of a task, or a group of those of a group's members; None where there are none."""
    from lm_eval.api.group import Group
    from lm_eval.api.task import ConfigurableTask

    if isinstance(task, ConfigurableTask):
        form = next((form for form in _FORMS if form.fields <= set(task.features)), None)
        if form is None or task.OUTPUT_TYPE != "multiple_choice":
            return None
        prompt = str(task.doc_to_text(task.eval_docs[0]))
        # Otherwise it is one already, as HellaSwag.
        return _task(task, form, prompt) if re.search(form.lists, prompt) else None
    if not isinstance(task, Group):
        return None
    first = (task.aggregate_metric_list or [None])[0]
    aggregated = first and [dataclasses.replace(first, metric=metric["metric"]) for metric in _METRICS]
    group = Group(task.name + CLOZE, aggregate_metric_list=aggregated, metadata=task.metadata)
    for member in task:
        if cloze := _cloze(member):
            group.add(cloze)
    return group if len(group) else None


def _task(task: ConfigurableTask, form: _Form, prompt: str) -> ConfigurableTask:
    from lm_eval.api.task import ConfigurableTask

    class Cloze(ConfigurableTask):
        def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
            self.dataset = task.dataset
            self.local_files = getattr(task, "local_files", {})  # of a `LocalTask`, as its lines
            self.lines = getattr(task, "lines", {})

        def process_results(self, doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
            """Returns the metrics of an item, which may have several right choices."""
            choices, right = self.doc_to_choice(doc), self.doc_to_target(doc)
            numbers = right if isinstance(right, list) else [int(right)]
            found = item_measures(scored_item({"filtered_resps": results, "choices": choices, "right": numbers}))
            return {metric["metric"]: found[metric["metric"]] for metric in _METRICS}

    # Its last line asks for the answer; what stands above it is the item's, which may quote another language.
    chinese = any("一" <= character <= "鿿" for character in prompt.rstrip().rpartition("\n")[2])
    config: dict[str, Any] = {field.name: getattr(task.config, field.name) for field in dataclasses.fields(task.config)}
    config |= {
        "task": f"{task.task_name}{CLOZE}",
        "task_alias": None,
        "doc_to_text": f"问题：{form.question}\n答案：" if chinese else f"Question: {form.question}\nAnswer:",
        "doc_to_choice": form.choices,
        "target_delimiter": "" if chinese else " ",
        "process_results": None,
        "metric_list": _METRICS,
        # The rest of it is taken from the fields above.
        "fewshot_config": {"sampler": task.fewshot_cfg.sampler, "split": task.fewshot_cfg.split},
    }
    cloze = Cloze(config=config)
    if cloze.local_files:
        check_choices(cloze)
    return cloze
