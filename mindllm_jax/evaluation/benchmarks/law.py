"""Law: LawBench in Chinese, LegalBench in English."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mindllm_jax.evaluation.benchmarks.splits import (
    Benchmark,
    Item,
    Split,
    json_value,
    require,
    table,
    text_lines,
    with_fields,
)

# LawBench's own scoring passes over these answers, which no answer can match.
PASSED_OVER = {"2-2": ("赔偿",), "3-4": ("死刑", "无期"), "3-5": ("死刑", "无期")}

_FIRST_HUNDRED = "A zero-shot file of 100 items holds the first 100 of LawBench's 500."


def _lawbench(folder: Path) -> Iterator[Split]:
    for path in sorted((folder / "zero_shot").glob("*.json")):
        items: list[Item] = []
        left_out = 0
        for number, row in enumerate(json_value(path), 1):
            where = f"{path}, item {number}"
            with_fields(row, where, ("instruction",), ("question", "answer"))
            require(
                isinstance(row["question"], str) and isinstance(row["answer"], str), where, "a field that is no text"
            )
            # Nothing to extract is an answer of 2-6.
            require(bool(row["answer"].strip()) or path.stem == "2-6", where, "an empty answer")
            answer = row["answer"][7:-1] if path.stem == "2-2" else row["answer"]
            if any(text in answer for text in PASSED_OVER.get(path.stem, ())):
                left_out += 1
            else:
                items.append({"task": path.stem} | {name: row[name] for name in ("instruction", "question", "answer")})
        reasons = {"answers that LawBench's scoring passes over": left_out} if left_out else {}
        notes = (_FIRST_HUNDRED,) if len(items) + left_out == 100 else ()
        yield Split("mindllm/lawbench", path.stem, "test", items, (path,), reasons, notes)


def _legalbench(folder: Path) -> Iterator[Split]:
    """Yields the train rows of each task, and those of all tasks after prompts that lack the row."""
    examples: list[Item] = []
    sources: list[Path] = []
    left_out = 0
    for path in sorted(folder.glob("*/train.tsv")):
        rows = [row for _, row in _tsv(path)]
        if not rows:
            continue  # rule_qa is published without any
        yield Split("nguha/legalbench", path.parent.name, "train", rows, (path,))
        prompt = path.with_name("base_prompt.txt")
        items = _without_each(path.parent.name, "\n".join(text_lines(prompt)), rows) if prompt.exists() else []
        left_out += len(rows) - len(items)
        examples += items
        sources += [path, prompt] if items else []
    reason = (
        "train rows that do not stand in the prompt of their task as its form has them, or of labels not equally many"
    )
    if not sources:
        return
    yield Split("mindllm/legalbench_train", "default", "test", examples, tuple(sources), {reason: left_out})


def _tsv(path: Path) -> list[tuple[int, Item]]:
    header = (text_lines(path) or [""])[0].rstrip("\r").split("\t")
    require("answer" in header, f"{path}, line 1", f"no column 'answer' among {header}")
    return table(path, header, delimiter="\t")


def _without_each(task: str, prompt: str, rows: list[Item]) -> list[Item]:
    """Returns for each row the prompt without its example, and without one of every other label, and the task's labels.

    Without the row's alone the rarest label of the others would be the answer. Nothing where an example is missing in
    the prompt, or where the labels have not equally many, two or more. The form, with `{{FIELD}}`, is the last block of
    a prompt.
    """
    examples: dict[str, list[str]] = {}  # by label, as they stand in the prompt
    start = prompt.rfind("\n\n", 0, prompt.find("{{")) + 2
    head, form = prompt[:start], prompt[start:].rstrip()
    filled = [re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda name, row=row: row.get(name[1], "").strip(), form) for row in rows]
    for row, question in zip(rows, filled, strict=True):
        answer = row["answer"].strip()
        block = next((b for b in (f"{question} {answer}\n\n", f"{question}{answer}\n\n") if b in head), None)
        if block is None:
            return []
        examples.setdefault(answer, []).append(block)
    labels = sorted(examples)
    if len(labels) < 2 or len({len(blocks) for blocks in examples.values()}) > 1 or len(examples[labels[0]]) < 2:
        return []
    items, seen = [], Counter[str]()
    for row, question in zip(rows, filled, strict=True):
        answer = row["answer"].strip()
        query = head
        for blocks in examples.values():
            query = query.replace(blocks[seen[answer]], "", 1)
        seen[answer] += 1
        items.append({"task": task, "query": query + question, "choices": labels, "gold": labels.index(answer)})
    return items


BENCHMARKS = {
    "lawbench": Benchmark(
        _lawbench,
        ("Task 2-1 is scored by characters, without the word edits of a tool whose model is downloaded.",),
    ),
    "legalbench": Benchmark(
        _legalbench,
        (
            "The test rows are not read. legalbench_train scores the train rows, each after the prompt of its task"
            " without the row itself and one example of every other label, and is no substitute for them.",
        ),
    ),
}
