"""The pipeline from raw files to clean documents: its stages in order."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from mindllm_jax.corpus.contamination.filter import Decontaminate
from mindllm_jax.corpus.contamination.index import WriteIndex
from mindllm_jax.corpus.contamination.items import benchmark_files
from mindllm_jax.corpus.dedup.cluster import Cluster
from mindllm_jax.corpus.dedup.exact import DropCopies, SkipCopies, exact_config
from mindllm_jax.corpus.dedup.lines import CountLines, DropRepeats, FindRepeats
from mindllm_jax.corpus.dedup.minhash import Signatures, stock_config
from mindllm_jax.corpus.dedup.near import DropNearDuplicates
from mindllm_jax.corpus.executors import PipelineStage, is_finished, run_stages, unfinished
from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.corpus.filters.format import Format
from mindllm_jax.corpus.filters.language import Language
from mindllm_jax.corpus.filters.lexicon import Lexicon
from mindllm_jax.corpus.filters.markup import Markup
from mindllm_jax.corpus.filters.privacy import Privacy
from mindllm_jax.corpus.filters.quality import Quality
from mindllm_jax.corpus.outcomes import step_name
from mindllm_jax.corpus.reading.files import raw_files, require_outside, short_names, sizes
from mindllm_jax.corpus.reading.names import ApplyNames, CollectNames, ResolveNames
from mindllm_jax.corpus.reading.reader import Reader
from mindllm_jax.corpus.reading.shard import ReadShard
from mindllm_jax.corpus.reading.split import Split
from mindllm_jax.corpus.report.summary import Summary
from mindllm_jax.corpus.settings import CleanCorpus
from mindllm_jax.corpus.settings_record import check_or_write_settings, record_repaired_files
from mindllm_jax.corpus.writing import WriteDocuments
from mindllm_jax.files import sha256
from mindllm_jax.locks import lock_folder
from mindllm_jax.reporting.tables import Cell, Table


def clean_corpus(config: CleanCorpus) -> bool:
    """Runs the tasks that are not finished; returns whether all are finished.

    An interrupted task runs again from its beginning and overwrites its output; finished tasks are not touched. The
    result depends on the inputs and settings, not on the number of workers. The folder is locked meanwhile.

    Raises:
        OSError: an input is missing, the output cannot be written.
        ValueError: an input is unreadable, the output is in a folder of the inputs, it has a corpus of other settings,
            or another command cleans it.
    """
    require_outside(config.output, "CleanCorpus.output", config.inputs)
    if config.scoring.run:
        require_outside(config.scoring.output, "Scoring.output", config.inputs)
    files, output = raw_files(config.inputs), Path(config.output)
    settings = {**dataclasses.asdict(config), "files": sizes(files), **_contents(config)}
    for name in ("inputs", "output", "on_bad", "executor", "keep_dropped", "scoring"):
        del settings[name]
    # Recorded with their paths until their contents were.
    formerly = {name: settings.pop(name) for name in ("decontamination", "lexicon")}
    remedy = "set another CleanCorpus.output"
    with lock_folder(output, user="a command that cleans it", otherwise=remedy):
        pipeline, logs = stages(config, files), output / "logs"
        record_repaired_files(output, settings["files"], partial(is_finished, logs, 0, pipeline[0]), remedy)
        check_or_write_settings(output, settings, remedy, formerly)
        if unfinished(pipeline, logs):  # the card marks a finished corpus
            (output / "card.json").unlink(missing_ok=True)
        return run_stages(pipeline, logs, config.executor)


def _contents(config: CleanCorpus) -> dict[str, Any]:
    """Returns what identifies the list of words and the benchmarks, wherever they lie, and the rules for these."""
    rules = dataclasses.asdict(config.decontamination)
    benchmarks = benchmark_files(Path(folder)) if (folder := rules.pop("benchmarks")) else {}
    return {
        "lexicon_sha256": sha256(Path(config.lexicon)) if config.lexicon else "",
        "benchmark_files": {
            name: [(file.name, file.stat().st_size) for file in files] for name, files in benchmarks.items()
        },
        **{f"decontamination.{name}": value for name, value in rules.items()},
    }


def stages_table(config: CleanCorpus) -> Table:
    """Lists the stages that `clean_corpus` and `score_corpus` would run."""
    files = raw_files(config.inputs)
    rows: list[list[Cell]] = [
        [stage.name, stage.tasks, " > ".join(step_name(str(step)) for step in stage.steps)]
        for stage in stages(config, files)
    ]
    if config.scoring.run:
        rows.append(["score", None, f"Choose by bits per token under {config.scoring.run}, to {config.scoring.output}"])
    return Table(("stage", "tasks", "steps"), rows, f"{len(files)} raw files, to {config.output}")


def stages(config: CleanCorpus, files: list[str]) -> list[PipelineStage]:
    """Returns the stages over the shards, one per raw file."""
    from datatrove.pipeline.dedup.exact_dedup import ExactDedupSignature, ExactFindDedups
    from datatrove.pipeline.dedup.minhash import MinhashDedupBuckets
    from datatrove.pipeline.writers.jsonl import JsonlWriter
    from datatrove.utils.logging import logger

    output, shards, names = Path(config.output), len(files), short_names(files)
    exact, partitions = exact_config(config.priorities, config.rules.short_sources), config.repeats.partitions

    def work(name: str) -> str:
        return str(output / "work" / name)

    def dropped(reason: str) -> Any:
        name = f"{reason}/${{rank}}.jsonl.gz"
        return JsonlWriter(str(output / "dropped"), output_filename=name) if config.keep_dropped else None

    def written(name: str) -> Any:
        return JsonlWriter(work(name), output_filename="${rank}.jsonl.zst", compression="zstd")

    def read_text(*, count: bool = False) -> list[Any]:
        return [ReadShard(work("text")), ApplyNames(work("names"), names, count=count)]

    cleaning: list[CleaningFilter] = [
        DropRepeats(work("repeats"), config.repeats, dropped("repeats")),
        Quality(config.rules, dropped("quality")),
        Privacy(),
        *([Lexicon(config.lexicon, config.lexicon_min_entries, dropped("lexicon"))] if config.lexicon else []),
    ]
    index: list[PipelineStage] = []
    if config.decontamination.benchmarks:
        index.append(PipelineStage("benchmarks", [WriteIndex(work("benchmarks"), config.decontamination)], 1))
        cleaning.append(Decontaminate(work("benchmarks"), config.decontamination, dropped("benchmark")))
    # It warns about the number of tasks of "find copies", which is right below.
    logger.disable("datatrove")
    hashes = ExactDedupSignature(work("hashes"), exact, partitions)
    logger.enable("datatrove")
    return [
        PipelineStage(
            "text",
            [
                Reader(
                    files,
                    lang=config.lang,
                    source_by=config.source_by,
                    text_field=config.text_field,
                    id_field=config.id_field,
                    keep_columns=config.keep_columns,
                    on_bad=config.on_bad,
                ),
                Markup(dropped("markup")),
                Format(dropped("format"), config.residue),
                Split(config.max_chars),
                Language(convert=config.convert, exclusion_writer=dropped("language")),
                CollectNames(work("names")),
                written("text"),
            ],
            shards,
        ),
        PipelineStage("names", [ResolveNames(work("names"), names)], 1),
        # Without copies: ten copies of a document would make boilerplate of its lines.
        PipelineStage("sign", [*read_text(), hashes], shards),
        PipelineStage("find copies", [ExactFindDedups(work("hashes"), work("copies"), exact)], partitions),
        PipelineStage(
            "count lines",
            [
                *read_text(),
                SkipCopies(work("copies")),
                CountLines(work("lines"), config.repeats, config.priorities),
            ],
            shards,
        ),
        PipelineStage(
            "find repeats",
            [FindRepeats(work("lines"), work("repeats"), config.repeats)],
            partitions,
        ),
        *index,
        PipelineStage(
            "clean",
            [*read_text(count=True), DropCopies(work("copies"), dropped("exact")), *cleaning, written("clean")],
            shards,
        ),
        PipelineStage(
            "signatures",
            [ReadShard(work("clean")), Signatures(work("signatures"), config.minhash, config.priorities)],
            shards,
        ),
        PipelineStage(
            "pairs",
            [
                MinhashDedupBuckets(
                    work("signatures"), work("pairs"), config=stock_config(config.minhash), lines_to_buffer=1000
                )
            ],
            config.minhash.buckets,
        ),
        PipelineStage("clusters", [Cluster(work("pairs"), work("signatures"), work("clusters"), config.minhash)], 1),
        PipelineStage(
            "documents",
            [
                ReadShard(work("clean")),
                DropNearDuplicates(work("clusters"), dropped("near")),
                Summary(str(output / "summary")),
                WriteDocuments(str(output / "documents")),
            ],
            shards,
        ),
    ]
