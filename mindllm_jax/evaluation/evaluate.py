"""Evaluates one run: bits per byte, compressors on the same bytes as a baseline, and benchmark tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
from flax import nnx

from mindllm_jax.checks import require_at_least, require_local
from mindllm_jax.evaluation.bits_per_byte import Bits, held_out_sources, split_bits
from mindllm_jax.evaluation.compression import NGram, xz_bits
from mindllm_jax.evaluation.harness.run import run_task
from mindllm_jax.evaluation.harness.tasks import fit_generation, load_tasks
from mindllm_jax.files import read_json
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.parallel.together import together
from mindllm_jax.reporting.tables import Table
from mindllm_jax.store.store import TokenStore
from mindllm_jax.store.texts import split_texts
from mindllm_jax.training.cost import flops_per_token
from mindllm_jax.training.load_run import LoadedRun, RunRecord, load_decoder, read_run
from mindllm_jax.training.state import abstract_model

if TYPE_CHECKING:
    from lm_eval.api.task import Task

XZ, FIVE_GRAM = "xz -9", "byte 5-gram"


@dataclass(frozen=True)
class Evaluate:
    """Settings of an evaluation."""

    run: str  # folder of a training run
    step: int | None = None  # step of the checkpoint; None: the latest
    untrained: bool = False  # fresh parameters in place of trained ones
    store: str | None = None  # token store with the held-out documents; None: the one that the run was pre-trained on
    sequence_length: int | None = None  # T of the rows; None: that of pre-training, or else Model.max_seq_len
    baselines: bool = True  # xz and a byte-level 5-gram on the same bytes
    baseline_bytes: int = 100_000_000  # maximum training text per language in which n-grams are counted
    tasks: dict[str, str] = field(default_factory=dict)  # local tasks, and the file of each one's items
    harness_tasks: tuple[str, ...] = ()  # tasks and groups of lm-evaluation-harness, by name
    task_limit: int | None = None  # maximum items of a task
    max_gen_toks: int | None = None  # maximum new tokens of a generating task; None: the task's own, or else 256
    download: bool = False  # the data sets of harness_tasks may be fetched
    batch_size: int = 16  # sequences per batch of a task
    mesh: MeshAxes = field(default_factory=MeshAxes)

    def __post_init__(self) -> None:
        require_at_least(self, 1, "sequence_length", "baseline_bytes", "task_limit", "max_gen_toks", "batch_size")
        require_at_least(self, 0, "step")
        require_local(self, "run", "tasks")


class _HeldOut(NamedTuple):
    """The held-out text of a token store, read in rows of `sequence_length` tokens."""

    store: TokenStore
    sources: dict[str, list[str]]  # by language, those with held-out text
    sequence_length: int


def evaluate(
    config: Evaluate,
    report: Callable[[dict[str, Any]], None] = lambda result: None,
    resolve_model: Callable[[Model], Model] = lambda model: model,
) -> dict[str, Any]:
    """Evaluates a run and returns the results as JSON values: the content of eval.json, which `results_table` shows.

    report: called after each part (bits per byte, the baselines of a language, a task) with the results so far.
    resolve_model: as in `load_decoder`.

    Raises OSError or ValueError, before the long part begins, where run, store, tasks and their data do not fit
    together; and ValueError at the end where tasks failed, with their names under `failed_tasks`.
    """
    record, tasks, held_out = together(lambda: _check(config))
    sharding = Sharding(config.mesh.build())
    loaded = load_decoder(record, untrained=config.untrained, sharding=sharding, resolve_model=resolve_model)
    languages, sources = _bits(loaded, held_out)
    result: dict[str, Any] = {
        "run": config.run,
        "step": loaded.step,
        "compute_dtype": loaded.model.dtype.name,
        "store": held_out.store.url,
        "sequence_length": held_out.sequence_length,
        "held_out_bytes": {language: bits.bytes for language, bits in languages.items()},
        "bits_per_byte": {language: bits.per_byte for language, bits in languages.items()},
        "bits_per_byte_of_sources": {source: bits.per_byte for source, bits in sources.items()},
    }
    report(result)
    if config.baselines:
        for language in languages:
            baselines = _baselines(held_out, language, config.baseline_bytes)
            result["baselines"] = result.get("baselines", {}) | {language: baselines}
            report(result)
    _run_tasks(tasks, loaded, config, result, report)
    return result


def _check(config: Evaluate) -> tuple[RunRecord, dict[str, Task], _HeldOut]:
    """Reads everything but the parameters. Raises as `evaluate` does."""
    record = read_run(Path(config.run), config.step)
    tasks: dict[str, Task] = {}
    if config.tasks or config.harness_tasks:
        tasks = load_tasks(config.tasks, config.harness_tasks, download=config.download)
        fit_generation(tasks, record.model.max_seq_len, config.max_gen_toks)
    return record, tasks, _held_out(config, record)


def results_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """Tabulates results of `evaluate`, by the label of their column, with compressors and chance."""
    baselines: dict[str, Mapping[str, float]] = {}
    for result in results.values():
        baselines |= result.get("baselines", {})
    rows: list[tuple[str | None, ...]] = []
    for language in dict.fromkeys(language for result in results.values() for language in result["bits_per_byte"]):
        of_models = [result["bits_per_byte"].get(language) for result in results.values()]
        of_baselines = [baselines.get(language, {}).get(name) for name in (XZ, FIVE_GRAM)]
        rows.append((f"bits per byte, {language}", *map(_format, (*of_models, *of_baselines)), None))
    of_tasks = [result.get("tasks", {}) for result in results.values()]
    for task in dict.fromkeys(task for tasks in of_tasks for task in tasks):
        of_models = [tasks.get(task, {}) for tasks in of_tasks]
        chance = next((values["chance"] for values in of_models if "chance" in values), None)
        for metric in dict.fromkeys(name for values in of_models for name in values if _is_metric(name)):
            shown = [_format(values.get(metric), values.get(f"{metric}_stderr")) for values in of_models]
            rows.append((f"{metric}, {task}", *shown, None, None, _format(chance)))
    columns = ("", *results, XZ, FIVE_GRAM, "chance")
    filled = [i for i in range(len(columns)) if any(row[i] is not None for row in rows)]
    caption = "Held-out documents; ± is one standard error."
    if baselines:
        caption += " xz reads nothing but them; the 5-gram counts the training text."
    return Table([columns[i] for i in filled], [[row[i] for i in filled] for row in rows], caption)


def read_result(path: Path) -> dict[str, Any]:
    """Reads the result of `evaluate` from its eval.json. Raises ValueError that names the file where it is damaged."""
    try:
        result = read_json(path)
        results_table({"": result})  # all shown fields exist
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged: not the result of an evaluation ({type(error).__name__}: {error}); remove it and"
            " evaluate again"
        ) from None
    return result


def preview(config: Evaluate) -> Table:
    """Tabulates the work of `evaluate`, without loading parameters or computing anything."""
    record = read_run(Path(config.run), config.step)
    store, by_language, length = _held_out(config, record)
    sources = [source for sources in by_language.values() for source in sources]
    tokens = sum(store.split(source, "held_out").tokens for source in sources)
    abstract = abstract_model(record.model, Sharding(config.mesh.build())).params
    parameters = sum(math.prod(leaf.shape) for leaf in nnx.to_flat_state(abstract).leaves)
    rows = (
        ("checkpoint", str(record.folder)),
        ("parameters", f"{parameters:,}" + (", fresh ones" if config.untrained else "")),
        ("held-out tokens", f"{tokens:,} of {', '.join(sources)}, in rows of {length}"),
        ("FLOPs for them", f"{tokens * flops_per_token(record.model, length) / 3:.3e}"),  # forward only
        ("tasks", ", ".join((*config.tasks, *config.harness_tasks)) or "none"),
    )
    return Table(("", ""), rows, "Evaluation")


def _run_tasks(
    tasks: Mapping[str, Task],
    loaded: LoadedRun,
    config: Evaluate,
    result: dict[str, Any],
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Adds the metrics of each task to `result`; a failing task does not stop the others."""
    failed: dict[str, Exception] = {}
    for name, task in tasks.items():
        try:
            metrics = run_task(
                name, task, loaded.decoder, loaded.tokenizer, limit=config.task_limit, batch_size=config.batch_size
            )
            result["tasks"] = result.get("tasks", {}) | {name: metrics}
        except Exception as error:  # a task is external code, which may raise anything
            if jax.process_count() > 1:
                raise  # the other processes may be in the middle of it
            failed[name] = error
            result["failed_tasks"] = {name: f"{type(error).__name__}: {error}" for name, error in failed.items()}
        report(result)
    if failed:
        reasons = "\n  ".join(f"{name}: {reason}" for name, reason in result["failed_tasks"].items())
        raise ValueError(
            f"{len(failed)} of {len(tasks)} tasks failed; everything else was measured:\n  {reasons}"
        ) from next(iter(failed.values()))


