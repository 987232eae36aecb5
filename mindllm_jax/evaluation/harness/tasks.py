"""Benchmark tasks through lm-evaluation-harness: ours, whose data are local files, and its own."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindllm_jax.checks import suggestion
from mindllm_jax.evaluation.harness.model import generation_settings, require_harness
from mindllm_jax.text.documents import check_unicode
from mindllm_jax.text.json_lines import BadLine, lines, parse

if TYPE_CHECKING:
    from lm_eval.api.task import Task

TASKS = Path(__file__).parents[1] / "tasks"


def load_tasks(files: Mapping[str, str], others: Sequence[str] = (), *, download: bool = False) -> dict[str, Task]:
    """Loads tasks and returns them by name, those of a group or tag each under its own.

    Args:
        files: local tasks (`tasks/NAME.yaml`), with the file of each one's items.
        others: tasks, groups and tags of the harness, by name.
        download: whether the data sets of the others may be fetched; without it they come from the cache of Hugging
            Face.

    Raises ValueError for an unknown task or wrong data, FileNotFoundError where data are missing, ImportError where
    lm-eval is.
    """
    ours = sorted(path.stem for path in TASKS.glob("[!_]*.yaml"))
    _check_names("Evaluate.tasks", files, ours)
    # The library reads both once, at its first import, and has no arguments for them.
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    if not download:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    require_harness()
    from datasets.exceptions import DatasetsError
    from lm_eval.tasks import TaskManager

    # Looking through the harness's own 14,000 tasks takes ten seconds.
    manager = TaskManager(include_path=str(TASKS), include_defaults=bool(others))
    _check_names("Evaluate.harness_tasks", others, manager.all_tasks)
    for name, file in files.items():
        _check_items(Path(file), manager.task_index[name].cfg or {})
    with tempfile.TemporaryDirectory() as cache:
        local = {"cache_dir": cache, "keep_in_memory": True}
        specs: list[dict[str, Any]] = [
            {"task": name, "dataset_kwargs": {"data_files": {"test": file}, **local}} for name, file in files.items()
        ]
        try:
            # A task of the index takes settings as the member of a group only.
            return manager.load([{"group": "evaluated", "task": [*specs, *others]}])["tasks"]
        except (ConnectionError, FileNotFoundError) as error:
            raise FileNotFoundError(
                f"the data of a task are not on this machine: {str(error).splitlines()[0]}; "
                "--gin.Evaluate.download=True fetches them"
            ) from None
        except DatasetsError as error:
            sources = ", ".join([*files.values(), *others])
            raise ValueError(f"the data of a task cannot be read ({sources}): {error.__cause__ or error}") from None


def fit_generation(tasks: Mapping[str, Task], max_seq_len: int, max_gen_toks: int | None = None) -> None:
    """Checks that a model of `max_seq_len` positions can generate the answers of the tasks.

    max_gen_toks: maximum new tokens of an answer, set in all generating tasks; None: the tasks' own.

    Raises ValueError that names the task and the setting.
    """
    for name, task in tasks.items():
        if task.OUTPUT_TYPE != "generate_until":
            continue
        if max_gen_toks is not None:
            task.set_config("generation_kwargs", {"max_gen_toks": max_gen_toks}, update=True)
        try:
            sampling, _ = generation_settings(task.config.generation_kwargs or {})
        except (ValueError, TypeError) as error:
            raise ValueError(f"task {name!r}: {error}") from None
        if (new_tokens := sampling.new_tokens(max_seq_len)) >= max_seq_len:
            raise ValueError(
                f"task {name!r} generates up to max_gen_toks = {new_tokens} tokens, which leaves no room for a"
                f" prompt in Model.max_seq_len = {max_seq_len}; set Evaluate.max_gen_toks, for example to"
                f" {max_seq_len // 2}"
            )


def _check_names(setting: str, names: Iterable[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            hint = suggestion(name, known) or f"; there are {', '.join(known[:10])}"
            raise ValueError(f"{setting}: there is no task {name!r}{hint}")


def _check_items(path: Path, task: Mapping[str, Any]) -> None:
    """Raises FileNotFoundError or ValueError, with the line, where a file does not hold items of a task.

    task: its YAML file.
    """
    number = 0
    for number, line in lines(path):
        try:
            problem = _problem(parse(line), task)
        except BadLine as bad:
            problem = str(bad)
        if problem:
            raise ValueError(f"{path}, line {number}: {problem}")
    if not number:
        raise ValueError(f"{path} is empty: it holds no items")


def _problem(item: Any, task: Mapping[str, Any]) -> str:
    """Returns why a line is not an item, "" where it is one. Raises BadLine for a broken text.

    Every item is an object. For multiple choice the fields that the task names are checked too: the harness would fail
    on a missing one without its line, and would score a wrong answer silently.
    """
    if not isinstance(item, dict):
        return f"a JSON {type(item).__name__} where the object of an item was expected"
    check_unicode(json.dumps(item, ensure_ascii=False))
    if task.get("output_type") != "multiple_choice":
        return ""
    context, choices, answer = (str(task.get(f"doc_to_{part}")) for part in ("text", "choice", "target"))
    if context.isidentifier() and not isinstance(item.get(context), str):
        return f"no `{context}`"
    if not (choices.isidentifier() and answer.isidentifier()):
        return ""  # templates, which the harness fills in
    texts, number = item.get(choices), item.get(answer)
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        return f"`{choices}` is not a list of texts"
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(texts):
        return f"`{answer}` is not the number of a choice, counted from 0"
    return ""
