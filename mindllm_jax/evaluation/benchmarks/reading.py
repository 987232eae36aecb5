"""Reasoning and reading: BIG-Bench Hard, LogiQA in English and Chinese, PubMedQA."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mindllm_jax.evaluation.benchmarks.splits import (
    Benchmark,
    Item,
    Split,
    json_value,
    require,
    text_lines,
    with_fields,
)


def _bbh(folder: Path) -> Iterator[Split]:
    for path in sorted((folder / "bbh").glob("*.json")):
        items: list[Item] = []
        for number, example in enumerate(with_fields(json_value(path), str(path), others=("examples",))["examples"], 1):
            item = with_fields(example, f"{path}, example {number}", ("input", "target"))
            items.append({"input": item["input"], "target": item["target"]})
        yield Split("SaylorTwift/bbh", path.stem, "test", items, (path,))


def _logiqa(folder: Path) -> Iterator[Split]:
    english, chinese = ("EleutherAI/logiqa", "logiqa"), ("mindllm/logiqa_zh", "default")
    for file, (dataset, name), split in (
        ("Eval.txt", english, "validation"),
        ("Test.txt", english, "test"),
        ("zh_eval.txt", chinese, "validation"),
        ("zh_test.txt", chinese, "test"),
    ):
        if (path := folder / file).exists():
            items = [_as_on_the_hub(*parts) if name == "logiqa" else _by_letters(*parts) for parts in _questions(path)]
            yield Split(dataset, name, split, items, (path,))


def _questions(path: Path) -> Iterator[tuple[str, str, str, list[str]]]:
    """Yields label, context, question and options of a LogiQA file: eight lines each, of which the first is blank."""
    rows = text_lines(path)
    require(len(rows) % 8 == 0, str(path), f"{len(rows)} lines, expected eight per question")
    for start in range(0, len(rows), 8):
        where = f"{path}, line {start + 1}"
        blank, label, context, question, *options = (row.strip() for row in rows[start : start + 8])
        require(not blank and label in tuple("abcd"), where, "not a blank line and an answer a, b, c or d")
        require(all(option[2:].strip() for option in options), where, "an empty option")
        yield label, context, question, options


def _as_on_the_hub(label: str, context: str, question: str, options: list[str]) -> Item:
    """Returns the item as the hub's set has it: two characters off each option, a space after each full stop."""
    context, question, *options = (
        text.replace(".", ". ").strip() for text in (context, question, *(option[2:] for option in options))
    )
    return {"label": label, "context": context, "question": question, "options": options}


def _by_letters(label: str, context: str, question: str, options: list[str]) -> Item:
    """Returns the item with its options in the order of their letters, where each line begins with one."""
    if sorted(option[0] for option in options) == list("ABCD"):
        options.sort(key=lambda option: option[0])
    # After the letter stands one of many marks, or a space.
    options = [re.sub(r"^[A-Da-d](?=[\W_])[\s.．、,，:：]*", "", option) for option in options]
    context = re.sub(r"^\d+[.．、]\s*", "", context)
    return {"label": label, "context": context, "question": question, "options": options}


def _pubmedqa(folder: Path) -> Iterator[Split]:
    path, ids = folder / "ori_pqal.json", folder / "test_ground_truth.json"
    questions = with_fields(json_value(path), str(path))
    fields = ("QUESTION", "CONTEXTS", "LABELS", "MESHES", "YEAR", "reasoning_required_pred", "reasoning_free_pred")
    fields += ("final_decision", "LONG_ANSWER")
    items = []
    for id in with_fields(json_value(ids), str(ids)):
        row = with_fields(questions.get(id), f"{path}, item {id}", fields[:1], fields[1:])
        require(row["final_decision"] in ("yes", "no", "maybe"), f"{path}, item {id}", "no decision yes, no or maybe")
        items.append({name: row[name] for name in fields})
    notes = ("The official 500 test questions.",) if len(items) == 500 else ()
    yield Split("bigbio/pubmed_qa", "pubmed_qa_labeled_fold0_source", "test", items, (path, ids), notes=notes)


BENCHMARKS = {
    "bbh": Benchmark(_bbh),
    "logiqa": Benchmark(
        _logiqa,
        (
            "LogiQA 1.0; without train the few-shot examples of logiqa_zh come from validation, and logiqa has none.",
            "In English as on the hub: two characters are cut off each option, also off the few that lack their letter,"
            " and options stand in the order of the lines. In Chinese they stand in the order of their letters.",
        ),
    ),
    "pubmedqa": Benchmark(_pubmedqa),
}
