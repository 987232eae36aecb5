"""The record of the settings that a folder's content depends on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mindllm_jax.files import read_json, write_text


def check_or_write_settings(
    folder: Path, settings: dict[str, Any], remedy: str, formerly: dict[str, Any] | None = None
) -> None:
    """Writes `settings.json`, or compares the settings with those of an earlier run.

    A setting that an older version did not record is not compared.

    Args:
        folder: the folder whose content depends on the settings.
        settings: JSON values.
        remedy: what to do instead, for the message of an error.
        formerly: settings that older versions recorded; compared with their records, and not written.

    Raises:
        ValueError: the folder was made with other settings.
    """
    settings = json.loads(json.dumps(settings))
    path = folder / "settings.json"
    if not path.exists():
        if left := [name for name in ("documents", "card.json", "logs") if (folder / name).exists()]:
            raise ValueError(
                f"{folder} has {' and '.join(left)} but no settings.json, so nothing tells what they were made of;"
                f" {remedy}, or delete the folder to rebuild it"
            )
        write_text(path, json.dumps(settings, ensure_ascii=False, indent=1) + "\n")
        return
    old = read_json(path)
    now = settings | json.loads(json.dumps(formerly or {}))
    different = sorted(name for name in now.keys() & old.keys() if now[name] != old[name])
    if different:
        raise ValueError(
            f"{folder} was made with other settings ({', '.join(different)} differ, see {path}); {remedy}, or delete"
            " the folder to rebuild it"
        )


def record_repaired_files(
    folder: Path, sizes: Sequence[tuple[str, int | None]], is_read: Callable[[int], bool], remedy: str
) -> None:
    """Records the present names and sizes of the raw files that were not read yet, of which one may be repaired.

    A shard is known by the place of its file among all, so none may be missing or new.

    Args:
        folder: as above, also one without a record.
        sizes: of all raw files.
        is_read: whether the file of a number was read to its end.
        remedy: as above.

    Raises:
        ValueError: there are more or fewer files than before.
    """
    path = folder / "settings.json"
    old = read_json(path) if path.exists() else {}
    if (before := old.get("files")) is None:
        return
    if len(before) != len(sizes):
        was, now = Counter(name for name, _ in before), Counter(name for name, _ in sizes)
        changes = [f"{name} is missing" for name in was - now] + [f"{name} is new" for name in now - was]
        raise ValueError(
            f"{folder} was made with other settings (files differ: {', '.join(changes[:4])}"
            f"{', …' * (len(changes) > 4)}). To resume, restore the list: a file that cannot be read may stay, and"
            f" CleanCorpus.on_bad = 'skip' leaves it out. Otherwise {remedy}, or delete the folder to rebuild it"
        )
    files = [before[number] if is_read(number) else now for number, now in enumerate(sizes)]
    write_text(path, json.dumps({**old, "files": files}, ensure_ascii=False, indent=1) + "\n")
