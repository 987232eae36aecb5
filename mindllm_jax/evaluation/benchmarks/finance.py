"""Finance: the sentiment of posts on shares (FinFE of BBT-FinCUGE)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mindllm_jax.evaluation.benchmarks.splits import Benchmark, Item, Split, json_values, plain_or_gzip, require

FIRST = {"train": 5000, "eval": 1000}  # posts of the shortened files that hold the first of each split


def _fincuge(folder: Path) -> Iterator[Split]:
    paths = {split: plain_or_gzip(folder / f"fin_cuge_finfe_{split}.jsonl") for split in FIRST}
    posts = {split: list(_posts(path)) for split, path in paths.items() if path.exists()}
    of_train = {post["text"] for post in posts.get("train", ())}
    for split, own in posts.items():
        notes = [f"The first {len(own):,} posts of {split}."] if len(own) == FIRST[split] else []
        if split == "train":
            yield Split("mindllm/finfe", "default", split, _with_examples_first(own), (paths[split],), {}, tuple(notes))
            continue
        if both := sum(post["text"] in of_train for post in own):
            notes.append(f"{both:,} of the {len(own):,} posts of eval stand in train as well.")
        yield Split("mindllm/finfe", "default", "test", own, (paths[split],), {}, tuple(notes))


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
            "FinFE of BBT-FinCUGE. Few-shot examples are the first posts of train, two of each label.",
            "The labels 0, 1, 2 are read as negative, neutral, positive, from the texts: no file at hand names them.",
        ),
    )
}
