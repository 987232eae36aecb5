"""Benchmark tasks through lm-evaluation-harness: ours, whose data are local files, and its own."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindllm_jax.checks import suggestion
from mindllm_jax.evaluation.harness import generation_settings, harness_model, require_harness
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.text.documents import check_unicode
from mindllm_jax.text.json_lines import BadLine, lines, parse
from mindllm_jax.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from lm_eval.api.task import Task

TASKS = Path(__file__).parent / "tasks"


def load_tasks(files: Mapping[str, str], others: Sequence[str] = (), *, download: bool = False) -> dict[str, Task]:
    """Tasks by name, those of a group or tag each by its own.

    files: our tasks, with the file that holds the items of each. others: names that the harness knows. download:
    whether the data sets of the others may be fetched; without it only those in the cache of Hugging Face are found.

    Raises ValueError for an unknown task or wrong data, FileNotFoundError where data are missing, ImportError where
    lm-eval is.
    """
    ours = sorted(path.stem for path in TASKS.glob("[!_]*.yaml"))
    _check_names("Evaluate.tasks", files, ours)
    # Both are read once, when the library is first imported. There are no arguments for them.
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
        _check_items(Path(file), str((manager.task_index[name].cfg or {}).get("output_type")))
    with tempfile.TemporaryDirectory() as cache:
        local = {"cache_dir": cache, "keep_in_memory": True}
        specs: list[dict[str, Any]] = [
            {"task": name, "dataset_kwargs": {"data_files": {"test": file}, **local}} for name, file in files.items()
        ]
        try:
            # Only as the member of a group can a task of the index be given settings of its own.
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
    """Makes sure that a model of `max_seq_len` positions can generate what the tasks ask for.

    max_gen_toks: new tokens of an answer at most, set in all generating tasks; None: what each task says itself.

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
        if sampling.max_tokens >= max_seq_len:
            raise ValueError(
                f"task {name!r} generates up to max_gen_toks = {sampling.max_tokens} tokens, which leaves no room for a"
                f" prompt in Model.max_seq_len = {max_seq_len}; set Evaluate.max_gen_toks, for example to"
                f" {max_seq_len // 2}"
            )


def run_task(
    name: str,
    task: Task,
    decoder: Decoder,
    tokenizer: Tokenizer,
    *,
    limit: int | None = None,
    batch_size: int = 16,
) -> dict[str, float]:
    """The metrics of a task, as `acc` and `acc_stderr`.

    Beside them: `items`, how many; `cut_requests`, how many of the requests (one for each choice) were too long and
    lost the beginning of their context; `chance`, for multiple choices.

    limit: at most so many items, from the beginning. A standard error is that of the mean over items, and absent where
    the harness gives none. Raises whatever the code of the task and of the harness raises.
    """
    require_harness()
    from lm_eval.evaluator import evaluate

    model = harness_model(decoder, tokenizer, batch_size=batch_size)
    found = evaluate(model, {"tasks": {name: task}}, limit=limit, log_samples=False)  # pyright: ignore[reportArgumentType]
    assert found is not None  # our models are always process 0 to the harness
    metrics: dict[str, Any] = dict(found["results"][name])  # pyright: ignore[reportTypedDictNotRequiredAccess]
    result: dict[str, float] = {key.split(",")[0]: value for key, value in metrics.items() if isinstance(value, float)}
    result |= {"items": metrics["sample_len"], "cut_requests": model.cut}
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = [len(task.doc_to_choice(doc)) for doc in task.eval_docs]  # pyright: ignore[reportAttributeAccessIssue]
        result["chance"] = sum(1 / count for count in choices[:limit]) / len(choices[:limit])
    return result


def _check_names(setting: str, names: Iterable[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            hint = suggestion(name, known) or f"; there are {', '.join(known[:10])}"
            raise ValueError(f"{setting}: there is no task {name!r}{hint}")


def _check_items(path: Path, output_type: str) -> None:
    """Raises FileNotFoundError or ValueError, with the line, where a file does not hold items of a task's kind."""
    number = 0
    for number, line in lines(path):
        try:
            problem = _problem(parse(line), output_type)
        except BadLine as bad:
            problem = str(bad)
        if problem:
            raise ValueError(f"{path}, line {number}: {problem}")
    if not number:
        raise ValueError(f"{path} is empty: it holds no items")


def _problem(item: Any, output_type: str) -> str:
    """What keeps a line from being an item; nothing if it is one. Raises BadLine for a broken text."""
    if not isinstance(item, dict):
        return f"a JSON {type(item).__name__} where the object of an item was expected"
    check_unicode(json.dumps(item, ensure_ascii=False))
    if output_type != "multiple_choice":
        return ""  # which fields there must be is the task's own business
    if not isinstance(item.get("context"), str):
        return "no `context`"
    choices, answer = item.get("choices"), item.get("answer")
    if not isinstance(choices, list) or not all(isinstance(choice, str) and choice for choice in choices):
        return "`choices` is not a list of texts"
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
        return "`answer` is not the number of a choice, counted from 0"
    return ""
