"""The index of tasks: ours, and those folders of lm-evaluation-harness that hold the tasks asked for."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mindllm_jax.checks import suggestion
from mindllm_jax.evaluation.harness.cloze import CLOZE

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import Entry

TASKS = Path(__file__).parents[1] / "tasks"
_NAME = rb"[\"']?([\w.-]+)"
_NAMES = re.compile(rb"^[\"']?(?:task|group|tag)[\"']?:[ \t]*" + _NAME, re.MULTILINE)
_TAGS = re.compile(rb"^tag:[ \t]*((?:\n[ \t]*- +\S+)+)", re.MULTILINE)


def task_manager(names: Sequence[str], settings: str) -> TaskManager:
    """Returns a manager of tasks that knows the given tasks, groups and tags.

    It reads our files and those of the harness that lie beside the tasks asked for: as YAML, all 14,000 take ten
    seconds. Raises ValueError, which names the class `settings`, for a name that neither the harness nor we have.
    """
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval.tasks._index").addFilter(_is_of_a_file)
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    missing = [name for name in names if name not in manager.task_index]
    read: set[Path] = set()
    folders = _folders() if missing else {}
    while missing:
        for name in missing:
            if name not in folders or folders[name] <= read:
                known, original = [*folders, *manager.all_tasks], name.removesuffix(CLOZE)
                hint = f"; the cloze form runs with {original!r}" if name != original and original in known else ""
                raise ValueError(f"{settings}.tasks: there is no task {name!r}{hint or suggestion(name, known)}")
        read |= {folder for name in missing for folder in folders[name]}
        manager = TaskManager(include_path=[str(TASKS), *sorted(map(str, read))], include_defaults=False)
        _join_tags(manager.task_index)
        # A group may have members in another folder.
        missing = [
            leaf for name in names for leaf in leaves(name, manager.task_index) if leaf not in manager.task_index
        ]
    return manager


def _join_tags(index: Mapping[str, Entry]) -> None:
    """Gives each tag its tasks of all folders: the harness keeps those of the last folder alone, with a warning."""
    for task, entry in index.items():
        for tag in entry.tags if entry.kind.name in ("TASK", "PY_TASK") else ():
            index[tag].tags.add(task)


def _is_of_a_file(record: logging.LogRecord) -> bool:
    """Whether a warning of a name that occurs twice is of a task or group: a tag has no file."""
    return not (isinstance(record.args, tuple) and record.args[1:] == (None, None))


def leaves(name: str, index: Mapping[str, Entry]) -> Iterator[str]:
    """Yields the tasks of a group or tag, at any depth; a task, and a name that the index lacks, yields itself."""
    entry = index.get(name)
    kind = entry.kind.name if entry else ""
    if entry is None or kind not in ("TAG", "GROUP"):
        yield name
        return
    listed = sorted(entry.tags) if kind == "TAG" else (entry.cfg or {})["task"]
    for member in listed:
        yield from leaves(member if isinstance(member, str) else member.get("task") or member["group"], index)


@cache
def _folders() -> dict[str, set[Path]]:
    """Returns the folders of each task, group and tag of the harness, without parsing its files."""
    spec = find_spec("lm_eval")
    assert spec is not None and spec.submodule_search_locations is not None  # `require_harness` came before
    folders: defaultdict[str, set[Path]] = defaultdict(set)
    for path in sorted(Path(spec.submodule_search_locations[0], "tasks").glob("**/*yaml")):
        content = path.read_bytes()
        tags = [tag for tags in _TAGS.findall(content) for tag in re.findall(rb"- +" + _NAME, tags)]
        for name in (*_NAMES.findall(content), *tags):
            folders[name.decode()].add(path.parent)
    return dict(folders)
