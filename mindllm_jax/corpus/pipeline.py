"""From raw files to clean documents: the stages, in their order, and the folder they work in."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from mindllm_jax.corpus.contamination.filter import Decontaminate, WriteIndex
from mindllm_jax.corpus.dedup.cluster import Cluster
from mindllm_jax.corpus.dedup.exact import DropCopies, SkipCopies, exact_config
from mindllm_jax.corpus.dedup.lines import CountLines, DropRepeats, FindRepeats
from mindllm_jax.corpus.dedup.minhash import Signatures, stock_config
from mindllm_jax.corpus.dedup.near import DropNearDuplicates
from mindllm_jax.corpus.executors import Stage, run_stages
from mindllm_jax.corpus.filters.format import Format
from mindllm_jax.corpus.filters.language import Language
from mindllm_jax.corpus.filters.lexicon import Lexicon
from mindllm_jax.corpus.filters.markup import Markup
from mindllm_jax.corpus.filters.privacy import Privacy
from mindllm_jax.corpus.filters.quality import Quality
from mindllm_jax.corpus.outcomes import step_name
from mindllm_jax.corpus.reading.files import raw_files, sizes
from mindllm_jax.corpus.reading.reader import Reader
from mindllm_jax.corpus.report.summary import Summary
from mindllm_jax.corpus.settings import CleanCorpus, same_settings
from mindllm_jax.reporting.tables import Cell, Table


def clean_corpus(config: CleanCorpus) -> bool:
    """Runs what is not done yet; returns whether all of it is done.

    A task that was interrupted is run again from its beginning, and what it had written is overwritten; finished tasks
    are not touched. The result depends on the inputs and settings, not on how many workers there are.

    Raises:
        OSError: an input is missing, the output cannot be written.
        ValueError: an input is bad, or the folder holds a corpus of other settings.
    """
    files = raw_files(config.inputs)
    settings = {**dataclasses.asdict(config), "files": sizes(files)}
    for name in ("inputs", "output", "executor", "keep_dropped", "scoring"):
        del settings[name]
    same_settings(Path(config.output), settings, "set another CleanCorpus.output")
    return run_stages(stages(config, files), Path(config.output) / "logs", config.executor)


def stages_table(config: CleanCorpus) -> Table:
    """What `clean_corpus` would do."""
    files = raw_files(config.inputs)
    rows: list[list[Cell]] = [
        [stage.name, stage.tasks, " > ".join(step_name(str(step)) for step in stage.steps)]
        for stage in stages(config, files)
    ]
    if config.scoring.run:
        rows.append(["score", None, f"Choose by bits per token under {config.scoring.run}"])
    return Table(("stage", "tasks", "steps"), rows, f"{len(files)} raw files, to {config.output}")


def stages(config: CleanCorpus, files: list[str]) -> list[Stage]:
    """The stages over the shards, one a raw file."""
    from datatrove.pipeline.dedup.exact_dedup import ExactDedupSignature, ExactFindDedups
    from datatrove.pipeline.dedup.minhash import MinhashDedupBuckets
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter
    from datatrove.utils.logging import logger

    output, shards = Path(config.output), len(files)
    exact, partitions = exact_config(config.priorities), config.repeats.partitions

    def work(name: str) -> str:
        return str(output / "work" / name)

    def dropped(reason: str) -> Any:
        name = f"{reason}/${{rank}}.jsonl.gz"
        return JsonlWriter(str(output / "dropped"), output_filename=name) if config.keep_dropped else None

    def written(name: str) -> Any:
        return JsonlWriter(work(name), output_filename="${rank}.jsonl.zst", compression="zstd")

    def read(name: str) -> Any:
        return JsonlReader(work(name), glob_pattern="*.jsonl.zst", add_file_path=False)

    found = [] if not config.decontamination.benchmarks else [WriteIndex(work("benchmarks"), config.decontamination)]
    cleaning = [
        DropRepeats(work("repeats"), config.repeats, dropped("repeats")),
        Quality(config.rules, dropped("quality")),
        Privacy(),
        *([Lexicon(config.lexicon, config.lexicon_count, dropped("lexicon"))] if config.lexicon else []),
        *([Decontaminate(work("benchmarks"), config.decontamination, dropped("benchmark"))] if found else []),
    ]
    # It reminds people of the number of tasks that "find copies" has below.
    logger.disable("datatrove")
    hashes = ExactDedupSignature(work("hashes"), exact, partitions)
    logger.enable("datatrove")
    return [
        Stage(
            "text",
            [
                Reader(files, lang=config.lang, on_bad=config.on_bad),
                Markup(dropped("format")),
                Format(dropped("format"), config.residue),
                Language(convert=config.convert, exclusion_writer=dropped("language")),
                written("text"),
            ],
            shards,
        ),
        # Copies first: a document that is there ten times would make boilerplate of its lines.
        Stage("sign", [read("text"), hashes], shards),
        Stage("find copies", [ExactFindDedups(work("hashes"), work("copies"), exact)], partitions),
        Stage(
            "count lines", [read("text"), SkipCopies(work("copies")), CountLines(work("lines"), config.repeats)], shards
        ),
        Stage(
            "find repeats",
            [FindRepeats(work("lines"), work("repeats"), config.repeats)],
            partitions,
        ),
        *([Stage("benchmarks", found, 1)] if found else []),
        Stage(
            "clean", [read("text"), DropCopies(work("copies"), dropped("exact")), *cleaning, written("clean")], shards
        ),
        Stage("signatures", [read("clean"), Signatures(work("signatures"), config.minhash, config.priorities)], shards),
        Stage(
            "pairs",
            [
                MinhashDedupBuckets(
                    work("signatures"), work("pairs"), config=stock_config(config.minhash), lines_to_buffer=1000
                )
            ],
            config.minhash.buckets,
        ),
        Stage("clusters", [Cluster(work("pairs"), work("signatures"), work("clusters"), config.minhash)], 1),
        Stage(
            "documents",
            [
                read("clean"),
                DropNearDuplicates(work("clusters"), dropped("near")),
                Summary(str(output / "summary")),
                JsonlWriter(
                    str(output / "documents"),
                    output_filename="${lang}/${source}/${rank}.jsonl.gz",
                    expand_metadata=True,
                ),
            ],
            shards,
        ),
    ]
