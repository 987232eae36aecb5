"""Benchmark tasks of lm-evaluation-harness and ours, with their data from a local folder or the hub."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mindllm_jax.checks import suggestion
from mindllm_jax.evaluation.harness.generation_settings import generation_settings
from mindllm_jax.evaluation.harness.index import leaves, task_manager
from mindllm_jax.evaluation.harness.items import check_items, check_shots
from mindllm_jax.evaluation.harness.local import local_settings
from mindllm_jax.evaluation.harness.model import require_harness

if TYPE_CHECKING:
    from lm_eval.api.group import Group
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

FEWSHOT_SEED = 1234  # the harness's own default


def load_tasks(
    names: Sequence[str],
    *,
    data: str | None,
    shots: Mapping[str, int] | None = None,
    download: bool = False,
    settings: str = "Evaluate",
) -> dict[str, Task | Group]:
    """Loads tasks as the harness defines them, and returns them by name; a tag gives its tasks.

    Args:
        names: tasks, groups and tags of the harness, and ours.
        data: folder with DATASET/NAME/SPLIT.jsonl, as launch/prepare_benchmarks.py writes it; None: the cache of the
            hub, which has the harness's tasks alone.
        shots: few-shot examples per prompt, by task or group; others as the task says.
        download: whether missing data may be fetched from the hub.
        settings: the class whose fields the arguments are, which messages name.

    Raises ValueError for an unknown task or wrong items, FileNotFoundError where data are missing, ImportError where
    lm-eval is.
    """
    # The libraries read these once, at their first import, and have no arguments for them.
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")  # ours is the one progress that is shown
    if not download:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    require_harness()
    manager = task_manager(names, settings)
    index = manager.task_index
    names = _without_tags(names, manager)
    of_tasks = _shots(names, shots or {}, manager, settings)
    for name in of_tasks:
        if data is None and str((index[name].cfg or {}).get("dataset_path")).startswith("mindllm/"):
            raise ValueError(f"the data of task {name!r} are local files: set {settings}.data to their folder")
    if data is not None:
        _read_from(Path(data), manager, of_tasks, settings)
    loaded = {name: _load(name, manager, settings) for name in names}
    for task in (task for one in loaded.values() for task in tasks_of(one)):
        if (count := of_tasks[task.task_name]) is not None:
            task.set_config("num_fewshot", count)
        task.set_fewshot_seed(FEWSHOT_SEED)
        if data is not None:
            check_shots(task, settings)
            check_items(task)
    return loaded


def without_tags(names: Sequence[str], settings: str = "Evaluate") -> list[str]:
    """Returns names with the tasks of a tag in its place. Raises ValueError for an unknown one, as `load_tasks`."""
    require_harness()
    return _without_tags(names, task_manager(names, settings))


def tasks_of(loaded: Task | Group) -> list[Task]:
    """Returns the tasks of a group, at any depth, or the task itself."""
    return loaded.get_all_tasks() if hasattr(loaded, "get_all_tasks") else [loaded]  # pyright: ignore[reportReturnType, reportAttributeAccessIssue]


def fit_generation(
    tasks: Mapping[str, Task | Group],
    max_seq_len: int,
    max_gen_toks: int | None = None,
    *,
    remedy: str = "set Evaluate.max_gen_toks, for example to half of it",
) -> None:
    """Checks that a model of `max_seq_len` positions can generate the answers of the tasks.

    max_gen_toks: maximum new tokens of an answer, set in all generating tasks; None: the tasks' own. remedy: what the
    message on a model with too few positions advises.

    Raises ValueError that names the task.
    """
    for task in (task for loaded in tasks.values() for task in tasks_of(loaded)):
        if task.OUTPUT_TYPE != "generate_until":
            continue
        if max_gen_toks is not None:
            task.set_config("generation_kwargs", {"max_gen_toks": max_gen_toks}, update=True)
        try:
            sampling, _ = generation_settings(task.config.generation_kwargs or {})
        except (ValueError, TypeError) as error:
            raise ValueError(f"task {task.task_name!r}: {error}") from None
        if (new_tokens := sampling.new_tokens(max_seq_len)) >= max_seq_len:
            raise ValueError(
                f"task {task.task_name!r} generates up to max_gen_toks = {new_tokens} tokens, which leaves no room for"
                f" a prompt in Model.max_seq_len = {max_seq_len}; {remedy}"
            )


def _without_tags(names: Sequence[str], manager: TaskManager) -> list[str]:
    index = manager.task_index
    return [one for name in names for one in (leaves(name, index) if index[name].kind.name == "TAG" else (name,))]


def _shots(
    names: Sequence[str], shots: Mapping[str, int], manager: TaskManager, settings: str
) -> dict[str, int | None]:
    """Returns the few-shot examples of each task, None where it decides; a task's own entry beats its group's."""
    index = manager.task_index
    of_tasks: dict[str, int | None] = {leaf: None for name in names for leaf in leaves(name, index)}
    members = {name: set(leaves(name, index)) & of_tasks.keys() for name in shots}
    for name, count in sorted(shots.items(), key=lambda item: -len(members[item[0]])):
        if not members[name]:
            raise ValueError(f"{settings}.shots: {name!r} is none of the tasks{suggestion(name, [*names, *of_tasks])}")
        of_tasks |= dict.fromkeys(members[name], count)
    return of_tasks


def _read_from(data: Path, manager: TaskManager, of_tasks: Mapping[str, int | None], settings: str) -> None:
    """Changes the index so that the tasks read their items from a folder."""
    from lm_eval.tasks._yaml_loader import load_yaml

    if not data.is_dir():
        raise FileNotFoundError(f"{settings}.data = {data}: there is no such folder")
    for name, shots in of_tasks.items():
        entry = manager.task_index[name]
        assert entry.yaml_path is not None
        config = load_yaml(entry.yaml_path)
        if "dataset_path" not in config:
            raise ValueError(f"task {name!r} has no data set, so that its data cannot come from {settings}.data")
        local = local_settings(config, data, config.get("num_fewshot") or 0 if shots is None else shots)
        entry.yaml_path, entry.cfg = None, config | local


def _load(name: str, manager: TaskManager, settings: str) -> Task | Group:
    from datasets.exceptions import DatasetsError

    try:
        loaded = manager.load([name])
    except (ConnectionError, FileNotFoundError) as error:
        raise FileNotFoundError(
            f"the data of task {name!r} are not on this machine: {str(error).splitlines()[0]}; "
            f"launch/eval.py --gin.Evaluate.download=True fetches them, {settings}.data names a folder with them"
        ) from None
    except DatasetsError as error:
        raise ValueError(f"the data of task {name!r} cannot be read: {error.__cause__ or error}") from None
    return loaded.get("groups", {}).get(name) or loaded["tasks"][name]  # pyright: ignore[reportReturnType]
