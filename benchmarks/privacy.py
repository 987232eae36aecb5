"""Measures which personal data privacy rules replace, which look-alikes they hit, and their speed.

python benchmarks/privacy.py [--data ../shared/data/pretrain] [--megabytes 5] [--rounds 5] [--before FILE]
    [--markdown FILE]

`privacy_items.txt` holds invented personal data in sentences of two languages, and look-alikes: versions, amounts,
dates, identifiers, code. An item counts as replaced if nothing of it is left as it stood, a look-alike as hit if its
text changes. Beside our rules run datatrove's PIIFormatter (email and IP addresses) and, with --before, the module in
FILE, an older `mindllm_jax/corpus/filters/privacy.py` of one file, as `git show c7e7821:…` prints it. Speed is the best
of --rounds rounds over the first documents of every source, all rules in turn in one process. Prints tables and JSON.
"""

import argparse
import importlib.util
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

from datatrove.pipeline.formatters.pii import PIIFormatter

from mindllm_jax.corpus.filters.privacy import without_personal_data
from mindllm_jax.files import write_text
from mindllm_jax.reporting.tables import Cell, Table
from mindllm_jax.text.documents import document_files, read_documents

ITEMS = Path(__file__).with_name("privacy_items.txt")
LANGUAGES = ("zh", "en")

Rules = Callable[[str], str]


class Item(NamedTuple):
    """A sentence: `values` are the personal data in it, none in a look-alike."""

    lang: str
    kind: str
    text: str
    values: list[str]


def read_items() -> list[Item]:
    """Reads the planted items and look-alikes."""
    lines = [line for line in ITEMS.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    items = (line.split(" ", 2) for line in lines)
    return [Item(lang, kind, re.sub("[«»]", "", text), re.findall("«(.*?)»", text)) for lang, kind, text in items]


def rules_of(before: Path | None) -> dict[str, Rules]:
    """Returns the rules to compare by name."""
    rules: dict[str, Rules] = {"ours": lambda text: without_personal_data(text)[0]}
    if before:
        spec = importlib.util.spec_from_file_location("before", before)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        rules["before"] = lambda text: module.without_personal_data(text)[0]
    return rules | {"PIIFormatter": PIIFormatter().format}


def count_rows(items: list[Item], rules: dict[str, Rules]) -> Iterator[list[Cell]]:
    """Yields a row per kind and language: planted items and those replaced, or look-alikes and those hit."""
    for kind, lang in dict.fromkeys((item.kind, item.lang) for item in items):
        chosen = [item for item in items if (item.kind, item.lang) == (kind, lang)]
        yield [kind, lang, len(chosen), *(sum(is_changed(item, apply) for item in chosen) for apply in rules.values())]


def is_changed(item: Item, apply: Rules) -> bool:
    """Whether rules replace all personal data of an item, or change a look-alike."""
    left = apply(item.text)
    return all(value not in left for value in item.values) if item.values else left != item.text


def speeds(folder: Path, size: int, rounds: int, rules: dict[str, Rules]) -> Iterator[list[Cell]]:
    """Yields a row per language: MB/s of all rules over the same documents, `size` bytes in all."""
    for lang in LANGUAGES:
        files = document_files(folder / lang)
        texts: list[str] = []
        for file in files:
            left = size // len(files)
            for document in read_documents(file, on_bad="skip"):
                texts.append(document.text)
                left -= len(document.text.encode())
                if left < 0:
                    break
        seconds = dict.fromkeys(rules, float("inf"))
        for _ in range(rounds):
            for name, apply in rules.items():
                start = time.process_time()
                for text in texts:
                    apply(text)
                seconds[name] = min(seconds[name], time.process_time() - start)
        read = sum(len(text.encode()) for text in texts) / 1e6
        yield [lang, read, *(read / seconds[name] for name in rules)]


def main() -> None:
    """Counts, times, prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/pretrain"), help="has folders zh and en")
    parser.add_argument("--megabytes", type=int, default=5, help="of text per language")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", type=Path, help="an older privacy.py to compare with")
    parser.add_argument("--markdown", type=Path, help="a file for the tables")
    arguments = parser.parse_args()
    rules = rules_of(arguments.before)
    rows = list(count_rows(read_items(), rules))
    planted, lookalikes = ([row for row in rows if (row[0] == "lookalike") is kind] for kind in (False, True))
    total: list[Cell] = [
        "all",
        "",
        *(sum(int(row[column] or 0) for row in planted) for column in range(2, len(rows[0]))),
    ]
    timed = list(speeds(arguments.data, arguments.megabytes * 1_000_000, arguments.rounds, rules))
    command = shlex.join(["python", "benchmarks/privacy.py", *sys.argv[1:]])
    text = (
        f"# Privacy\n\nRebuilt by `{command}`, which documents the columns; {len(os.sched_getaffinity(0))} CPU cores;"
        f" {date.today()}. Our rules were tuned on these items; `{ITEMS.name}` gives the counts of two batches before"
        " that.\n\n"
    )
    tables = (
        Table(("kind", "language", "planted", *rules), [*planted, total], "Personal data replaced."),
        Table(("kind", "language", "texts", *rules), lookalikes, "Look-alikes hit."),
        Table(("language", "MB", *rules), timed, "MB/s of one core."),
    )
    text += "\n".join(table.markdown() for table in tables)
    print(text)
    print(json.dumps({"counts": rows, "speed": timed}, ensure_ascii=False))
    if arguments.markdown:
        write_text(arguments.markdown, text)


if __name__ == "__main__":
    main()
