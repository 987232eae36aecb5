"""The runs of a suite, with the hashes that decide whether a record is of the same run."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from mindllm_jax import configuration
from mindllm_jax.ablations.measurement import measures
from mindllm_jax.ablations.suite import Suite
from mindllm_jax.configuration import Arguments
from mindllm_jax.files import tree_sha256
from mindllm_jax.mixture.rows import MixtureRows
from mindllm_jax.run_records import resolved
from mindllm_jax.store.store import TokenStore
from mindllm_jax.training.pretrain import Pretrain, check_vocabulary

SCALES = Path("configs/ablations/scales")
LIBRARY = Path(__file__).parents[1]
ROOMS = ("batching", "kernels", "mixture", "model", "parallel", "store", "tokenization", "training")
FILES = ("hashing.py", "rows.py", "evaluation/bits_per_byte.py", "ablations/measurement.py")
"""Rooms and files whose sources decide a run's figures."""
_WITHOUT_EFFECT = ("checkpointing", "loader", "mesh", "suite")
"""Settings that change no figure but by rounding."""


class Run(NamedTuple):
    """One run of a suite.

    Attributes:
        variant: its name in the suite.
        seed: of parameters and rows.
        arguments: the command line of `launch/train.py` that trains it, without the workdir.
        config: the resolved settings.
        measured: sources whose held-out text is measured, those of the baseline; all of the store if empty.
        settings: 16 hexadecimal digits: hash of the settings and of `measured`.
        version: 8 hexadecimal digits: hash of the store's manifest and of the code; "" where it is not known.
    """

    variant: str
    seed: int
    arguments: Arguments
    config: Pretrain
    measured: tuple[str, ...]
    settings: str
    version: str

    @property
    def command(self) -> list[str]:
        """The command that trains this run alone."""
        files = [word for file in self.arguments.files for word in ("--gin", file.as_posix())]
        return ["python", "launch/train.py", *files, *(f"--gin.{text}" for text in self.arguments.overrides)]


def suite_runs(suite: Suite, *, data: bool = True) -> list[Run]:
    """Returns the runs of a suite, seed by seed and the baseline first, so that a suite that is cut has whole pairs.

    data: whether to open the store and check the settings against it; without it the runs have no version.

    Raises ValueError for settings that do not exist or do not fit together, before any run starts; OSError where a gin
    file or the store is missing.
    """
    variants = [suite.baseline, *(name for name in suite.variants if name != suite.baseline)]
    mixture = _config(suite, suite.baseline, 0)[1].data
    measured = mixture.sources
    if data:
        _require_measured(suite, measures(measured, open_store(mixture.store)))
    versions = {name: _version(suite, name, _config(suite, name, 0)[1]) if data else "" for name in variants}
    runs: list[Run] = []
    for seed in range(suite.seeds):
        for variant in variants:
            arguments, config = _config(suite, variant, seed)
            settings = _settings(config, measured)
            runs.append(Run(variant, seed, arguments, config, measured, settings, versions[variant]))
    seen: dict[str, Run] = {}
    for run in runs:
        twin = seen.setdefault(run.settings, run)
        if twin is not run:
            raise ValueError(
                f"Suite.variants: {run.variant!r} and {twin.variant!r} are the same run: what {run.variant!r} sets is"
                " set for all runs already"
            )
    return runs


@functools.cache
def sources_sha256() -> str:
    """Returns the sha256 of the Python files of `ROOMS` and `FILES`."""
    files = [path for room in ROOMS for path in (LIBRARY / room).glob("**/*.py")]
    return tree_sha256(LIBRARY, [*files, *(LIBRARY / name for name in FILES)])


@functools.cache
def open_store(url: str) -> TokenStore:
    """Opens a token store once for all runs."""
    return TokenStore.open(url)


def _require_measured(suite: Suite, known: list[str]) -> None:
    for name in suite.measures:
        if name not in known:
            raise ValueError(f"Suite.measures names {name!r}, which the runs do not have: {', '.join(known)}")


def _config(suite: Suite, variant: str, seed: int) -> tuple[Arguments, Pretrain]:
    files = (*map(Path, suite.base), SCALES / f"{suite.scale}.gin")
    seeds = (f"Loop.seed={seed}", f"Mixture.seed={seed}")
    overrides = (*suite.settings, *suite.variants[variant], *seeds)
    arguments = Arguments(files, overrides, None, dry_run=False, print_config=False, accept_changes=False)
    try:
        return arguments, configuration.load(Pretrain, arguments)
    except ValueError as error:
        raise ValueError(f"variant {variant!r} of {suite.title!r}: {error}") from None


def _settings(config: Pretrain, measured: tuple[str, ...]) -> str:
    """Returns the hash of the settings that decide a run's figures, without the path of the store."""
    settings: dict[str, Any] = resolved(config)["Pretrain"]
    settings = {name: value for name, value in settings.items() if name not in _WITHOUT_EFFECT}
    settings["data"].pop("store")
    return hashlib.sha256(json.dumps([settings, measured], sort_keys=True).encode()).hexdigest()[:16]


def _version(suite: Suite, variant: str, config: Pretrain) -> str:
    """Returns the hash of data and code, after checking that the settings fit the data."""
    store = open_store(config.data.store)
    try:
        check_vocabulary(config.model, store)
        config.spec()
        MixtureRows(config.data, store, steps=config.loop.steps, global_batch_size=config.loop.global_batch_size)
    except ValueError as error:
        raise ValueError(f"variant {variant!r} of {suite.title!r}: {error}") from None
    return hashlib.sha256(store.manifest.to_json() + sources_sha256().encode()).hexdigest()[:8]
