"""Measures the detection of near-duplicates planted in real text: recall, and precision of what is removed.

python benchmarks/planted.py [--data ../shared/data/pretrain] [--each 60] [--others 2000] [--seed 1] [--stock]
    [--ngram_words N] [--ngram_chars N] [--buckets N] [--hashes_per_bucket N] [--min_similarity S]
    [--bounds 0.45,0.5,0.55,0.6,0.65] [--markdown FILE]

Per language, --each copies of each kind (`planted_copies.py`) are mixed with their originals and --others further
documents of 500 to 8,000 characters, which include all sources that repeat themselves: laws with their versions,
licences, editions of a book, repeated news; and with all pages of manuals (`TEMPLATES`), which have one form and are no
copies. They pass the stages of the pipeline: repeated lines, Signatures, datatrove's buckets, Cluster. With --stock
also datatrove's own stages with its settings (5-grams of words, 14 buckets of 8 hashes), Chinese as `cmn`: this needs
spaCy (`pip install spacy`), which splits Chinese with jieba, and an xxhash before 4, because datatrove 0.10 passes it
strings.

Recall is the share of the planted pairs of which at least one document is removed. A template merged is a page of a
manual that is removed although no kept document has a Jaccard similarity of at least 0.8 with it, as below. A second
table has both for each of --bounds in place of min_similarity, with and without a look at the facts. Precision is
measured on the removed documents that are neither original nor copy: the share whose character 5-grams have a Jaccard
similarity of at least 0.5, or 0.4, with those of a kept document, ignoring spaces, punctuation, case and script.
Seconds are of the processor, for the signatures alone. Prints tables and JSON; FILE gets a twin in `.json`.
"""

import argparse
import importlib.metadata
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster
from planted_copies import Planted, documents, plant
from scipy.sparse import csr_array

from mindllm_jax.corpus.dedup.cluster import Cluster
from mindllm_jax.corpus.dedup.lines import CountLines, DropRepeats, FindRepeats
from mindllm_jax.corpus.dedup.minhash import Signatures, stock_config
from mindllm_jax.corpus.settings import MinHash, Repeats
from mindllm_jax.files import write_text
from mindllm_jax.reporting.tables import Table
from mindllm_jax.text.codepoints import canonical, codepoints
from mindllm_jax.text.documents import Document as Raw
from mindllm_jax.text.ngrams import ngrams

GRAM = 5
"""Characters of an n-gram, for the similarity of removed and kept documents."""

SAME = 0.8
"""Similarity at which a page of a manual is a copy of another."""


class Removed(NamedTuple):
    """The removed documents by place in the texts, and the seconds for the signatures."""

    removed: set[int]
    seconds: float


def without_boilerplate(candidates: list[Raw], folder: Path) -> list[Raw]:
    """Returns the documents without the lines that the pipeline removes before it compares them."""
    config = Repeats()
    rows = [Document(raw.text, raw.id, metadata={"source": raw.source, "place": n}) for n, raw in enumerate(candidates)]
    CountLines(f"{folder}/counted", config).run(rows)
    for rank in range(config.partitions):
        FindRepeats(f"{folder}/counted", f"{folder}/repeats", config).run(None, rank)
    kept = DropRepeats(f"{folder}/repeats", config).run(rows)
    return [replace(candidates[document.metadata["place"]], text=document.text) for document in kept]


def ours(planted: Planted, config: MinHash, folder: Path) -> Removed:
    """Runs our signatures and clusters with datatrove's buckets; `folder` keeps them for `cluster`."""
    start = time.process_time()
    Signatures(f"{folder}/signatures", config).run(_stream(planted))
    seconds = time.process_time() - start
    for rank in range(config.buckets):
        buckets = MinhashDedupBuckets(f"{folder}/signatures", f"{folder}/pairs", config=stock_config(config))
        buckets.run(None, rank, config.buckets)
    return Removed(cluster(config, folder), seconds)


def cluster(config: MinHash, folder: Path) -> set[int]:
    """Returns the removed documents of the pairs in `folder` for a bound on the similarity."""
    name = f"{folder}/removed-{config.min_similarity}-{config.compare_facts}"
    Cluster(f"{folder}/pairs", f"{folder}/signatures", name, config).run()
    return _removed(Path(name))


def curve(planted: Planted, config: MinHash, bounds: list[float], folder: Path) -> dict[str, dict[str, float]]:
    """Returns recall by kind, the merged templates and the other removed documents for each bound."""
    rows = {}
    for bound in bounds:
        for compare_facts in (False, True):
            removed = cluster(replace(config, min_similarity=bound, compare_facts=compare_facts), folder)
            name = f"{bound:g}, facts compared" if compare_facts else f"{bound:g}"
            rows[name] = recall(planted, removed) | {
                "templates merged": merged_templates(planted, removed),
                "others removed": len(_unplanted(planted, removed) - set(planted.templates)),
            }
    return rows


def merged_templates(planted: Planted, removed: set[int]) -> int:
    """Returns the number of removed templates that are unlike every kept document."""
    gone = sorted(_unplanted(planted, removed))
    templates = np.isin(gone, planted.templates)
    return int((templates & (nearest(planted, removed) < SAME)).sum())


def _unplanted(planted: Planted, removed: set[int]) -> set[int]:
    return removed - {place for pairs in planted.pairs.values() for pair in pairs for place in pair}


