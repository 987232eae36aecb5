"""Choice of a kernel's implementation by a table of capabilities; no argument is ever ignored silently."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Capabilities:
    """The calls that an implementation supports. Others raise."""

    platforms: frozenset[str] | None  # of jax.default_backend(); None: all
    dtypes: frozenset[str]
    features: frozenset[str]  # names of the arguments that it supports
    requires: tuple[str, str] | None = None  # a module beyond jax, and the extra that installs it
    versions: tuple[str, ...] = ()  # of that module's distribution, where only these are supported

    def obstacles(self, *, platform: str, dtype: str, features: frozenset[str]) -> list[str]:
        """Returns the reasons why a call is not supported; empty when it is."""
        reasons = []
        if self.platforms is not None and platform not in self.platforms:
            reasons.append(f"runs on {_names(self.platforms)}, not on {platform}")
        if dtype not in self.dtypes:
            reasons.append(f"takes {_names(self.dtypes)}, not {dtype}")
        if missing := features - self.features:
            reasons.append(f"does not support {_names(missing)}")
        if self.requires is not None and importlib.util.find_spec(self.requires[0]) is None:
            reasons.append("needs {}: pip install 'mindllm-jax[{}]'".format(*self.requires))
        elif self.requires is not None and self.versions:
            name = self.requires[0].replace("_", "-")
            if (version := importlib.metadata.version(name)) not in self.versions:
                reasons.append(f"is tested with {name} {', '.join(self.versions)}; {version} is installed")
        return reasons


def choose(
    table: Mapping[str, Capabilities],
    requested: str | None,
    *,
    platform: str,
    dtype: str,
    features: frozenset[str],
) -> str:
    """Returns the requested implementation, or else the table's first that supports the call.

    Raises ValueError when the requested one is unknown or does not support the call, with those that do; and when none
    does, with the reasons of each.
    """
    obstacles = {
        name: entry.obstacles(platform=platform, dtype=dtype, features=features) for name, entry in table.items()
    }
    able = [name for name, reasons in obstacles.items() if not reasons]
    if requested is not None:
        if requested not in table:
            raise ValueError(f"implementation={requested!r} is unknown; known are {_names(table)}")
        if obstacles[requested]:
            others = f"{_names(able)} can" if able else "none can"
            raise ValueError(f"implementation={requested!r} {'; '.join(obstacles[requested])}. For this call {others}.")
        return requested
    if not able:
        reasons = ". ".join(f"{name} {'; '.join(why)}" for name, why in obstacles.items())
        raise ValueError(f"no implementation supports this call. {reasons}.")
    return able[0]


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
