"""From raw files to clean documents: the stages, in their order, and the folder they work in."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mindllm_jax.corpus.blocks.decontaminate import Decontaminate, Decontamination, WriteIndex
from mindllm_jax.corpus.blocks.format import Format
from mindllm_jax.corpus.blocks.language import Language
from mindllm_jax.corpus.blocks.lexicon import Lexicon
from mindllm_jax.corpus.blocks.markup import Markup
from mindllm_jax.corpus.blocks.privacy import Privacy
from mindllm_jax.corpus.blocks.quality import Quality, QualityRules
from mindllm_jax.corpus.dedup.cluster import Cluster
from mindllm_jax.corpus.dedup.exact import exact_config
from mindllm_jax.corpus.dedup.lines import CountLines, DropRepeats, FindRepeats, Repeats
from mindllm_jax.corpus.dedup.minhash import MinHash, Signatures
from mindllm_jax.corpus.executors import Executor, Stage, run_stages
from mindllm_jax.corpus.reading.files import raw_files
from mindllm_jax.corpus.reading.reader import Reader
from mindllm_jax.corpus.summary import Summary
from mindllm_jax.files import write_text


@dataclass(frozen=True)
class CleanCorpus:
    """Settings of the pipeline.

    Attributes:
        inputs: raw files, folders or patterns: local paths or fsspec URLs. See `Reader` for the formats.
        output: a folder. It gets `documents/LANG/SOURCE/SHARD.jsonl.gz`, `dropped/`, `logs/`, and what lies between.
        lang: the language of documents whose file does not say it, if it is known.
        on_bad: what to do with input that cannot be read: "error" or "skip".
        convert: rewrites Chinese as "simplified" or "traditional"; None leaves each text as it is.
        rules: of quality.
        repeats: of lines and paragraphs.
        minhash: of near-duplicates.
        priorities: sources in the order in which a copy of theirs is the one to keep; the others come after them.
        lexicon: a file of words and phrases; see `Lexicon`. "" for none.
        lexicon_count: so many different ones in a document drop it.
        decontamination: which benchmarks' items are taken out, and how.
        keep_dropped: writes what is dropped to `dropped/REASON/`, to be looked at.
        executor: where it runs.
    """

    inputs: tuple[str, ...]
    output: str
    lang: str | None = None
    on_bad: Literal["error", "skip"] = "error"
    convert: Literal["simplified", "traditional"] | None = None
    rules: QualityRules = field(default_factory=QualityRules)
    repeats: Repeats = field(default_factory=Repeats)
    minhash: MinHash = field(default_factory=MinHash)
    priorities: tuple[str, ...] = ()
    lexicon: str = ""
    lexicon_count: int = 3
    decontamination: Decontamination = field(default_factory=Decontamination)
    keep_dropped: bool = True
    executor: Executor = field(default_factory=Executor)


def clean_corpus(config: CleanCorpus) -> bool:
    """Runs what is not done yet; returns whether all of it is done.

    A task that was interrupted is run again from its beginning, and what it had written is overwritten; finished tasks
    are not touched. The result depends on the inputs and settings, not on how many workers there are.

    Raises:
        OSError: an input is missing, the output cannot be written.
        ValueError: an input is bad, or the folder holds a corpus of other settings.
    """
    files = raw_files(config.inputs)
    _remember(config, files)
    return run_stages(stages(config, files), Path(config.output) / "logs", config.executor)


def stages(config: CleanCorpus, files: list[str]) -> list[Stage]:
    """The stages over the shards, one a raw file."""
    from datatrove.pipeline.dedup.exact_dedup import ExactDedupFilter, ExactDedupSignature, ExactFindDedups
    from datatrove.pipeline.dedup.minhash import MinhashDedupBuckets, MinhashDedupFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter

    output, shards = Path(config.output), len(files)
    exact = exact_config(config.priorities)

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
    without_copies = partial(ExactDedupFilter, work("copies"), exact)
    return [
        Stage(
            "text",
            [
                Reader(files, lang=config.lang, on_bad=config.on_bad),
                Markup(dropped("format")),
                Format(dropped("format")),
                Language(convert=config.convert, exclusion_writer=dropped("language")),
                written("text"),
            ],
            shards,
        ),
        # Copies first: a document that is there ten times would make boilerplate of its lines.
        Stage("sign", [read("text"), ExactDedupSignature(work("hashes"), exact)], shards),
        Stage("find copies", [ExactFindDedups(work("hashes"), work("copies"), exact)], 1),
        Stage("count lines", [read("text"), without_copies(), CountLines(work("lines"), config.repeats)], shards),
        Stage(
            "find repeats",
            [FindRepeats(work("lines"), work("repeats"), config.repeats)],
            config.repeats.partitions,
        ),
        *([Stage("benchmarks", found, 1)] if found else []),
        Stage("clean", [read("text"), without_copies(dropped("exact")), *cleaning, written("clean")], shards),
        Stage("signatures", [read("clean"), Signatures(work("signatures"), config.minhash, config.priorities)], shards),
        Stage(
            "pairs",
            [
                MinhashDedupBuckets(
                    work("signatures"), work("pairs"), config=config.minhash.stock(), lines_to_buffer=1000
                )
            ],
            config.minhash.buckets,
        ),
        Stage("clusters", [Cluster(work("pairs"), work("signatures"), work("clusters"), config.minhash)], 1),
        Stage(
            "documents",
            [
                read("clean"),
                MinhashDedupFilter(work("clusters"), dropped("near")),
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


def _remember(config: CleanCorpus, files: list[str]) -> None:
    """Writes what the result depends on, or compares it with what is there."""
    settings = json.loads(json.dumps({**dataclasses.asdict(config), "files": files}))
    for name in ("inputs", "output", "executor", "keep_dropped"):
        del settings[name]
    path = Path(config.output) / "settings.json"
    if not path.exists():
        write_text(path, json.dumps(settings, ensure_ascii=False, indent=1) + "\n")
        return
    there = json.loads(path.read_text("utf-8"))
    different = sorted(name for name in settings | there if settings.get(name) != there.get(name))
    if different:
        raise ValueError(
            f"{config.output} holds a corpus of other settings ({', '.join(different)} differ, see {path}); set another"
            " CleanCorpus.output, or delete the folder to make it anew"
        )