def _held_out(config: Evaluate, record: RunRecord) -> _HeldOut:
    pretraining = record.identity.get("Pretrain", {}).get("data", {})
    url = config.store or pretraining.get("store")
    if url is None:
        raise ValueError(
            f"{config.run} does not record the token store that it was trained on: set Evaluate.store to a store with "
            "held-out documents"
        )
    store = TokenStore.open(url, record.tokenizer)
    sources = held_out_sources(store)
    if not sources:
        raise ValueError(f"the token store {url} has no held-out split; write it with a larger PrepareData.held_out")
    length = config.sequence_length or pretraining.get("sequence_length") or record.model.max_seq_len
    if length > record.model.max_seq_len:
        raise ValueError(
            f"Evaluate.sequence_length = {length} is longer than the run's Model.max_seq_len ="
            f" {record.model.max_seq_len}"
        )
    return _HeldOut(store, sources, length)


def _bits(loaded: LoadedRun, held_out: _HeldOut) -> tuple[dict[str, Bits], dict[str, Bits]]:
    """Returns the bits of all held-out text, by language and by source."""
    store, by_language, length = held_out
    of_sources = {
        source: split_bits(loaded.decoder, store, source, length, title=f"bits per byte of {source}")
        for sources in by_language.values()
        for source in sources
    }
    of_languages = {
        language: sum((of_sources[source] for source in sources), Bits()) for language, sources in by_language.items()
    }
    return of_languages, of_sources


def _baselines(held_out: _HeldOut, language: str, max_bytes: int) -> dict[str, float]:
    """Returns bits per byte of the compressors on a language's held-out text, and the bytes that the 5-gram counted.

    Without training text there is no 5-gram.
    """
    store = held_out.store
    texts = [text for source in held_out.sources[language] for text in split_texts(store, source, "held_out")]
    size = sum(map(len, texts))
    sources = store.languages()[language]
    counted = sum(store.split(source, "train").bytes for source in sources)
    if not counted:
        return {XZ: xz_bits(texts) / size}
    share = min(1.0, max_bytes / counted)
    training = (text for source in sources for text in split_texts(store, source, "train", share))
    five_gram = NGram(training, order=5).bits(texts) / size
    return {XZ: xz_bits(texts) / size, FIVE_GRAM: five_gram, "counted_bytes": min(counted, max_bytes)}


def _is_metric(name: str) -> bool:
    return name not in ("items", "cut_requests", "chance") and not name.endswith("_stderr")


def _format(value: float | None, error: float | None = None) -> str | None:
    if value is None:
        return None
    return f"{value:.3f}" + ("" if error is None else f" ± {error:.3f}")
