"""Measures what cleaning removed from inside the documents that it kept, and which of these removals damage the text.

python benchmarks/damage.py NAME=CORPUS [NAME=CORPUS ...] [--examples 8] [--markdown FILE]

CORPUS is a `CleanCorpus.output` with its `work` folder. The documents are compared line by line with the extracted text
before all cleaning (`work/text`), by source. A line that is gone was removed; a line with another wording in its place
was changed, as by a marker for personal data, and is not counted. A document is damaged if a removal breaks a rule of
`mindllm_jax/corpus/dedup/damage.py`. Corpora that were made with different code or settings are compared in one table.
Items of benchmarks are cut on purpose: make the corpora with `--gin.Decontamination.benchmarks="''"`. Prints tables and
examples; FILE gets the tables, and a twin in `.json`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple, get_args

from datatrove.data import Document
from datatrove.pipeline.readers import JsonlReader
from datatrove.utils.logging import logger

from mindllm_jax.corpus.dedup.damage import Rule, damage
from mindllm_jax.files import write_text
from mindllm_jax.reporting.tables import Cell, Table
from mindllm_jax.run_records import git_sha

RULES: tuple[Rule, ...] = get_args(Rule)
WIDTH = 100


class Measured(NamedTuple):
    """The damage to a corpus.

    Attributes:
        sources: by source, the number of documents by label: `kept`, `altered`, `damaged` and each rule; and `lines`.
        examples: by rule, the id of a document and the lines around the removal.
    """

    sources: dict[str, Counter[str]]
    examples: dict[str, list[tuple[str, str]]]


def measure(corpus: Path) -> Measured:
    """Compares the kept documents of a corpus with their text before cleaning."""
    kept = dict(_documents(corpus))
    sources: dict[str, Counter[str]] = defaultdict(Counter)
    examples: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for document in _texts(corpus):
        if document.id not in kept:
            continue
        counts = sources[document.metadata["source"]]
        counts["kept"] += 1
        lines = document.text.split("\n")
        gone = removed(lines, kept[document.id].split("\n"))
        if not gone:
            continue
        counts["altered"] += 1
        counts["lines"] += len(gone)
        wrong = list(damage(lines, gone))
        counts["damaged"] += bool(wrong)
        counts.update({rule for _, rule in wrong})
        for number, rule in wrong or [(min(gone), "none")]:
            examples[rule].append((document.id, _excerpt(lines, gone, number)))
    return Measured(dict(sorted(sources.items())), examples)


def removed(before: list[str], after: list[str]) -> set[int]:
    """Returns the numbers of the lines that are gone; blank ones are not counted."""
    places = [number for number, line in enumerate(before) if line.strip()]
    old = [before[number].strip() for number in places]
    new = [line.strip() for line in after if line.strip()]
    gone: set[int] = set()
    if old == new:
        return gone
    for tag, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "delete" or (tag == "replace" and j - i > m - k):
            gone.update(places[i + (m - k if tag == "replace" else 0) : j])
    return gone


def _excerpt(lines: list[str], gone: set[int], number: int) -> str:
    around = [n for n in range(max(0, number - 6), min(len(lines), number + 8)) if lines[n].strip()]
    return "\n".join(f"{'-' if n in gone else ' '} {lines[n][:WIDTH]}" for n in around)


def _texts(corpus: Path) -> Iterator[Document]:
    shards = len(list((corpus / "work/text").glob("*.jsonl.zst")))
    reader = JsonlReader(str(corpus / "work/text"), glob_pattern="*.jsonl.zst")
    for rank in range(shards):
        yield from reader.run(None, rank, shards)


def _documents(corpus: Path) -> Iterator[tuple[str, str]]:
    reader = JsonlReader(str(corpus / "documents"), glob_pattern="**/*.jsonl.gz", recursive=True)
    for document in reader.run(None, 0, 1):
        yield document.id, document.text


def _table(name: str, measured: Measured) -> Table:
    columns = ("kept", "altered", "lines", "damaged", *RULES)
    rows: list[list[Cell]] = [[source, *(n[c] for c in columns)] for source, n in measured.sources.items()]
    total = sum(measured.sources.values(), Counter())
    rows.append(["all", *(total[column] for column in columns)])
    return Table(("source", "documents kept", "altered", "lines removed", "damaged", *RULES), rows, name)


def main() -> None:
    """Measures each corpus; prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+", metavar="NAME=CORPUS")
    parser.add_argument("--examples", type=int, default=8, help="of each rule that is shown for the last corpus")
    parser.add_argument("--markdown", type=Path, help="a file for the tables")
    arguments = parser.parse_args()
    logger.remove()
    command = shlex.join(["python", "benchmarks/damage.py", *sys.argv[1:]])
    text = (
        f"# Damage inside kept documents\n\nRebuilt by `{command}`, which documents the columns; commit"
        f" {git_sha()[:12]}; {date.today()}. Rules count documents.\n"
    )
    results = {}
    measured = Measured({}, {})
    for corpus in arguments.corpora:
        name, _, folder = corpus.partition("=")
        measured = measure(Path(folder))
        text += f"\n{_table(name, measured).markdown()}"
        results[name] = measured.sources
    examples = ""
    for rule in (*RULES, "none"):
        if shown := measured.examples.get(rule, []):
            step = max(1, len(shown) // arguments.examples)
            title = "Removals that break no rule" if rule == "none" else f"Damage by the rule {rule}"
            examples += f"\n## {title}\n\nOf the last corpus; removed lines have a minus.\n"
            for id, excerpt in shown[::step][: arguments.examples]:
                examples += f"\n{id}\n\n````\n{excerpt}\n````\n"
    print(text + examples)
    if arguments.markdown:
        write_text(arguments.markdown, text)
        write_text(arguments.markdown.with_suffix(".json"), json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
