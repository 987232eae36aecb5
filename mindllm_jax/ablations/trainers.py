"""The two kinds of runs that a suite compares: pre-training, and instruction tuning of one base."""

from __future__ import annotations

import functools
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from mindllm_jax import configuration
from mindllm_jax.ablations.measurement import GROUP, HeldOutText, measures, same_text, text_store
from mindllm_jax.ablations.suite import require_measures
from mindllm_jax.configuration import Arguments
from mindllm_jax.evaluation.bits_per_byte import held_out_sources
from mindllm_jax.evaluation.forgetting import tuning_measurements
from mindllm_jax.evaluation.suite import suite_periodic
from mindllm_jax.files import sha256
from mindllm_jax.instruct.conversations import read_conversations
from mindllm_jax.instruct.domains.labels import LABEL_SCORES, read_labelled
from mindllm_jax.instruct.reading.records import instruction_files
from mindllm_jax.instruct.replay import pretraining_text
from mindllm_jax.instruct.tune import Tune, tune
from mindllm_jax.mixture.rows import MixtureRows
from mindllm_jax.run_records import resolved
from mindllm_jax.store.store import TokenStore
from mindllm_jax.text.input_files import input_files
from mindllm_jax.training.checksums import CHECKSUMS
from mindllm_jax.training.load_run import read_run
from mindllm_jax.training.loop import Periodic
from mindllm_jax.training.pretrain import Pretrain, check_vocabulary, pretrain
from mindllm_jax.training.run_folder import run_folder

_TUNING = ("answers", "conversations", "instructions", "packed", "replay", "tune", "tuning_rows")
"""Modules of the package `instruct` that a tuning run uses."""

_WITHOUT_EFFECT = ("checkpointing", "loader", "mesh")
"""Settings that change no figure but by rounding."""


class Trainer(ABC):
    """A kind of runs.

    Attributes:
        config: the class of its settings.
        entry_point: the command that trains one alone.
        scales: the file of a scale, with its name in place of {}.
        seeds: the settings that a seed decides.
        rooms: rooms whose sources decide a run's figures.
        files: further files.
    """

    config: type[Any]
    entry_point: str
    scales: str
    seeds: tuple[str, ...]
    rooms: tuple[str, ...]
    files: tuple[str, ...]

    @abstractmethod
    def held_out(self, config: Any, rows: int) -> HeldOutText:
        """Returns the text that all variants are measured on, given the baseline's settings and the rows a language."""

    @abstractmethod
    def settings(self, config: Any, baseline: Any) -> dict[str, Any]:
        """Returns the settings that decide a run's figures, as JSON values, without paths of data that all share.

        baseline: the baseline's settings.
        """

    @abstractmethod
    def check(self, config: Any) -> None:
        """Raises ValueError where the settings of a variant do not fit the data."""

    @abstractmethod
    def data(self, variants: Collection[Any], text: HeldOutText) -> bytes:
        """Returns what identifies the data of a suite, given the settings of its variants, the baseline's first."""

    @abstractmethod
    def positions(self, variants: Collection[Any]) -> int:
        """Returns the positions of the model, given the settings of all variants; of several models, the fewest."""

    @abstractmethod
    def require_measures(self, names: Sequence[str], config: Any, of_tasks: Sequence[str]) -> None:
        """Raises ValueError for a measure that no run has, given those of the benchmark tasks."""

    @abstractmethod
    def train(self, arguments: Arguments, text: HeldOutText, folder: Path) -> None:
        """Trains one run in its folder, or resumes it. Raises ValueError where it diverges, and as its trainer does."""


class _PreTraining(Trainer):
    config = Pretrain
    entry_point = "launch/train.py"
    scales = "configs/ablations/scales/{}.gin"
    seeds = ("Loop.seed", "Mixture.seed")
    rooms = ("batching", "kernels", "mixture", "model", "parallel", "store", "tokenization", "training")
    files = ("hashing.py", "rows.py", "evaluation/bits_per_byte.py", "ablations/measurement.py")

    def held_out(self, config: Pretrain, rows: int) -> HeldOutText:
        return HeldOutText(config.data.store, config.data.sources, rows)

    def settings(self, config: Pretrain, baseline: Pretrain) -> dict[str, Any]:
        settings = _deciding(config)
        if config.data.store == baseline.data.store:
            settings["data"].pop("store")
        return settings

    def check(self, config: Pretrain) -> None:
        store = _open_store(config.data.store)
        check_vocabulary(config.model, store)
        config.spec()
        MixtureRows(config.data, store, steps=config.loop.steps, global_batch_size=config.loop.global_batch_size)
        if not held_out_sources(store, config.data):
            raise ValueError(
                f"{store.url} has no held-out text to measure on: write it with PrepareData.held_out above 0"
            )

    def data(self, variants: Collection[Pretrain], text: HeldOutText) -> bytes:
        for data in (config.data for config in variants):
            text_store(text, data.sequence_length, _open_store(data.store))
        stores = dict.fromkeys(config.data.store for config in variants)
        return b"".join(_open_store(url).manifest.to_json() for url in stores)

    def positions(self, variants: Collection[Pretrain]) -> int:
        return min(config.model.max_seq_len for config in variants)

    def require_measures(self, names: Sequence[str], config: Pretrain, of_tasks: Sequence[str]) -> None:
        store = _open_store(config.data.store)
        sources = [source for own in held_out_sources(store).values() for source in own]
        of_sources = [f"{GROUP}/{source}" for source in sources if source in (config.data.sources or sources)]
        require_measures(names, [*measures(config.data.sources, store), *of_sources, *of_tasks])

    def train(self, arguments: Arguments, text: HeldOutText, folder: Path) -> None:
        config = configuration.load(Pretrain, arguments)  # again: the folder records what was loaded last
        store = _open_store(config.data.store)
        measure = same_text(text, config.data.sequence_length, store)
        with run_folder(config, arguments._replace(workdir=folder)) as (path, accept):
            periodic = [Periodic(config.loop.evaluate_every, measure)]
            periodic += suite_periodic(config.suite, store.tokenizer, config.model.max_seq_len)
            pretrain(config, store, path, periodic=periodic, accept=accept)


