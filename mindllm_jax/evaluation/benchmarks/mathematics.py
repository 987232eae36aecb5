"""Mathematics: GSM8K, MATH and MathQA."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mindllm_jax.evaluation.benchmarks.splits import Benchmark, Item, Split, json_lines, plain_or_gzip, require

SUBJECTS = {
    "Algebra": "algebra",
    "Counting & Probability": "counting_and_probability",
    "Geometry": "geometry",
    "Intermediate Algebra": "intermediate_algebra",
    "Number Theory": "number_theory",
    "Prealgebra": "prealgebra",
    "Precalculus": "precalculus",
}


def _gsm8k(folder: Path) -> Iterator[Split]:
    for split in ("train", "test"):
        if (path := plain_or_gzip(folder / f"{split}.jsonl")).exists():
            items = []
            for line, row in json_lines(path, ("question", "answer")):
                require("#### " in row["answer"], f"{path}, line {line}", "the answer has no '#### NUMBER'")
                items.append({"question": row["question"], "answer": row["answer"]})
            yield Split("openai/gsm8k", "main", split, items, (path,))


def _math(folder: Path) -> Iterator[Split]:
    path = plain_or_gzip(folder / "test.jsonl")
    by_subject: dict[str, list[Item]] = {subject: [] for subject in SUBJECTS}
    for line, row in json_lines(path, ("problem", "level", "type", "solution")):
        where = f"{path}, line {line}"
        require(row["type"] in SUBJECTS, where, f"the type {row['type']!r} is none of {', '.join(SUBJECTS)}")
        require(
            r"\boxed" in row["solution"] or r"\fbox" in row["solution"], where, r"the solution has no \boxed answer"
        )
        by_subject[row["type"]].append({name: row[name] for name in ("problem", "level", "type", "solution")})
    note = f"{sum(map(len, by_subject.values())):,} of the 5,000 test problems."
    for subject, items in by_subject.items():
        if items:
            yield Split("EleutherAI/hendrycks_math", SUBJECTS[subject], "test", items, (path,), notes=(note,))


def _mathqa(folder: Path) -> Iterator[Split]:
    path = plain_or_gzip(folder / "test_1000.jsonl")
    fields = {"Problem": "problem", "Rationale": "rationale", "options": "options", "correct": "correct"}
    fields |= {"annotated_formula": "annotated_formula", "linear_formula": "linear_formula", "category": "type"}
    items: list[Item] = []
    unreadable = 0
    for line, row in json_lines(path, ("problem", "options", "correct"), tuple(fields.values())):
        require(
            row["correct"] in tuple("abcde"), f"{path}, line {line}", f"the answer {row['correct']!r} is none of a to e"
        )
        # The harness takes the choices apart in this way; where a comma is missing it would score fewer than five.
        if len(re.findall(r"[abcd] \) .*?, |e \) .*?$", row["options"])) == 5:
            items.append({name: row[field] for name, field in fields.items()})
        else:
            unreadable += 1
    left_out = {"options that do not come apart into five": unreadable} if unreadable else {}
    note = f"{len(items) + unreadable:,} of the 2,985 test problems."
    yield Split("regisss/math_qa", "default", "test", items, (path,), left_out, (note,))


BENCHMARKS = {
    "gsm8k": Benchmark(_gsm8k),
    "math": Benchmark(_math, ("Without train there are no few-shot examples.",)),
    "mathqa": Benchmark(_mathqa),
}