def stock(planted: Planted, language: str, folder: Path) -> Removed:
    """Runs datatrove's stages with its settings."""
    from datatrove.pipeline.dedup.minhash import MinhashDedupSignature

    config = MinhashConfig()
    signatures = MinhashDedupSignature(f"{folder}/signatures", config, {"zh": "cmn", "en": "eng"}[language])
    signatures.get_shingles("Loads the word splitter. 词")
    start = time.process_time()
    signatures.run(_stream(planted))
    seconds = time.process_time() - start
    for rank in range(config.num_buckets):
        MinhashDedupBuckets(f"{folder}/signatures", f"{folder}/pairs", config=config).run(None, rank, 14)
    MinhashDedupCluster(f"{folder}/pairs", f"{folder}/removed", config).run(None)
    return Removed(_removed(folder / "removed"), seconds)


def recall(planted: Planted, removed: set[int]) -> dict[str, float]:
    """Returns by kind the share of the pairs of which at least one document is removed."""
    return {
        kind: sum(bool(removed.intersection(pair)) for pair in pairs) / len(pairs)
        for kind, pairs in planted.pairs.items()
    }


def nearest(planted: Planted, removed: set[int]) -> np.ndarray:
    """Returns the greatest similarity of each removed document that was not planted with a kept one, float."""
    sets = [_grams(text) for text in planted.texts]
    vocabulary, columns = np.unique(np.concatenate(sets), return_inverse=True)
    sizes = np.array([len(grams) for grams in sets])
    rows = np.concatenate([[0], np.cumsum(sizes)])
    matrix = csr_array((np.ones(len(columns), np.int32), columns, rows), shape=(len(sets), len(vocabulary)))
    gone = sorted(_unplanted(planted, removed))
    kept = sorted(set(range(len(sets))) - removed)
    if not gone:
        return np.zeros(0)
    common = (matrix[gone] @ matrix[kept].T).toarray()
    return (common / (sizes[gone][:, None] + sizes[kept] - common)).max(1)


def _grams(text: str) -> np.ndarray:
    points = canonical()[codepoints(text)]
    return np.unique(ngrams(points[points > 0].astype(np.uint64), GRAM))


def _stream(planted: Planted) -> Iterator[Document]:
    for number, (text, source) in enumerate(zip(planted.texts, planted.sources, strict=True)):
        yield Document(text, str(number), metadata={"source": source})


def _removed(folder: Path) -> set[int]:
    return {int(number) for file in folder.glob("*.remove") for number in np.fromfile(file, "<u4")}


def main() -> None:
    """Plants copies, runs the stages, prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/pretrain"), help="has folders zh and en")
    parser.add_argument("--each", type=int, default=60, help="copies per kind and language")
    parser.add_argument("--others", type=int, default=2000, help="further documents per language")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--languages", default="zh,en")
    parser.add_argument("--stock", action="store_true", help="also datatrove's own stages")
    for field in fields(MinHash):
        if field.name not in ("seed", "compare_facts"):
            parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    parser.add_argument("--bounds", default="0.45,0.5,0.55,0.6,0.65")
    parser.add_argument("--markdown", type=Path, help="a file for the tables")
    arguments = parser.parse_args()
    settings = {
        field.name: getattr(arguments, field.name) for field in fields(MinHash) if hasattr(arguments, field.name)
    }
    config = MinHash(**settings)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("datatrove", "numpy"))
    command = shlex.join(["python", "benchmarks/planted.py", *sys.argv[1:]])
    text = (
        f"# Planted near-duplicates\n\nRebuilt by `{command}`, which documents the columns; {versions};"
        f" {len(os.sched_getaffinity(0))} CPU cores; {date.today()}; {config}.\n"
    )
    results: dict[str, Any] = {}
    for language in arguments.languages.split(","):
        with tempfile.TemporaryDirectory() as folder:
            candidates = without_boilerplate(list(documents(arguments.data, (language,))), Path(folder))
        planted = plant(candidates, arguments.each, arguments.others, arguments.seed)
        size = sum(len(text.encode()) for text in planted.texts) / 1e6
        runs = {}
        with tempfile.TemporaryDirectory() as folder:
            runs["ours"] = ours(planted, config, Path(folder) / "ours")
            bounds = curve(
                planted, config, [float(bound) for bound in arguments.bounds.split(",")], Path(folder) / "ours"
            )
            if arguments.stock:
                runs["stock"] = stock(planted, language, Path(folder) / "stock")
        recalls = {name: recall(planted, run.removed) for name, run in runs.items()}
        judged = {name: nearest(planted, run.removed) for name, run in runs.items()}
        caption = f"{language}: {len(planted.texts):,} documents, {size:.1f} MB; {arguments.each} pairs per kind."
        figures = {f"recall, {kind}": [recalls[name][kind] for name in runs] for kind in planted.pairs}
        figures |= {"templates merged": [merged_templates(planted, run.removed) for run in runs.values()]}
        figures |= {"others removed": [len(judged[name]) for name in runs]}
        figures |= {
            f"precision at {least}": [float((judged[name] >= least).mean()) for name in runs] for least in (0.5, 0.4)
        }
        figures |= {"signatures, MB/s": [size / run.seconds for run in runs.values()]}
        rows = [(name, *(f"{value:.3g}" for value in values)) for name, values in figures.items()]
        text += f"\n{Table(('', *runs), rows, caption).markdown()}"
        columns = list(next(iter(bounds.values())))
        rows = [(name, *(f"{row[column]:.3g}" for column in columns)) for name, row in bounds.items()]
        text += f"\n{Table(('min_similarity', *columns), rows).markdown()}"
        results[language] = {name: dict(zip(runs, values, strict=True)) for name, values in figures.items()}
        results[language]["bounds"] = bounds
        print(language, json.dumps(results[language]), file=sys.stderr)
    print(text)
    print(json.dumps(results))
    if arguments.markdown:
        write_text(arguments.markdown, text)
        write_text(arguments.markdown.with_suffix(".json"), json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
