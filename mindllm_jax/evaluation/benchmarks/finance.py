"""Finance: the sentiment of posts on shares (FinFE of BBT-FinCUGE)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mindllm_jax.evaluation.benchmarks.splits import Benchmark, Item, Split, json_values, require

FILES = {"train": "fin_cuge_finfe_train.jsonl.gz", "eval": "fin_cuge_finfe_eval.jsonl"}


def _fincuge(folder: Path) -> Iterator[Split]:
    for split, file in FILES.items():
        if (path := folder / file).exists():
            yield Split("mindllm/finfe", "default", "test" if split == "eval" else split, list(_posts(path)), (path,))


def _posts(path: Path) -> Iterator[Item]:
    for number, row in json_values(path):
        where = f"{path}, line {number}"
        require(isinstance(row, list) and len(row) == 2 and isinstance(row[0], str), where, "not [TEXT, LABEL]")
        require(bool(row[0].strip()), where, "an empty text")
        require(row[1] in (0, 1, 2), where, f"the label {row[1]!r} is none of 0, 1, 2")
        yield {"text": row[0], "label": row[1]}


BENCHMARKS = {
    "fincuge": Benchmark(
        _fincuge,
        (
            "FinFE of BBT-FinCUGE: the first 1,000 items of eval, few-shot examples from the first 5,000 of train.",
            "The labels 0, 1, 2 are read as negative, neutral, positive, from the texts: no file at hand names them.",
        ),
    )
}
