"""Checks of a task's items, which the harness would score silently or fail on without their line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask


def check_shots(task: Any, settings: str) -> None:
    """Checks that a task with local files has as many few-shot examples as its prompts take.

    Raises ValueError with the file. settings: the class whose field `shots` the message names.
    """
    scored, examples = _splits(task)
    if examples is None:
        return
    count, available = task.config.num_fewshot, len(task.fewshot_docs())
    available -= examples == scored  # an item is no example of its own prompt
    if count > available and not task.fewshot_cfg.samples:
        raise ValueError(
            f"{task.local_files[examples]}: task {task.task_name!r} takes {count} few-shot examples, and there are"
            f" {available}; set {settings}.shots"
        )


def check_items(task: Any) -> None:
    """Checks the scored items and the few-shot examples of a task with local files, as the task itself renders them.

    Choices have to be texts that are not empty, the answer one or several of them, a reference text not empty. Raises
    ValueError with file, line and problem.
    """
    fields = _fields(task)
    known: dict[tuple[str, ...], str] = {}  # a template takes half a millisecond, and few answers are possible

    def problem(doc: dict[str, Any]) -> str:
        key = tuple(repr(doc[field]) for field in fields)
        if key not in known:
            known[key] = _problem(task, doc)
        return known[key]

    _check(task, problem)


def check_choices(task: Any) -> None:
    """Checks the choices alone, as `check_items`: those of another form of a task whose items are checked already."""
    _check(task, lambda doc: _problem_of_choices(task.doc_to_choice(doc)))


def _splits(task: Any) -> tuple[str, str | None]:
    """Returns the split that is scored and that of the few-shot examples, None where the prompts have none from it."""
    config = task.config
    scored = config.test_split or config.validation_split
    examples = task.fewshot_cfg.split or config.training_split or config.validation_split or scored
    return scored, examples if config.num_fewshot and examples in task.local_files else None


def _check(task: Any, problem_of: Callable[[dict[str, Any]], str]) -> None:
    scored, examples = _splits(task)
    docs_of = {scored: task.eval_docs}
    if examples not in (None, scored):
        docs_of[examples] = task.fewshot_docs()
    for split, docs in docs_of.items():
        # A task may drop or split items when it processes them; then an item has no line.
        lines = task.lines[split]
        place, numbers = ("line", lines) if len(docs) == len(lines) else ("item", range(1, len(docs) + 1))
        for number, doc in zip(numbers, docs, strict=True):
            try:
                problem = problem_of(doc)
            except Exception as error:  # templates and functions of a task may raise anything
                problem = f"it does not fit the task ({type(error).__name__}: {error})"
            if problem:
                raise ValueError(f"{task.local_files[split]}, {place} {number}: {problem}")


def _problem(task: ConfigurableTask, doc: dict[str, Any]) -> str:
    """Returns why an item cannot be scored, "" where it can."""
    if task.OUTPUT_TYPE != "multiple_choice":
        references = _plain(doc, task.config.doc_to_target, str) or task.doc_to_target(doc)
        texts = references if isinstance(references, list) else [references]
        return "" if texts and all(str(text).strip() for text in texts) else "the answer is empty"
    context = task.doc_to_text(doc) if task.multiple_input or _is_cheap(task, task.config.doc_to_text) else ""
    if not isinstance(context, int if task.multiple_input else str):
        return f"`{task.config.doc_to_text}` is {context!r}, not a text"
    choices = _plain(doc, task.config.doc_to_choice, list) or task.doc_to_choice(doc)
    if problem := _problem_of_choices(choices):
        return problem
    target = _plain(doc, task.config.doc_to_target, list) or task.doc_to_target(doc)
    answer = context if task.multiple_input else target
    for one in answer if isinstance(answer, list) and answer else [answer]:
        if one not in (choices if isinstance(one, str) else range(len(choices))) or isinstance(one, bool):
            return f"the answer {one!r} is none of the {len(choices)} choices, which are counted from 0"
    return ""


def _problem_of_choices(choices: Any) -> str:
    is_texts = isinstance(choices, list) and choices and all(isinstance(text, str) and text for text in choices)
    return "" if is_texts else f"the choices are not a list of texts that are not empty: {choices!r}"


def _plain(doc: dict[str, Any], template: Any, kind: type) -> Any:
    """Returns what a template `{{FIELD}}` stands for without rendering it, None where it is no value of a kind."""
    plain = re.fullmatch(r"\{\{\s*(\w+)\s*\}\}", template) if isinstance(template, str) else None
    value = doc.get(plain[1]) if plain else None
    return value if isinstance(value, kind) else None


def _fields(task: ConfigurableTask) -> list[str]:
    """Returns the fields of an item on which `_problem` depends."""
    from jinja2 import Environment, meta

    config, fields = task.config, set[str]()
    if _is_cheap(task, config.doc_to_text):
        return task.features
    for template in (config.doc_to_choice, config.doc_to_target):
        if callable(template):
            return task.features
        if isinstance(template, str):
            is_field = template in task.features
            fields |= {template} if is_field else meta.find_undeclared_variables(Environment().parse(template))
    return sorted(fields & {*task.features})


def _is_cheap(task: ConfigurableTask, template: Any) -> bool:
    """Whether a field or a function gives the text; templates take long, and fail on no item but a wrong first one."""
    return callable(template) or template in task.features
