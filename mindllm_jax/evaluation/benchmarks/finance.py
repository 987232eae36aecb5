"""Finance: the sentiment of posts on shares (FinFE of BBT-FinCUGE)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mindllm_jax.evaluation.benchmarks.splits import Benchmark, Item, Split, json_values, require

FILES = {"train": "fin_cuge_finfe_train.jsonl.gz", "eval": "fin_cuge_finfe_eval.jsonl"}


def _fincuge(folder: Path) -> Iterator[Split]:
    for split, file in FILES.items():
        if (path := folder / file).exists():
            posts = list(_posts(path))
            items = _with_examples_first(posts) if split == "train" else posts
            yield Split("mindllm/finfe", "default", "test" if split == "eval" else split, items, (path,))


def _with_examples_first(posts: list[Item]) -> list[Item]:
    """Puts the first two posts of each label in front, in turn: the first five alone have none that is positive."""
    of_each = [[number for number, post in enumerate(posts) if post["label"] == label][:2] for label in range(3)]
    first = [numbers[turn] for turn in range(2) for numbers in of_each if turn < len(numbers)]
    return [posts[number] for number in first] + [post for number, post in enumerate(posts) if number not in first]


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
            "FinFE of BBT-FinCUGE: the first 1,000 items of eval, few-shot examples from the first 5,000 of train, two"
            " of each label. 152 of the 1,000 texts stand among the 5,000 as well.",
            "The labels 0, 1, 2 are read as negative, neutral, positive, from the texts: no file at hand names them.",
        ),
    )
}
