"""The record of the settings that a folder's content depends on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mindllm_jax.files import read_json, write_text


def check_or_write_settings(folder: Path, settings: dict[str, Any], remedy: str) -> None:
    """Writes `settings.json`, or compares the settings with those of an earlier run.

    Args:
        folder: the folder whose content depends on the settings.
        settings: JSON values.
        remedy: what to do instead, for the message of an error.

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
    different = sorted(name for name in settings | old if settings.get(name) != old.get(name))
    if different:
        raise ValueError(
            f"{folder} was made with other settings ({', '.join(different)} differ, see {path}); {remedy}, or delete"
            " the folder to rebuild it"
        )
