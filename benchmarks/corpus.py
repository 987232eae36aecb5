"""The speed of the blocks and stages that clean text, beside datatrove's own on the same text in the same run.

python benchmarks/corpus.py [--data ../shared/data/pretrain] [--seconds 2] [--languages zh,en] [--stock]
    [--benchmarks ../shared/data/eval] [--end_to_end] [--markdown FILE]

MB of UTF-8 text a second of one core's processor time. Each block goes over documents drawn evenly from all files of
a language, once or more, until --seconds have passed, after some that do not count. With --stock datatrove's go over
the same documents, as far as they come in that time: it needs spaCy (`pip install spacy`, words of Chinese by jieba)
and an xxhash before 4, because datatrove 0.10 hands it strings. Decontamination is measured where --benchmarks is
given; datatrove's needs lighteval and is left out. Every block sees all documents, also those that another
would drop. With --end_to_end the whole pipeline goes over all of the raw files, a stage in a process and a task at a
time: seconds of processor time, and the peak memory of that one worker, with the raw files as they are and joined to
one a language. Prints tables and JSON; FILE gets a twin in `.json`.
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

from mindllm_jax.corpus.contamination.filter import Decontaminate, WriteIndex
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
"""Text of a language."""
LONGEST = 100_000
"""Characters of a document."""
TAGS = {"zh": "cmn", "en": "eng"}

Step = Callable[[Iterator[Document]], Any]
"""Takes documents to their end."""


def sample(folder: Path, language: str, megabytes: float) -> list[Document]:
    """Documents of a language, evenly from each file, in the order of a shuffle."""
    random, files = np.random.default_rng(1), document_files(folder / language)
    found = []
    for file in files:
        documents = [x for x in read_documents(file, on_bad="skip") if len(x.text) <= LONGEST]
        size = 0
        for place in random.permutation(len(documents)):
            document = documents[place]
            metadata = {"source": document.source, "lang": language, "url": ""}
            found.append(Document(document.text, document.id, metadata=metadata))
            size += len(document.text.encode())
            if size > megabytes * 1e6 / len(files):
                break
    return [found[place] for place in random.permutation(len(found))]


def speed(step: Step, documents: list[Document], seconds: float) -> float:
    """MB a second of processor time; over the documents once or, if that is short, again, and not beyond the time."""
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


def block(step: Any) -> Step:
    """A filter or formatter as a step; what it yields is thrown away."""

    def run(documents: Iterator[Document]) -> None:
        for _ in step.run(documents):
            pass

    return run


def ours(language: str, folder: Path, benchmarks: Path | None) -> Iterator[tuple[str, Step]]:
    """Names and steps."""
    yield "markup", block(Markup())
    yield "format", block(Format())
    yield "language", block(Language())
    yield "quality", block(Quality(QualityRules()))
    yield "privacy", block(Privacy())
    if benchmarks:
        config = Decontamination(str(benchmarks))
        if not (folder / "index/index.npz").exists():
            WriteIndex(f"{folder}/index", config).run()
        yield "decontaminate", block(Decontaminate(f"{folder}/index", config))
    yield "exact signatures", ExactDedupSignature(f"{folder}/exact", config=exact_config()).run
    yield "lines: count", CountLines(f"{folder}/lines", Repeats()).run
    for part in range(Repeats().partitions):
        FindRepeats(f"{folder}/lines", f"{folder}/found", Repeats()).run(None, part)
    yield "lines: drop", block(DropRepeats(f"{folder}/found", Repeats()))
    yield "MinHash signatures", Signatures(f"{folder}/signatures", MinHash()).run


def stock(language: str, folder: Path) -> Iterator[tuple[str, list[tuple[str, Step]]]]:
    """datatrove's steps, by the name of ours that does what they do."""
    from datatrove.pipeline.dedup.minhash import MinhashDedupSignature

    tag = TAGS[language]
    yield (
        "quality",
        [
            ("GopherQualityFilter", block(GopherQualityFilter(language=tag))),
            ("GopherRepetitionFilter", block(GopherRepetitionFilter(language=tag))),
            ("C4QualityFilter", block(C4QualityFilter(language=tag))),
        ],
    )
    yield "privacy", [("PIIFormatter", block(PIIFormatter()))]
    config = ExactDedupConfig(content_getter=_text)
    yield "exact signatures", [("ExactDedupSignature", ExactDedupSignature(f"{folder}/stock", config=config).run)]
    signatures = MinhashDedupSignature(f"{folder}/stock_signatures", language=tag)
    yield "MinHash signatures", [("MinhashDedupSignature", signatures.run)]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/pretrain"), help="has folders zh and en")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a block")
    parser.add_argument("--languages", default="zh,en")
    parser.add_argument("--stock", action="store_true", help="also datatrove's own blocks")
    parser.add_argument("--benchmarks", type=Path, help="raw files to look for")
    parser.add_argument("--end_to_end", action="store_true", help="also the whole pipeline, with its memory")
    parser.add_argument("--markdown", type=Path, help="a file for the tables")
    arguments = parser.parse_args()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("datatrove", "numpy"))
    command = shlex.join(["python", "benchmarks/corpus.py", *sys.argv[1:]])
    text = (
        f"# The blocks that clean text\n\nRebuilt by `{command}`, which says what is measured; MB/s of one core;"
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
                own = speed(step, documents, arguments.seconds)
                for peer, run in peers.get(name, []) or [(None, None)]:
                    if run is None:
                        rows.append((name, own, None, None, None))
                    else:
                        run(iter(_copies(documents[:20])))
                        theirs = speed(run, documents, arguments.seconds)
                        rows.append((name, own, peer, theirs, own / theirs))
                    print(language, *rows[-1], file=sys.stderr)
        size = sum(len(document.text.encode()) for document in documents) / 1e6
        columns = ("stage", "MB/s", "datatrove's", "its MB/s", "times as fast")
        caption = f"{language}: {len(documents):,} documents, {size:.1f} MB."
        text += f"\n{Table(columns, rows, caption).markdown()}"
        results[language] = [dict(zip(columns, row, strict=True)) for row in rows]
    if arguments.end_to_end:
        folders = [arguments.data / language for language in arguments.languages.split(",")]
        table = whole(folders, arguments.benchmarks)
        text += f"\n{table.markdown()}"
        results["end to end"] = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    print(text)
    print(json.dumps(results))
    if arguments.markdown:
        write_text(arguments.markdown, text)
        write_text(arguments.markdown.with_suffix(".json"), json.dumps(results, indent=1) + "\n")


def whole(folders: list[Path], benchmarks: Path | None) -> Table:
    """Seconds and memory of each stage over all raw files."""
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
    columns = ("stage", "tasks", "seconds", "MB/s", "peak MB", "peak MB, a shard a language")
    return Table(columns, rows, f"End to end: {size:.0f} MB of raw text; MB are of raw text, whatever a stage sees.")


def _text(document: Document) -> str:
    return document.text


def _copies(documents: list[Document]) -> list[Document]:
    return [Document(x.text, x.id, metadata=dict(x.metadata)) for x in documents]


if __name__ == "__main__":
    main()