class _Tuning(Trainer):
    config = Tune
    entry_point = "launch/sft.py"
    scales = "configs/ablations/scales/{}_sft.gin"
    seeds = ("Loop.seed", "Instructions.seed")
    rooms = (*_PreTraining.rooms, "generation", "instruct/domains", "instruct/reading", "text")
    files = (
        *("hashing.py", "rows.py", "evaluation/bits_per_byte.py", "evaluation/forgetting.py"),
        *(f"instruct/{name}.py" for name in _TUNING),
    )

    def held_out(self, config: Tune, rows: int) -> HeldOutText:
        return HeldOutText("", (), rows)  # none: `Instructions.held_out_inputs` names conversations

    def settings(self, config: Tune, baseline: Tune) -> dict[str, Any]:
        settings = _deciding(config)
        settings.pop("base")
        settings["instructions"].pop("held_out_inputs")
        if not config.labels.inputs:
            settings.pop("labels")
        if config.lora.base == "compute":
            settings["lora"].pop("base")  # older records have none
        return settings

    def check(self, config: Tune) -> None:
        config.spec()

    def data(self, variants: Collection[Tune], text: HeldOutText) -> bytes:
        """Of the base, of its token store, and of the conversations of all variants, in which they differ."""
        config = next(iter(variants))
        held_out = config.instructions.held_out_inputs
        if any(one.instructions.held_out_inputs != held_out for one in variants):
            raise ValueError("Instructions.held_out_inputs differ between variants: measure all on the same ones")
        if any((one.base, one.replay.store) != (config.base, config.replay.store) for one in variants):
            raise ValueError(
                "Tune.base or Replay.store differ between variants: tune and measure all from the same ones"
            )
        first, *others = map(_labelled_records, variants)
        if any(records != first for records in others):
            raise ValueError("Labels.inputs are of other records in some variants: measure all on the same ones")
        base, length = read_run(Path(config.base)), config.instructions.sequence_length
        store = pretraining_text(base, config.replay, length, config.instructions.seed).store
        inputs = sorted({one.instructions.inputs for one in variants})
        hashes = [[str(path), sha256(path)] for named in (held_out, *inputs) for path in instruction_files(named)]
        labelled = sorted({one.labels.inputs for one in variants if one.labels.inputs})
        hashes += [[str(path), sha256(path)] for named in labelled for path in input_files(named)]
        return (base.folder / CHECKSUMS).read_bytes() + store.manifest.to_json() + json.dumps(hashes).encode()

    def positions(self, variants: Collection[Tune]) -> int:
        return read_run(Path(next(iter(variants)).base)).model.max_seq_len

    def require_measures(self, names: Sequence[str], config: Tune, of_tasks: Sequence[str]) -> None:
        instructions = config.instructions
        if not instructions.held_out_inputs:
            raise ValueError(
                "Instructions.held_out_inputs is empty: name the conversations on which all variants are measured"
            )
        read = [
            one.dataset
            for path in instruction_files(instructions.held_out_inputs)
            for one in read_conversations(path, on_bad=instructions.on_bad, skipped=Counter())
        ]
        datasets = [f"answer_loss/{name}" for name in dict.fromkeys(read)]
        labels = LABEL_SCORES if config.labels.inputs else ()
        text = pretraining_text(read_run(Path(config.base)), config.replay, instructions.sequence_length, 0)
        mixed = {f"{GROUP}/{language}" for language in text.mixture.languages()}
        languages = [name for name in measures(text.mixture.sources, text.store) if name in mixed]
        of_each = datasets if len(datasets) > 1 else ()
        require_measures(names, ["answer_loss", *of_each, *languages, *labels, *of_tasks])

    def train(self, arguments: Arguments, text: HeldOutText, folder: Path) -> None:
        config = configuration.load(Tune, arguments)  # again, as above
        with run_folder(config, arguments._replace(workdir=folder)) as (path, accept):
            tune(config, path, tuning_measurements(config), accept)


TRAINERS: dict[str, Trainer] = {"pretrain": _PreTraining(), "tune": _Tuning()}
"""The kinds of runs by their names in `Suite.trainer`."""


def _deciding(config: Any) -> dict[str, Any]:
    settings = resolved(config)[type(config).__name__]
    if not config.suite.tasks:
        settings.pop("suite")
    else:
        settings["suite"].pop("data")
    return {name: value for name, value in settings.items() if name not in _WITHOUT_EFFECT}


def _labelled_records(config: Tune) -> list[tuple[str, str]]:
    """Returns id and label of the records whose labels are measured."""
    return [(row.id, row.label) for row in read_labelled(config.labels).rows] if config.labels.inputs else []


@functools.cache
def _open_store(url: str) -> TokenStore:
    """Opens a token store once for all runs."""
    return TokenStore.open(url)
