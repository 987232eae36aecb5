"""Which implementation of a kernel takes a call: decided by tables, never by silently leaving something out."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Capabilities:
    """What one implementation can do. A call that needs more is refused."""

    platforms: frozenset[str] | None  # of jax.default_backend(); None: all
    dtypes: frozenset[str]
    features: frozenset[str]  # names of the arguments that it honours
    requires: tuple[str, str] | None = None  # a module beyond jax, and this project's extra that brings it

    def obstacles(self, *, platform: str, dtype: str, features: frozenset[str]) -> list[str]:
        """Why a call cannot be taken; empty when it can."""
        found = []
        if self.platforms is not None and platform not in self.platforms:
            found.append(f"runs on {_names(self.platforms)}, not on {platform}")
        if dtype not in self.dtypes:
            found.append(f"takes {_names(self.dtypes)}, not {dtype}")
        if missing := features - self.features:
            found.append(f"does not support {_names(missing)}")
        if self.requires is not None and importlib.util.find_spec(self.requires[0]) is None:
            found.append("needs {}: pip install 'mindllm-jax[{}]'".format(*self.requires))
        return found


def choose(
    table: Mapping[str, Capabilities],
    requested: str | None,
    *,
    platform: str,
    dtype: str,
    features: frozenset[str],
) -> str:
    """The requested implementation, or else the table's first that takes the call.

    Raises ValueError, naming what can do it, when the requested one is unknown or cannot; or saying for each one why
    not, when none can.
    """
    obstacles = {
        name: entry.obstacles(platform=platform, dtype=dtype, features=features) for name, entry in table.items()
    }
    able = [name for name, found in obstacles.items() if not found]
    if requested is not None:
        if requested not in table:
            raise ValueError(f"implementation={requested!r} is unknown; there are {_names(table)}")
        if obstacles[requested]:
            here = f"{_names(able)} can" if able else "none can"
            raise ValueError(f"implementation={requested!r} {'; '.join(obstacles[requested])}. For this call {here}.")
        return requested
    if not able:
        reasons = ". ".join(f"{name} {'; '.join(found)}" for name, found in obstacles.items())
        raise ValueError(f"no implementation takes this call. {reasons}.")
    return able[0]


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
