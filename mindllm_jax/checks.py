"""Checks of settings that many dataclasses share; each raises a ValueError that names the setting."""

import dataclasses
import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MAX_SEED = 2**31 - 1
"""The largest seed that NumPy, JAX without 64-bit integers and the hashes of the data all accept."""


def local_path(setting: str, path: str) -> Path:
    """Returns the path of a setting, which has to be one of this machine.

    Raises ValueError for an empty path, a URL, one that begins with ~, and one that the locale cannot encode as UTF-8.
    """
    if not path.strip() or "\0" in path:
        raise ValueError(f"{setting} = {path!r}: must be the path of a file or folder")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        raise ValueError(
            f"{setting} = {path}: must be a path on this machine, not a URL: mount the bucket and give the folder. "
            "Only the stores (Mixture.store, PrepareData.store, Evaluate.store) and CleanCorpus.inputs may be URLs"
        )
    if path.startswith("~"):
        raise ValueError(f"{setting} = {path}: write the home folder in full, as only a shell knows what ~ is")
    absolute = str(Path(path).absolute())
    try:
        # Libraries in C++ take a path as UTF-8 in every locale and would write to another place.
        encoded = os.fsencode(absolute) == absolute.encode()
    except UnicodeEncodeError:
        encoded = False
    if not encoded:
        raise ValueError(f"{setting} = {path!a}: {absolute!a} is not UTF-8 in this locale; set LC_ALL=C.UTF-8")
    return Path(path)


def require_local(settings: Any, *names: str) -> None:
    """Raises ValueError, as `local_path`, for a path in these fields of a dataclass: a str, a tuple or a dict of them.

    A field's default passes, so that `""` or None may mean no path.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    for name in names:
        value = getattr(settings, name)
        if value != defaults[name]:
            paths = value.values() if isinstance(value, dict) else [value] if isinstance(value, str) else value
            for path in paths:
                local_path(f"{type(settings).__name__}.{name}", path)


def require_at_least(settings: Any, minimum: float, *names: str) -> None:
    """Raises ValueError where a number in these fields of a dataclass is below `minimum`, or NaN; None passes."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value >= minimum:
            raise ValueError(f"{type(settings).__name__}.{name} = {value}: must be at least {minimum}")


def require_seed(settings: Any, *names: str) -> None:
    """Raises ValueError where one of these fields of a dataclass is not a seed: 0 to 2^31 - 1."""
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value <= MAX_SEED:
            raise ValueError(f"{type(settings).__name__}.{name} = {value}: must be at least 0 and below 2^31")


def suggestion(name: str, names: Iterable[str]) -> str:
    """Returns "; did you mean 'X'?" with the name that is closest, "" where none is close."""
    near = difflib.get_close_matches(name, list(names), 1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
