"""Measures the detection of benchmark items hidden in real documents, and the share of clean documents flagged.

python benchmarks/contamination.py [--data ../shared/data/pretrain] [--benchmarks ../shared/data/eval] [--items 50]
    [--seed 1] [--ngram_words N] [--ngram_chars N] [--min_ngram_share S] [--markdown FILE]

Items are drawn evenly over the benchmarks, then over their items that have an n-gram that counts (the others are
numbered). Each is hidden with its question, choices and answer in an unflagged document of its language, and again in
one of the other: as a paragraph or within one. Before that its spacing and punctuation change: blanks doubled or
inserted between Chinese characters; signs half-width for full-width and vice versa, every fifth a blank; lines joined;
some letters in upper case.

Flagged is the share of the documents that are flagged before anything is hidden. Contamination is expected in the
sources of statutes, which law exams quote, and of finance news, which share articles with data sets of finance: the
share without these is of clean documents. datatrove's decontamination is not measured: it needs lighteval. Prints
tables and JSON; FILE gets a twin in `.json`.
"""

import argparse
import importlib.metadata
import json
import os
import shlex
import sys
import time
from collections import Counter
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mindllm_jax.corpus.contamination.filter import contamination
from mindllm_jax.corpus.contamination.index import Index, build_index, item_passages
from mindllm_jax.corpus.contamination.items import benchmark_files, items
from mindllm_jax.corpus.settings import Decontamination
from mindllm_jax.files import write_text
from mindllm_jax.reporting.tables import Table
from mindllm_jax.text.codepoints import canonical, codepoints
from mindllm_jax.text.documents import Document, document_files, read_documents
from mindllm_jax.text.ngrams import tokens

CONTAMINATED = ("prc_laws", "finance_news_zh")
"""Sources that share text with benchmarks."""
LONGEST = 3000
"""Characters of an item that is hidden."""
WIDE = str.maketrans("，。；：？！（）,.;:?!()", ",.;:?!()，。；：？！（）")


class Item(NamedTuple):
    """An item of a benchmark as one text."""

    benchmark: str
    text: str
    language: str


class Flagged(NamedTuple):
    """Counts of a corpus: documents and flagged ones by source, the clean ones by language, bytes and seconds."""

    documents: Counter[str]
    flagged: Counter[str]
    clean: dict[str, list[Document]]
    size: int
    seconds: float


def flag(folder: Path, index: Index, config: Decontamination) -> Flagged:
    """Decontaminates all documents in `folder`."""
    counts = Flagged(Counter(), Counter(), {"zh": [], "en": []}, 0, 0.0)
    size, seconds = 0, 0.0
    for language in ("zh", "en"):
        for file in document_files(folder / language):
            for document in read_documents(file, on_bad="skip"):
                start = time.process_time()
                names, _ = contamination(document.text, index, config)
                seconds += time.process_time() - start
                size += len(document.text.encode())
                counts.documents[document.source] += 1
                if names:
                    counts.flagged[document.source] += 1
                    print(document.id, names, file=sys.stderr)
                elif 300 <= len(document.text) <= 20_000:
                    counts.clean[language].append(document)
    return counts._replace(size=size, seconds=seconds)


def draw(config: Decontamination, count: int, random: np.random.Generator) -> list[Item]:
    """Draws items that are long enough from the benchmarks in turn."""
    drawn: list[Item] = []
    files = list(benchmark_files(Path(config.benchmarks)).items())
    while len(drawn) < count:
        name, paths = files[len(drawn) % len(files)]
        rows = [row for row in items(paths[random.integers(len(paths))]) if any(row)]
        text = "\n".join(rows[random.integers(len(rows))]) if rows else ""
        if text and len(text) <= LONGEST and not item_passages([[text]], config).too_short:
            drawn.append(Item(name, text, "zh" if tokens(text).is_han.mean() >= 0.5 else "en"))
    return drawn


