"""Measures the speed of the cleaning filters and pipeline stages, beside datatrove's on the same text in the same run.

python benchmarks/corpus.py [--data ../shared/data/pretrain] [--seconds 2] [--languages zh,en] [--stock]
    [--benchmarks ../shared/data/eval] [--end_to_end] [--markdown FILE]

MB of UTF-8 text per second of one core's processor time. After a warm-up, each filter reads documents drawn evenly from
all files of a language until --seconds have passed, also those that another filter would drop. With --stock datatrove's
filters read the same documents in the same time: this needs spaCy (`pip install spacy`), which splits Chinese with
jieba, and an xxhash before 4, because datatrove 0.10 passes it strings. Decontamination is measured with --benchmarks;
datatrove's needs lighteval and is not measured. With --end_to_end the pipeline reads all raw files, a stage in a
process and a task at a time: seconds of processor time and peak memory of that worker, with the raw files as they are
and joined to one per language. Prints tables and JSON; FILE gets a twin in `.json`.
"""

import argparse
import importlib.metadata
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from corpus_stages import end_to_end, joined
from datatrove.data import Document
from datatrove.pipeline.dedup.exact_dedup import ExactDedupConfig, ExactDedupSignature
from datatrove.pipeline.filters.c4_filters import C4QualityFilter
from datatrove.pipeline.filters.gopher_quality_filter import GopherQualityFilter
from datatrove.pipeline.filters.gopher_repetition_filter import GopherRepetitionFilter
from datatrove.pipeline.formatters.pii import PIIFormatter

from mindllm_jax.corpus.contamination.filter import Decontaminate
from mindllm_jax.corpus.contamination.index import WriteIndex
from mindllm_jax.corpus.dedup.exact import exact_config
from mindllm_jax.corpus.dedup.lines import CountLines, DropRepeats, FindRepeats
from mindllm_jax.corpus.dedup.minhash import Signatures
from mindllm_jax.corpus.filters.format import Format
from mindllm_jax.corpus.filters.language import Language
from mindllm_jax.corpus.filters.markup import Markup
from mindllm_jax.corpus.filters.privacy import Privacy
from mindllm_jax.corpus.filters.quality import Quality
from mindllm_jax.corpus.settings import Decontamination, MinHash, QualityRules, Repeats
from mindllm_jax.files import write_text
from mindllm_jax.reporting.tables import Table
from mindllm_jax.text.documents import document_files, read_documents

MEGABYTES = 8
"""Text per language."""
LONGEST = 100_000
"""Characters of a document at most."""
TAGS = {"zh": "cmn", "en": "eng"}

Step = Callable[[Iterator[Document]], Any]
"""Reads documents to their end."""


def sample(folder: Path, language: str, megabytes: float) -> list[Document]:
    """Returns shuffled documents of a language, evenly from each file."""
    random, files = np.random.default_rng(1), document_files(folder / language)
    sampled = []
    for file in files:
        documents = [x for x in read_documents(file, on_bad="skip") if len(x.text) <= LONGEST]
        size = 0
        for place in random.permutation(len(documents)):
            document = documents[place]
            metadata = {"source": document.source, "lang": language, "url": ""}
            sampled.append(Document(document.text, document.id, metadata=metadata))
            size += len(document.text.encode())
            if size > megabytes * 1e6 / len(files):
                break
    return [sampled[place] for place in random.permutation(len(sampled))]


def speed(step: Step, documents: list[Document], seconds: float) -> float:
    """Returns MB per second of processor time over the documents, repeated or cut to fill the time."""
    size, start = 0, 0.0

    def copies() -> Iterator[Document]:
        nonlocal size
        for document in documents:
            if time.process_time() - start > seconds:
                return
            size += len(document.text.encode())
            yield Document(document.text, document.id, metadata=dict(document.metadata))

    start = time.process_time()
    while time.process_time() - start < seconds:
        step(copies())
    return size / 1e6 / (time.process_time() - start)


def exhaust(step: Any) -> Step:
    """Returns a step that runs a filter or formatter and discards its output."""

    def run(documents: Iterator[Document]) -> None:
        for _ in step.run(documents):
            pass

    return run


def ours(language: str, folder: Path, benchmarks: Path | None) -> Iterator[tuple[str, Step]]:
    """Yields our steps by name."""
    yield "markup", exhaust(Markup())
    yield "format", exhaust(Format())
    yield "language", exhaust(Language())
    yield "quality", exhaust(Quality(QualityRules()))
    yield "privacy", exhaust(Privacy())
    if benchmarks:
        config = Decontamination(str(benchmarks))
        if not (folder / "index/index.npz").exists():
            WriteIndex(f"{folder}/index", config).run()
        yield "decontaminate", exhaust(Decontaminate(f"{folder}/index", config))
    yield "exact signatures", ExactDedupSignature(f"{folder}/exact", config=exact_config()).run
    yield "lines: count", CountLines(f"{folder}/lines", Repeats()).run
    for part in range(Repeats().partitions):
        FindRepeats(f"{folder}/lines", f"{folder}/found", Repeats()).run(None, part)
    yield "lines: drop", exhaust(DropRepeats(f"{folder}/found", Repeats()))
    yield "MinHash signatures", Signatures(f"{folder}/signatures", MinHash()).run


