"""Items of benchmarks from their raw files, with the prompts of lm-evaluation-harness's own task files.

EVAL is a folder with `mmlu/`, `cmmlu/`, `ceval/` (csv files by split), `gsm8k/test.jsonl`, `hellaswag/val_subset.jsonl`
and `flores200/`. Flores has no task in the harness: its prompts are ours, half of them into Chinese with a space at
their end, half into English.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

LETTERS = ("A", "B", "C", "D")
EXAMINATIONS = {
    "mmlu": ("mmlu/default", "_default_template_yaml", "test", "_test.csv"),
    "cmmlu": ("cmmlu", "_default_template_yaml", "test", ".csv"),
    "ceval": ("ceval", "_default_ceval_yaml", "val", "_val.csv"),
}
"""Folder of the task files, the one they include, the split that is scored, and the ends of its files' names."""
SETS = ("mmlu", "cmmlu", "gsm8k", "hellaswag", "flores")


class Item(NamedTuple):
    """A prompt and its continuations; for generation also the strings that end it."""

    prompt: str
    choices: tuple[str, ...]  # one of a set that is generated, its reference
    answer: int
    until: tuple[str, ...] = ()


def read_items(eval_folder: Path, name: str, shots: int = 0) -> list[Item]:
    """Returns all items of a set, by the name of SETS or EXAMINATIONS.

    shots: examples before a question of an examination, the first ones of its subject's dev split.

    Raises OSError where a file is missing.
    """
    if name in EXAMINATIONS:
        return list(_examination(eval_folder, name, shots))
    return list({"gsm8k": _gsm8k, "hellaswag": _hellaswag, "flores": _flores}[name](eval_folder))


def answer_texts(eval_folder: Path, name: str) -> list[Item]:
    """Returns the items of a Chinese examination with the answers' texts as continuations, directly behind the prompt.

    The prompt is the question and the mark of the answer, without the choices.
    """
    return [
        Item(
            f"{row.get('Question') or row['question']}\n答案：", tuple(row[letter] for letter in LETTERS), _answer(row)
        )
        for _, file in _files(eval_folder, name)
        for row in _rows(file, name)
        if all(row[letter] for letter in LETTERS)
    ]


def halves(eval_folder: Path, name: str) -> list[Item]:
    """Returns the second half of each question of a Chinese examination, in characters, behind the first."""
    questions = [
        str(row.get("Question") or row["question"])
        for _, file in _files(eval_folder, name)
        for row in _rows(file, name)
    ]
    return [Item(text[: len(text) // 2], (text[len(text) // 2 :],), 0) for text in questions if len(text) > 1]


def _examination(eval_folder: Path, name: str, shots: int) -> Iterator[Item]:
    from lm_eval.utils import apply_template

    folder, included, split, _ = EXAMINATIONS[name]
    settings = _task_file(folder, included)
    descriptions = {}
    for path in _harness_tasks(folder).glob("*.yaml"):
        task = _task_file(folder, path.name)
        descriptions[task.get("dataset_name")] = task.get("description", "")
    for subject, file in _files(eval_folder, name):
        dev = eval_folder / name / "dev" / file.name.replace(f"_{split}.csv", "_dev.csv")
        examples = ""
        for row in _rows(dev, name)[:shots]:
            examples += f"{apply_template(settings['doc_to_text'], row)} {LETTERS[_answer(row)]}\n\n"
        for row in _rows(file, name):
            prompt = descriptions[subject] + examples + apply_template(settings["doc_to_text"], row)
            yield Item(prompt, tuple(f" {letter}" for letter in LETTERS), _answer(row))


def _files(eval_folder: Path, name: str) -> list[tuple[str, Path]]:
    """Returns the subjects of an examination and the files of the scored split."""
    _, _, split, ending = EXAMINATIONS[name]
    files = sorted((eval_folder / name / split).glob(f"*{ending}"))
    return [(file.name.removesuffix(ending), file) for file in files]


def _rows(file: Path, name: str) -> list[dict[str, Any]]:
    with file.open(encoding="utf-8", newline="") as lines:
        if name != "mmlu":
            return list(csv.DictReader(lines))
        return [{"question": row[0], "choices": row[1:5], "answer": row[5]} for row in csv.reader(lines)]


def _answer(row: Mapping[str, Any]) -> int:
    return LETTERS.index(row.get("Answer") or row["answer"])


def _gsm8k(eval_folder: Path) -> Iterator[Item]:
    from lm_eval.utils import apply_template

    settings = _task_file("gsm8k", "gsm8k.yaml")
    until = tuple(settings["generation_kwargs"]["until"])
    for line in (eval_folder / "gsm8k/test.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        yield Item(apply_template(settings["doc_to_text"], row), (f" {row['answer']}",), 0, until)


def _hellaswag(eval_folder: Path) -> Iterator[Item]:
    from lm_eval.tasks.hellaswag.utils import preprocess

    for line in (eval_folder / "hellaswag/val_subset.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        yield Item(
            preprocess(row["ctx"]), tuple(f" {preprocess(ending)}" for ending in row["endings"]), int(row["label"])
        )


def _flores(eval_folder: Path) -> Iterator[Item]:
    english, chinese = (
        (eval_folder / f"flores200/devtest/{language}.devtest").read_text("utf-8").splitlines()
        for language in ("eng_Latn", "zho_Hans")
    )
    for number, (en, zh) in enumerate(zip(english, chinese, strict=True)):
        if number % 2:
            yield Item(f"中文：{zh}\n英文：", (en,), 0, ("\n",))
        else:
            yield Item(f"English: {en}\nChinese: ", (zh,), 0, ("\n",))


def _harness_tasks(folder: str) -> Path:
    import lm_eval.tasks

    return Path(lm_eval.tasks.__file__).parent / folder


def _task_file(folder: str, name: str) -> dict[str, Any]:
    import yaml

    class Plain(yaml.SafeLoader):
        """Leaves the functions that a task file names alone."""

    Plain.add_multi_constructor("!", lambda loader, suffix, node: None)
    return yaml.load((_harness_tasks(folder) / name).read_text("utf-8"), Loader=Plain)
