"""Examinations with four options per question: MMLU, C-Eval, CMMLU and FinanceIQ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mindllm_jax.evaluation.benchmarks.splits import Benchmark, Item, Split, require, table

LETTERS = "ABCD"


def _mmlu(folder: Path) -> Iterator[Split]:
    columns = ("question", *LETTERS, "answer")
    for raw, split in (("dev", "dev"), ("val", "validation"), ("test", "test")):
        for path in _files(folder / raw, scored=raw == "test"):
            subject = path.stem.removesuffix(f"_{raw}")
            items: list[Item] = []
            for line, row in table(path, columns, header=False):
                _check(row, "question", "answer", f"{path}, line {line}")
                choices = [row[letter] for letter in LETTERS]
                answer = LETTERS.index(row["answer"])
                items.append({"question": row["question"], "subject": subject, "choices": choices, "answer": answer})
            yield Split("cais/mmlu", subject, split, items, (path,))


def _ceval(folder: Path) -> Iterator[Split]:
    columns = ("id", "question", *LETTERS, "answer", "explanation")
    for split in ("dev", "val"):
        for path in _files(folder / split, scored=split == "val"):
            rows = table(path, columns, optional=1)
            for line, row in rows:
                _check(row, "question", "answer", f"{path}, line {line}")
            items = [row | {"explanation": row.get("explanation", "")} for _, row in rows]
            yield Split("ceval/ceval-exam", path.stem.removesuffix(f"_{split}"), split, items, (path,))


def _numbered(dataset: str, folder: Path) -> Iterator[Split]:
    """Yields the splits of CMMLU and of FinanceIQ, which took over its files' format."""
    columns = ("", "Question", *LETTERS, "Answer")
    for split in ("dev", "test"):
        for path in _files(folder / split, scored=split == "test"):
            rows = table(path, columns)
            for line, row in rows:
                _check(row, "Question", "Answer", f"{path}, line {line}")
            items = [{name: row[name] for name in columns[1:]} for _, row in rows]
            yield Split(dataset, path.stem, split, items, (path,))


def _files(folder: Path, *, scored: bool) -> list[Path]:
    """Lists the .csv files of a split. Raises FileNotFoundError where the split that is scored has none."""
    files = sorted(folder.glob("*.csv"))
    if scored and not files:
        raise FileNotFoundError(f"{folder}: there are no .csv files; the benchmark's scored items lie there")
    return files


def _check(row: Item, question: str, answer: str, where: str) -> None:
    require(bool(row[question].strip()), where, f"an empty {question!r}")
    for letter in LETTERS:
        require(bool(row[letter].strip()), where, f"option {letter} is empty")
    require(row[answer] in tuple(LETTERS), where, f"the answer {row[answer]!r} is none of A, B, C, D")


BENCHMARKS = {
    "mmlu": Benchmark(_mmlu),
    "ceval": Benchmark(_ceval, ("The test split is published without answers and not converted; val is scored.",)),
    "cmmlu": Benchmark(lambda folder: _numbered("haonan-li/cmmlu", folder)),
    "financeiq": Benchmark(lambda folder: _numbered("mindllm/financeiq", folder)),
}