def stock(language: str, folder: Path) -> Iterator[tuple[str, list[tuple[str, Step]]]]:
    """Yields datatrove's steps by the name of our step for the same task."""
    from datatrove.pipeline.dedup.minhash import MinhashDedupSignature

    tag = TAGS[language]
    yield (
        "quality",
        [
            ("GopherQualityFilter", exhaust(GopherQualityFilter(language=tag))),
            ("GopherRepetitionFilter", exhaust(GopherRepetitionFilter(language=tag))),
            ("C4QualityFilter", exhaust(C4QualityFilter(language=tag))),
        ],
    )
    yield "privacy", [("PIIFormatter", exhaust(PIIFormatter()))]
    config = ExactDedupConfig(content_getter=_text)
    yield "exact signatures", [("ExactDedupSignature", ExactDedupSignature(f"{folder}/stock", config=config).run)]
    signatures = MinhashDedupSignature(f"{folder}/stock_signatures", language=tag)
    yield "MinHash signatures", [("MinhashDedupSignature", signatures.run)]


def main() -> None:
    """Measures, prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/pretrain"), help="has folders zh and en")
    parser.add_argument("--seconds", type=float, default=2.0, help="per filter")
    parser.add_argument("--languages", default="zh,en")
    parser.add_argument("--stock", action="store_true", help="also datatrove's filters")
    parser.add_argument("--benchmarks", type=Path, help="raw files of benchmarks, for decontamination")
    parser.add_argument("--end_to_end", action="store_true", help="also the pipeline, with its memory")
    parser.add_argument("--markdown", type=Path, help="a file for the tables")
    arguments = parser.parse_args()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("datatrove", "numpy"))
    command = shlex.join(["python", "benchmarks/corpus.py", *sys.argv[1:]])
    text = (
        f"# Speed of the cleaning filters\n\nRebuilt by `{command}`, which documents the measurement; MB/s of one core;"
        f" {versions}; {len(os.sched_getaffinity(0))} CPU cores; {date.today()}.\n"
    )
    results: dict[str, list[dict[str, Any]]] = {}
    for language in arguments.languages.split(","):
        documents = sample(arguments.data, language, MEGABYTES)
        rows: list[tuple[str, float, str | None, float | None, float | None]] = []
        with tempfile.TemporaryDirectory() as folder:
            peers = dict(stock(language, Path(folder))) if arguments.stock else {}
            for name, step in ours(language, Path(folder), arguments.benchmarks):
                # The first documents load tables and models.
                step(iter(_copies(documents[:20])))
                ours_speed = speed(step, documents, arguments.seconds)
                for peer, run in peers.get(name, []) or [(None, None)]:
                    if run is None:
                        rows.append((name, ours_speed, None, None, None))
                    else:
                        run(iter(_copies(documents[:20])))
                        peer_speed = speed(run, documents, arguments.seconds)
                        rows.append((name, ours_speed, peer, peer_speed, ours_speed / peer_speed))
                    print(language, *rows[-1], file=sys.stderr)
        size = sum(len(document.text.encode()) for document in documents) / 1e6
        columns = ("stage", "MB/s", "datatrove's", "its MB/s", "times as fast")
        caption = f"{language}: {len(documents):,} documents, {size:.1f} MB."
        text += f"\n{Table(columns, rows, caption).markdown()}"
        results[language] = [dict(zip(columns, row, strict=True)) for row in rows]
    if arguments.end_to_end:
        folders = [arguments.data / language for language in arguments.languages.split(",")]
        table = pipeline(folders, arguments.benchmarks)
        text += f"\n{table.markdown()}"
        results["end to end"] = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    print(text)
    print(json.dumps(results))
    if arguments.markdown:
        write_text(arguments.markdown, text)
        write_text(arguments.markdown.with_suffix(".json"), json.dumps(results, indent=1) + "\n")


def pipeline(folders: list[Path], benchmarks: Path | None) -> Table:
    """Returns seconds and memory of each stage over all raw files."""
    files = [file for folder in folders for file in document_files(folder)]
    size = sum(len(document.text.encode()) for file in files for document in read_documents(file, on_bad="skip")) / 1e6
    with tempfile.TemporaryDirectory() as work:
        as_they_are = list(end_to_end(folders, benchmarks, Path(work, "corpus")))
        one_each = list(end_to_end(joined(folders, Path(work, "joined")), benchmarks, Path(work, "corpus_joined")))
    rows: list[list[Any]] = [
        [many.stage, many.tasks, many.seconds, size / many.seconds, many.megabytes, one.megabytes]
        for many, one in zip(as_they_are, one_each, strict=True)
    ]
    seconds = sum(stage.seconds for stage in as_they_are)
    peaks = (max(stage.megabytes for stage in measured) for measured in (as_they_are, one_each))
    rows.append(["all", None, seconds, size / seconds, *peaks])
    columns = ("stage", "tasks", "seconds", "MB/s", "peak MB", "peak MB, one shard per language")
    return Table(columns, rows, f"End to end: {size:.0f} MB of raw text; MB/s are of raw text for every stage.")


def _text(document: Document) -> str:
    return document.text


def _copies(documents: list[Document]) -> list[Document]:
    return [Document(x.text, x.id, metadata=dict(x.metadata)) for x in documents]


if __name__ == "__main__":
    main()
