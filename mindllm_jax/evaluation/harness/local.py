"""Tasks of lm-evaluation-harness whose items come from a local folder: DATA/DATASET/NAME/SPLIT.jsonl."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindllm_jax.text.documents import check_unicode
from mindllm_jax.text.json_lines import BadLine, lines, parse

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask

SPLITS = ("test_split", "validation_split", "fewshot_split", "training_split")


def local_settings(task: Mapping[str, Any], data: Path, shots: int) -> dict[str, Any]:
    """Returns settings by which a task of the harness reads its splits from a data folder; nothing else changes.

    A split that is neither scored nor needed for few-shot examples may be missing.

    Args:
        task: its YAML file, with what it includes.
        data: folder with DATASET/NAME/SPLIT.jsonl.
        shots: few-shot examples per prompt.

    Raises FileNotFoundError, with the file, for a missing split.
    """
    folder = data / task["dataset_path"] / (task.get("dataset_name") or "default")
    files = {task[key]: folder / f"{task[key]}.jsonl" for key in SPLITS if task.get(key)}
    scored = task.get("test_split") or task.get("validation_split")
    needed = {scored: "scores"}
    if shots and not (task.get("fewshot_config") or {}).get("samples"):
        examples = task.get("fewshot_split") or task.get("training_split") or task.get("validation_split") or scored
        needed.setdefault(examples, f"takes {shots} few-shot examples from")
    for split, use in needed.items():
        if split is None:
            raise ValueError(f"task {task['task']!r} names no test or validation split")
        if not files[split].is_file():
            raise FileNotFoundError(
                f"task {task['task']!r} {use} the split {split}: there is no file {files[split]}; "
                "launch/prepare_benchmarks.py writes it from the published files"
            )
    found = {split: path for split, path in files.items() if path.is_file()}
    return {key: task[key] if task.get(key) in found else None for key in SPLITS} | {
        "class": local_task(),
        "local_files": found,
    }


def local_task() -> type[ConfigurableTask]:
    """Returns the harness's class of tasks, reading local files.

    Its `lines` are the numbers of the items' lines, by split; its `local_files` are paths by split.
    """
    from datasets import Dataset, DatasetDict
    from lm_eval.api.task import ConfigurableTask
    from pyarrow import ArrowException

    class LocalTask(ConfigurableTask):
        def __init__(self, config: dict[str, Any]) -> None:
            self.local_files: dict[str, Path] = config["local_files"]
            self.lines: dict[str, list[int]] = {}
            super().__init__(config={k: v for k, v in config.items() if k not in ("class", "local_files")})

        def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
            splits = {}
            for split, path in self.local_files.items():
                self.lines[split], items = read_items(path)
                try:
                    splits[split] = Dataset.from_list(items)
                except (ArrowException, OverflowError) as error:
                    raise ValueError(f"{path}: its items do not fit together in one table: {error}") from None
            self.dataset = DatasetDict(splits)

    return LocalTask


def read_items(path: Path) -> tuple[list[int], list[dict[str, Any]]]:
    """Reads the items of a split, all with the fields of the first; returns the numbers of their lines and them.

    Raises FileNotFoundError or ValueError, with the line, where the file does not hold such items.
    """
    numbers: list[int] = []
    items: list[dict[str, Any]] = []
    for number, line in lines(path):
        item: Any = None
        try:
            item = parse(line)
            problem = _problem(item, items)
            if not problem and b"\\u" in line:
                check_unicode(json.dumps(item, ensure_ascii=False))
        except BadLine as bad:
            problem = str(bad)
        if problem:
            raise ValueError(f"{path}, line {number}: {problem}")
        numbers.append(number)
        items.append(item)
    if not items:
        raise ValueError(f"{path} is empty: it holds no items")
    return numbers, items


def _problem(item: Any, items: Sequence[Mapping[str, Any]]) -> str:
    """Returns why a value is not an item like those before it, "" where it is one."""
    if not isinstance(item, dict):
        return f"a JSON {type(item).__name__} where the object of an item was expected"
    if items and (lacking := [field for field in items[0] if field not in item]):
        return f"no field {', '.join(map(repr, lacking))}, which the first item has"
    first = items[0] if items else item
    return next(filter(None, (_mismatch(item[field], first[field], field) for field in first)), "")


def _mismatch(value: Any, first: Any, field: str) -> str:
    """Returns where a value, at any depth, has another type than in the first item, "" where nowhere."""
    if value is None or first is None:
        return ""
    if type(value) is not type(first):
        return f"`{field}` is a JSON {type(value).__name__}, in the first item a JSON {type(first).__name__}"
    within: list[tuple[Any, Any, str]] = []
    if isinstance(value, list):
        example = next((one for one in (*first, *value) if one is not None), None)
        within = [(one, example, f"{field}[{number}]") for number, one in enumerate(value)]
    elif isinstance(value, dict):
        within = [(value[name], first[name], f"{field}.{name}") for name in first if name in value]
    # Within a value, a table holds whole numbers and others side by side.
    mismatches = (_mismatch(*each) for each in within if {type(each[0]), type(each[1])} != {int, float})
    return next(filter(None, mismatches), "")
