"""The runs of a suite, with the hashes that decide whether a record is of the same run."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from mindllm_jax import configuration
from mindllm_jax.ablations.measurement import HeldOutText
from mindllm_jax.ablations.suite import ROWS, Suite
from mindllm_jax.ablations.trainers import TRAINERS, Trainer
from mindllm_jax.configuration import Arguments
from mindllm_jax.evaluation.suite import load_suite, suite_items, suite_metrics
from mindllm_jax.files import json_sha256, tree_sha256

LIBRARY = Path(__file__).parents[1]
_OF_TASKS = ("evaluation", "generation", "text")
"""Rooms whose sources decide the figures of `TaskSuite`, beside those of the run."""


class Run(NamedTuple):
    """One run of a suite.

    Attributes:
        variant: its name in the suite.
        seed: of parameters and rows.
        trainer: the kind of run.
        arguments: the command line of the entry point that trains it, without the workdir.
        config: the resolved settings.
        text: the held-out text that it is measured on.
        settings: 16 hexadecimal digits: hash of the settings, and of the text's sources and rows.
        version: 8 hexadecimal digits: hash of the data, such as the store's manifest, and of the code; "" where it is
            not known.
    """

    variant: str
    seed: int
    trainer: Trainer
    arguments: Arguments
    config: Any
    text: HeldOutText
    settings: str
    version: str

    @property
    def command(self) -> list[str]:
        """The command that trains this run alone."""
        files = [word for file in self.arguments.files for word in ("--gin", file.as_posix())]
        return ["python", self.trainer.entry_point, *files, *(f"--gin.{text}" for text in self.arguments.overrides)]


def suite_runs(suite: Suite, *, data: bool = True) -> list[Run]:
    """Returns the runs of a suite, seed by seed and the baseline first, so that a suite that is cut has whole pairs.

    data: whether to open the store and check the settings against it; without it the runs have no version.

    Raises ValueError for settings that do not exist or do not fit together, before any run starts; OSError where a gin
    file or the store is missing.
    """
    trainer = TRAINERS[suite.trainer]
    variants = [suite.baseline, *(name for name in suite.variants if name != suite.baseline)]
    configs = {name: _config(suite, name, 0)[1] for name in variants}
    text = trainer.held_out(configs[suite.baseline], suite.held_out_rows)
    drawn = (text.sources,) if text.rows == ROWS else (text.sources, text.rows)  # older records have no rows
    _require_one_suite(suite, configs)
    _require_laws(suite, configs)
    version = ""
    if data:
        tasks = load_suite(configs[suite.baseline].suite, trainer.positions(configs.values()))
        trainer.require_measures(suite.measures, configs[suite.baseline], suite_metrics(tasks))
        version = _version(suite, trainer, configs, text, suite_items(tasks))
    runs: list[Run] = []
    for seed in range(suite.seeds):
        for variant in variants:
            arguments, config = _config(suite, variant, seed)
            deciding = trainer.settings(config, configs[suite.baseline])
            settings = json_sha256([deciding, *drawn], sort_keys=True)[:16]
            runs.append(Run(variant, seed, trainer, arguments, config, text, settings, version))
    seen: dict[str, Run] = {}
    for run in runs:
        twin = seen.setdefault(run.settings, run)
        if twin is not run:
            raise ValueError(
                f"Suite.variants: {run.variant!r} and {twin.variant!r} are the same run: what {run.variant!r} sets is"
                " set for all runs already"
            )
    return runs


def _require_one_suite(suite: Suite, configs: dict[str, Any]) -> None:
    """Raises ValueError where variants answer other benchmark tasks than the baseline, or items without a folder."""
    tasks = configs[suite.baseline].suite
    for variant, config in configs.items():
        if config.suite != tasks:
            raise ValueError(
                f"variant {variant!r} of {suite.title!r} has another TaskSuite than {suite.baseline!r}: its settings"
                " belong into Suite.settings or the gin files of Suite.base"
            )
    if tasks.tasks and tasks.data is None:
        raise ValueError("TaskSuite.data is not set: name the folder of the items, which belong to the runs' version")


def _require_laws(suite: Suite, configs: dict[str, Any]) -> None:
    """Raises ValueError for a prediction of a variant that is not the largest, or from variants of equal FLOPs."""
    flops = {name: config.spec().cost.flops for name, config in configs.items()} if suite.predictions else {}
    for number, prediction in enumerate(suite.predictions):
        where, variant = f"Suite.predictions[{number}] of {suite.title!r}", prediction["variant"]
        others = {name: value for name, value in flops.items() if name != variant}
        if flops[variant] <= max(others.values()):
            largest = max(others, key=lambda name: others[name])
            raise ValueError(f"{where}: {variant!r} has no more FLOPs than {largest!r}: predict the largest variant")
        if len(set(others.values())) < 2:
            raise ValueError(f"{where}: all variants but {variant!r} have the same FLOPs, which gives no law")


@functools.cache
def sources_sha256(rooms: tuple[str, ...], files: tuple[str, ...]) -> str:
    """Returns the sha256 of the Python files and task definitions of rooms, and of further files."""
    paths = [path for room in rooms for ending in ("py", "yaml") for path in (LIBRARY / room).glob(f"**/*.{ending}")]
    return tree_sha256(LIBRARY, [*paths, *(LIBRARY / name for name in files)])


def _config(suite: Suite, variant: str, seed: int) -> tuple[Arguments, Any]:
    trainer = TRAINERS[suite.trainer]
    files = (*map(Path, suite.base), Path(trainer.scales.format(suite.scale)))
    seeds = (f"{name}={seed}" for name in trainer.seeds)
    overrides = (*suite.settings, *suite.variants[variant], *seeds)
    arguments = Arguments(files, overrides, None, dry_run=False, print_config=False, accept_changes=False)
    try:
        return arguments, configuration.load(trainer.config, arguments)
    except ValueError as error:
        raise ValueError(f"variant {variant!r} of {suite.title!r}: {error}") from None


def _version(suite: Suite, trainer: Trainer, configs: dict[str, Any], text: HeldOutText, items: bytes) -> str:
    """Returns the hash of data and code, after checking that the settings of all variants fit the data.

    items: what identifies those of the benchmark tasks.
    """
    for variant, config in configs.items():
        try:
            trainer.check(config)
        except ValueError as error:
            raise ValueError(f"variant {variant!r} of {suite.title!r}: {error}") from None
    of_tasks = _OF_TASKS if any(config.suite.tasks for config in configs.values()) else ()
    code = sources_sha256((*trainer.rooms, *of_tasks), trainer.files).encode()
    return hashlib.sha256(trainer.data(configs.values(), text) + items + code).hexdigest()[:8]
