"""Evaluates one run: bits per byte, compressors on the same bytes as a baseline, and benchmark tasks."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
from flax import nnx

from mindllm_jax.checks import require_at_least, require_local, require_seed
from mindllm_jax.evaluation.benchmarks.convert import notes
from mindllm_jax.evaluation.bilingual import Bilingual, bilingual, read_pairs
from mindllm_jax.evaluation.comparison import compare, require_samples, settings_that_differ
from mindllm_jax.evaluation.folder import EvaluationFolder
from mindllm_jax.evaluation.harness.cloze import with_cloze_forms
from mindllm_jax.evaluation.harness.model import harness_model
from mindllm_jax.evaluation.harness.run import draw_samples, item_count, members, most_shots, run_task
from mindllm_jax.evaluation.harness.tasks import fit_generation, load_tasks
from mindllm_jax.evaluation.held_out import HeldOut, baselines, find_held_out, held_out_results
from mindllm_jax.evaluation.progress import TaskProgress
from mindllm_jax.evaluation.protocol import Protocol
from mindllm_jax.evaluation.suite import suite_items
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.parallel.together import require_same, together
from mindllm_jax.reporting.tables import Table
from mindllm_jax.training.cost import flops_per_token
from mindllm_jax.training.load_run import (
    LoadedRun,
    RunRecord,
    load_decoder,
    read_run,
    training_tokens,
    weights_identity,
)
from mindllm_jax.training.state import abstract_model

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from lm_eval.api.group import Group
    from lm_eval.api.task import Task


@dataclass(frozen=True)
class Evaluate:
    """Settings of an evaluation."""

    run: str  # folder of a training run
    step: int | None = None  # step of the checkpoint; None: the latest
    untrained: bool = False  # fresh parameters in place of trained ones
    bits_per_byte: bool = True  # of held-out text
    store: str | None = None  # token store with the held-out documents; None: the one that the run was pre-trained on
    sequence_length: int | None = None  # T of the rows; None: that of pre-training, or else Model.max_seq_len
    baselines: bool = True  # xz and a byte-level 5-gram on the same bytes
    baseline_bytes: int = 100_000_000  # maximum training text per language in which n-grams are counted
    bilingual: Bilingual = field(default_factory=Bilingual)  # retrieval of translations, gain from a source
    tasks: tuple[str, ...] = ()  # benchmark tasks and groups, ours and those of lm-evaluation-harness, by name
    data: str | None = None  # folder that prepare_benchmarks.py wrote; None: the cache of Hugging Face
    download: bool = False  # without a folder: data that the cache lacks may be fetched
    shots: dict[str, int] = field(default_factory=dict)  # examples in a prompt, by task or group; else the task's own
    samples: int | None = None  # items per task, drawn at random, in a group from each member; None: all
    seed: int = 0  # of the samples
    cloze: bool = True  # tasks that ask for a letter run in their cloze form too, where the answer's text is scored
    max_gen_toks: int | None = None  # maximum new tokens of a generating task; None: the task's own, or else 256
    protocol: Protocol = field(default_factory=Protocol)
    against: str | None = None  # folder of another evaluation, for paired differences
    batch_size: int = 16  # sequences per batch of a task
    mesh: MeshAxes = field(default_factory=MeshAxes)

    def __post_init__(self) -> None:
        require_at_least(self, 1, "sequence_length", "baseline_bytes", "samples", "max_gen_toks", "batch_size")
        require_at_least(self, 0, "step")
        require_seed(self, "seed")
        require_local(self, "run", "data", "against")
        for name, count in self.shots.items():
            if count < 0:
                raise ValueError(f"Evaluate.shots = {{{name!r}: {count}}}: must be at least 0")


class _Work(NamedTuple):
    """What is known of an evaluation before the parameters are loaded."""

    record: RunRecord
    held_out: HeldOut | None
    pairs: list[tuple[str, str]]  # sentences and their translations
    tasks: dict[str, Task | Group]
    samples: dict[str, list[int]]  # numbers of the items, by task


def evaluate(
    config: Evaluate,
    workdir: Path | None = None,
    accept: Callable[[str], None] = lambda compute_dtype: None,
    resolve_model: Callable[[Model], Model] = lambda model: model,
) -> dict[str, Any]:
    """Evaluates a run and returns the results as JSON values: the content of eval.json, which `results_table` shows.

    Args:
        config: the settings.
        workdir: folder of the results, which are written after each part (see `EvaluationFolder`), and of the answers
            that a repeated evaluation does not ask for again; None: nothing is written.
        accept: called after the checks and before anything is written, with the compute dtype.
        resolve_model: as in `load_decoder`.

    A task that fails costs nothing else: its error is in the result under `failed_tasks`. Raises OSError or
    ValueError, before the long part begins, where run, store, tasks and their data do not fit together.
    """
    work = together(lambda: _check(config, workdir))
    require_same("the data of the tasks in Evaluate.data", suite_items(work.tasks))
    require_same("the sentences of Bilingual.files", repr(work.pairs).encode())
    if work.held_out:
        require_same(f"the token store {work.held_out.store.url}", work.held_out.store.manifest.to_json())
    sharding = Sharding(config.mesh.build())
    loaded = load_decoder(work.record, untrained=config.untrained, sharding=sharding, resolve_model=resolve_model)
    together(lambda: accept(loaded.model.dtype.name))
    result: dict[str, Any] = {
        "run": config.run,
        "step": loaded.step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(nnx.state(loaded.decoder))),
        "training_tokens": 0 if config.untrained else training_tokens(work.record.identity),
        "weights": weights_identity(work.record, untrained=config.untrained),
        "compute_dtype": loaded.model.dtype.name,
        "protocol": config.protocol.record(loaded.tokenizer, loaded.model),
    }
    if work.tasks:
        names = ("data", "shots", "samples", "seed", "max_gen_toks")
        result["task_settings"] = {name: getattr(config, name) for name in names}
    folder = EvaluationFolder(workdir, loaded, config.protocol, result)
    if (other := config.against) is not None:
        shots = {name: most_shots(task) for name, task in work.tasks.items()}
        different = together(lambda: settings_that_differ(result, shots, Path(other)))
        result |= {"against": other, "against_differs": different}
        if different:
            log.warning(
                "Evaluate.against = %s has other settings than this evaluation: %s", other, "; ".join(different)
            )

    def report(part: Mapping[str, Any]) -> None:
        result.update(part)
        together(lambda: folder.write(result))

    if held_out := work.held_out:
        read = {"store": held_out.store.url, "sequence_length": held_out.sequence_length}
        report(read | held_out_results(loaded.decoder, held_out))
        for language in held_out.sources if config.baselines else ():
            beside = baselines(held_out, language, config.baseline_bytes)
            report({"baselines": result.get("baselines", {}) | {language: beside}})
    if work.pairs:
        of = config.bilingual
        how = {"languages": of.languages, "seed": of.seed, "batch_size": config.batch_size}
        report({"bilingual": bilingual(loaded.decoder, loaded.tokenizer, work.pairs, **how)})
    datasets = (str(leaf.DATASET_PATH) for task in work.tasks.values() for leaf in members(task).values())
    if config.data is not None and (data := notes(Path(config.data), datasets)):
        result["data"] = data
    if work.tasks:
        _run_tasks(work, loaded, config, folder, result, report)
    return result


def preview(config: Evaluate) -> Table:
    """Tabulates the work of `evaluate`, without loading parameters or computing anything."""
    record, held_out, pairs, tasks, samples = _check(config)
    abstract = abstract_model(record.model, Sharding(config.mesh.build())).params
    parameters = sum(math.prod(leaf.shape) for leaf in nnx.to_flat_state(abstract).leaves)
    rows = [
        ("checkpoint", str(record.folder)),
        ("parameters", f"{parameters:,}" + (", fresh ones" if config.untrained else "")),
    ]
    if held_out:
        store, by_language, length = held_out
        sources = [source for sources in by_language.values() for source in sources]
        tokens = sum(store.split(source, "held_out").tokens for source in sources)
        rows += [
            ("held-out tokens", f"{tokens:,} of {', '.join(sources)}, in rows of {length}"),
            ("FLOPs for them", f"{tokens * flops_per_token(record.model, length) / 3:.3e}"),  # forward only
        ]
    rows += [("pairs of sentences", f"{len(pairs):,}")] if pairs else []
    rows += [(f"items of {name}", f"{item_count(task, samples):,}") for name, task in tasks.items()]
    return Table(("", ""), rows, "Evaluation")


def _check(config: Evaluate, workdir: Path | None = None) -> _Work:
    """Reads everything but the parameters. Raises as `evaluate` does."""
    record = read_run(Path(config.run), config.step)
    held_out = None
    if config.bits_per_byte:
        held_out = find_held_out(record, config.run, config.store, config.sequence_length)
    elif not config.tasks and config.bilingual.files is None:
        raise ValueError(
            "Evaluate.bits_per_byte = False, no Evaluate.tasks and no Bilingual.files: there is nothing to evaluate"
        )
    pairs = read_pairs(config.bilingual)
    config.protocol.first_ids(record.tokenizer)
    tasks: dict[str, Task | Group] = {}
    if config.tasks:
        tasks = load_tasks(config.tasks, data=config.data, shots=config.shots, download=config.download)
        fit_generation(tasks, record.model.max_seq_len, config.max_gen_toks)
        tasks = with_cloze_forms(tasks) if config.cloze else tasks
    if config.against is not None:
        if workdir is not None and workdir.resolve() == Path(config.against).resolve():
            raise ValueError(
                f"Evaluate.against = {config.against} is the workdir; give the folder of another evaluation"
            )
        require_samples(Path(config.against), (leaf for task in tasks.values() for leaf in members(task)))
    return _Work(record, held_out, pairs, tasks, draw_samples(tasks, config.samples, config.seed))


def _run_tasks(
    work: _Work,
    loaded: LoadedRun,
    config: Evaluate,
    folder: EvaluationFolder,
    result: dict[str, Any],
    report: Callable[[Mapping[str, Any]], None],
) -> None:
    """Adds the metrics of each task to `result`; a failing task does not stop the others."""
    model = harness_model(
        loaded.decoder,
        loaded.tokenizer,
        protocol=config.protocol,
        answers=folder.answers(),
        batch_size=config.batch_size,
    )
    progress = TaskProgress({name: item_count(task, work.samples) for name, task in work.tasks.items()})
    for name, task in work.tasks.items():
        try:
            done = run_task(name, task, model, samples=work.samples)
            summary = done.summary()
            if config.against is not None:
                summary |= {"against": compare(done, Path(config.against))}
        except Exception as error:  # a task is external code, which may raise anything
            if jax.process_count() > 1:
                raise  # the other processes may be in the middle of it
            log.warning("task %s failed", name, exc_info=error)
            report({"failed_tasks": result.get("failed_tasks", {}) | {name: f"{type(error).__name__}: {error}"}})
            progress.failed(name, error)
            continue
        together(lambda done=done: folder.add(done))
        report({"tasks": result.get("tasks", {}) | {name: summary}})
        progress.done(name, summary)


def require_all_tasks(result: Mapping[str, Any]) -> None:
    """Raises ValueError, with their reasons, where tasks of a result failed."""
    if failed := result.get("failed_tasks"):
        count = len(failed) + len(result.get("tasks", {}))
        reasons = "\n  ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise ValueError(f"{len(failed)} of {count} tasks failed; everything else was measured:\n  {reasons}")