def reworded(text: str, random: np.random.Generator) -> str:
    """Returns the text with other spacing and punctuation, and the same letters and digits."""
    pieces = []
    for character, counts in zip(text, canonical()[codepoints(text)] > 0, strict=True):
        chance = random.random()
        if character.isspace():
            pieces.append("  " if chance < 0.3 else " ")
        elif counts:
            pieces.append(character + " " * (character > "\u3400" and chance < 0.1))
        else:
            pieces.append(" " if chance < 0.2 else character.translate(WIDE) if chance < 0.8 else character)
    words = "".join(pieces).split(" ")
    return " ".join(word.upper() if random.random() < 0.05 else word for word in words)


def hidden(item: Item, document: Document, random: np.random.Generator) -> str:
    """Returns the document with the item between two paragraphs or, one time in two, within one."""
    text = reworded(item.text, random)
    if random.random() < 0.5:
        lines = document.text.split("\n")
        place = int(random.integers(len(lines) + 1))
        return "\n".join([*lines[:place], text, *lines[place:]])
    place = int(random.integers(len(document.text)))
    return f"{document.text[:place]} {text} {document.text[place:]}"


def main() -> None:
    """Indexes, flags, hides, prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/pretrain"), help="has folders zh and en")
    parser.add_argument("--benchmarks", default="../shared/data/eval", help="the raw files")
    parser.add_argument("--items", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    for field in fields(Decontamination):
        if field.name in ("ngram_words", "ngram_chars", "min_ngram_share"):
            parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    parser.add_argument("--markdown", type=Path, help="a file for the tables")
    arguments = parser.parse_args()
    config = Decontamination(
        arguments.benchmarks, arguments.ngram_words, arguments.ngram_chars, arguments.min_ngram_share
    )
    index, counts = build_index(config)
    corpus, random = flag(arguments.data, index, config), np.random.default_rng(arguments.seed)
    drawn = draw(config, arguments.items, random)
    hits: dict[str, int] = {}
    for where in ("own", "other"):
        hits[where] = 0
        for item in drawn:
            language = item.language if where == "own" else {"zh": "en", "en": "zh"}[item.language]
            documents = corpus.clean[language]
            text = hidden(item, documents[random.integers(len(documents))], random)
            names, _ = contamination(text, index, config)
            hits[where] += item.benchmark in names
            if item.benchmark not in names:
                print(f"missed in the {where} language: {item}", file=sys.stderr)
    total, clean = corpus.documents.total(), sum(corpus.documents[s] for s in corpus.documents if s not in CONTAMINATED)
    flagged = corpus.flagged.total(), sum(corpus.flagged[s] for s in corpus.flagged if s not in CONTAMINATED)
    command = shlex.join(["python", "benchmarks/contamination.py", *sys.argv[1:]])
    results = {
        f"of {len(drawn)} items found in a document of their language": hits["own"],
        f"of {len(drawn)} items found in a document of the other language": hits["other"],
        "documents": total,
        "flagged, %": 100 * flagged[0] / total,
        "clean documents": clean,
        "clean flagged, %": 100 * flagged[1] / clean,
        "items of the benchmarks": sum(row["items"] for row in counts.values()),
        "items too short for an n-gram": sum(row["too short"] for row in counts.values()),
        "MB/s": corpus.size / 1e6 / corpus.seconds,
    }
    text = (
        f"# Contamination\n\nRebuilt by `{command}`, which documents the rows; numpy"
        f" {importlib.metadata.version('numpy')}; {len(os.sched_getaffinity(0))} CPU cores; {date.today()};"
        f" {config.ngram_words}-grams of words or {config.ngram_chars}-grams of characters, {config.min_ngram_share:g}"
        " of an item's.\n\n"
    )
    shown = [(name, f"{value:,.4g}" if isinstance(value, float) else f"{value:,}") for name, value in results.items()]
    text += Table(("", ""), shown).markdown()
    rows = [(s, corpus.documents[s], n, 100 * n / corpus.documents[s]) for s, n in corpus.flagged.most_common()]
    text += "\n" + Table(("source", "documents", "flagged", "%"), rows, "Sources with documents flagged.").markdown()
    print(text)
    print(json.dumps(results))
    if arguments.markdown:
        write_text(arguments.markdown, text)
        write_text(arguments.markdown.with_suffix(".json"), json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
