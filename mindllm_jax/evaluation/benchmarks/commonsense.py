"""Common sense: HellaSwag, WinoGrande and PIQA."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mindllm_jax.evaluation.benchmarks.splits import (
    Benchmark,
    Item,
    Split,
    json_lines,
    plain_or_gzip,
    require,
    text_lines,
)


def _hellaswag(folder: Path) -> Iterator[Split]:
    path = plain_or_gzip(folder / "val_subset.jsonl")
    items: list[Item] = []
    for line, row in json_lines(path, ("ctx",), ("ind", "endings", "label")):
        where = f"{path}, line {line}"
        endings, label = row["endings"], row["label"]
        is_text = isinstance(endings, list) and all(isinstance(ending, str) and ending.strip() for ending in endings)
        require(is_text and len(endings) == 4, where, "not four endings that are texts")
        require(label in range(4), where, f"the label {label!r} is none of 0 to 3")
        first, second = _halves(row["ctx"])
        items.append(
            {"ind": row["ind"], "activity_label": "", "ctx_a": first, "ctx_b": second, "ctx": row["ctx"]}
            | {"endings": endings, "split": "val", "label": str(label)}
        )
    notes = [f"{len(items):,} of the 10,042 validation items."]
    if len(items) == 689:
        notes.append(
            "The 689 are reconstructed from the prompts of another project and its selection (523 from WikiHow), not a"
            " random sample."
        )
    yield Split("Rowan/hellaswag", "default", "validation", items, (path,), notes=tuple(notes))


def _halves(context: str) -> tuple[str, str]:
    """Splits a context as HellaSwag does: the beginning of a last, unfinished sentence stands apart.

    Only the captions of films have one; WikiHow's contexts, which begin with `[header]`, are whole.
    """
    whole, stop, rest = context.rpartition(". ")
    if context.startswith("[header]") or not stop or not rest or context.endswith("."):
        return context, ""
    return whole + ".", rest


def _winogrande(folder: Path) -> Iterator[Split]:
    path = plain_or_gzip(folder / "dev.jsonl")
    notes: tuple[str, ...] = ()
    fields = ("sentence", "option1", "option2", "answer")
    items = []
    for line, row in json_lines(path, fields):
        require(row["sentence"].count("_") == 1, f"{path}, line {line}", "the sentence has not exactly one '_'")
        require(row["answer"] in ("1", "2"), f"{path}, line {line}", f"the answer {row['answer']!r} is not '1' or '2'")
        items.append({name: row[name] for name in fields})
        if str(row.get("qID")).startswith("llmf-"):
            notes = ("Reconstructed into the original schema from the rendering of another project (LLM Foundry).",)
    yield Split("allenai/winogrande", "winogrande_xl", "validation", items, (path,), notes=notes)


def _piqa(folder: Path) -> Iterator[Split]:
    path, answers = plain_or_gzip(folder / "valid.jsonl"), folder / "valid-labels.lst"
    rows, labels = json_lines(path, ("goal", "sol1", "sol2")), text_lines(answers)
    require(len(rows) == len(labels), str(answers), f"{len(labels)} labels for {len(rows)} items of {path}")
    for line, label in enumerate(labels, 1):
        require(label in ("0", "1"), f"{answers}, line {line}", f"the label {label!r} is not 0 or 1")
    fields = ("goal", "sol1", "sol2")
    items = [
        {name: row[name] for name in fields} | {"label": int(label)}
        for (_, row), label in zip(rows, labels, strict=True)
    ]
    yield Split("baber/piqa", "default", "validation", items, (path, answers))


BENCHMARKS = {
    "hellaswag": Benchmark(
        _hellaswag,
        ("The activity labels are not read: the prompts begin with ': ' where the original has 'LABEL: '.",),
    ),
    "winogrande": Benchmark(_winogrande),
    "piqa": Benchmark(_piqa, ("The labelled validation split.",)),
}
