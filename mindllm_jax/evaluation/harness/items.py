"""Checks of a task's items, which the harness would score silently or fail on without their line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask


def check_items(task: Any, settings: str) -> None:
    """Checks the scored items and the few-shot examples of a task with local files, as the task itself renders them.

    Choices have to be texts that are not empty, the answer one or several of them, a reference text not empty. Raises
    ValueError with file, line and problem. settings: the class whose field `shots` messages name.
    """
    config = task.config
    scored = config.test_split or config.validation_split
    docs = {scored: task.eval_docs}
    examples = task.fewshot_cfg.split or config.training_split or config.validation_split or scored
    if config.num_fewshot and examples in task.local_files:
        docs.setdefault(examples, task.fewshot_docs())
        available = len(docs[examples]) - (examples == scored)  # an item is no example of its own prompt
        if config.num_fewshot > available and not task.fewshot_cfg.samples:
            raise ValueError(
                f"{task.local_files[examples]}: task {task.task_name!r} takes {config.num_fewshot} few-shot examples,"
                f" and there are {available}; set {settings}.shots"
            )
    for split in docs:
        _check(task, docs[split], task.local_files[split], task.lines[split])


def _check(task: ConfigurableTask, docs: Any, path: Path, lines: Sequence[int]) -> None:
    # A task may drop or split items when it processes them; then an item has no line.
    place, numbers = ("line", lines) if len(docs) == len(lines) else ("item", range(1, len(docs) + 1))
    fields = _fields(task)
    problems: dict[tuple[str, ...], str] = {}  # a template takes half a millisecond, and few answers are possible
    for number, doc in zip(numbers, docs, strict=True):
        key = tuple(repr(doc[field]) for field in fields)
        if key not in problems:
            try:
                problems[key] = _problem(task, doc)
            except Exception as error:  # templates and functions of a task may raise anything
                problems[key] = f"it does not fit the task ({type(error).__name__}: {error})"
        if problems[key]:
            raise ValueError(f"{path}, {place} {number}: {problems[key]}")


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
    if not isinstance(choices, list) or not choices or not all(isinstance(text, str) and text for text in choices):
        return f"the choices are not a list of texts: {choices!r}"
    target = _plain(doc, task.config.doc_to_target, list) or task.doc_to_target(doc)
    answer = context if task.multiple_input else target
    for one in answer if isinstance(answer, list) and answer else [answer]:
        if one not in (choices if isinstance(one, str) else range(len(choices))) or isinstance(one, bool):
            return f"the answer {one!r} is none of the {len(choices)} choices, which are counted from 0"
    return ""


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
