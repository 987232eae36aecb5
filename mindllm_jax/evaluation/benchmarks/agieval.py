"""AGIEval: its rows rendered into the finished prompts of the hub's `hails/agieval-*` sets.

The wording is that of `convert_zero_shot` in AGIEval's `src/dataset_loader.py`, from which the hub's sets were made.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mindllm_jax.evaluation.benchmarks.splits import Benchmark, Item, Split, json_lines, plain_or_gzip
from mindllm_jax.text.documents import is_document_file

CHINESE = ("logiqa-zh", "jec-qa-kd", "jec-qa-ca", "gaokao-chinese", "gaokao-geography", "gaokao-history")
CHINESE += ("gaokao-biology", "gaokao-chemistry", "gaokao-physics", "gaokao-mathqa")
CLOZE = ("math", "gaokao-mathcloze")
LETTERS = "ABCDEFG"


def render(row: Item, task: str) -> Item:
    """Returns the item of a row: `query`, `choices` and `gold` (all right ones), or `query` and `answer` of a cloze.

    `gold` is empty where the row has no label. Raises ValueError where label and options do not belong together.
    """
    passage, question = row["passage"] or "", row["question"]
    if task in CLOZE:
        prompt = f"问题：{question}\n答案：" if task == "gaokao-mathcloze" else f"Q: {question}\nA: The answer is"
        if not row["answer"]:
            raise ValueError("an empty answer")
        return {"query": passage + prompt, "answer": row["answer"]}
    options = row["options"]
    if not options or not all(isinstance(option, str) and option.strip() for option in options):
        raise ValueError(f"options that are no texts: {options}")
    last, listed = LETTERS[len(options) - 1], " ".join(options)
    if task in CHINESE:
        prompt = f"问题：{question} 选项：{listed}\n答案：从A到{last}, 我们应选择"
    else:
        prompt = f"Q: {question} Answer Choices: {listed}\nA: Among A through {last}, the answer is"
    # A string or a list of letters; a few published ones hold spaces or a full stop besides.
    gold = [LETTERS.index(letter) for letter in row["label"] or "" if letter in LETTERS]
    if any(number >= len(options) for number in gold):
        raise ValueError(f"the label {row['label']!r} names an option that is not among the {len(options)}")
    return {"query": passage + prompt, "choices": options, "gold": gold}


def _read(folder: Path) -> Iterator[Split]:
    files = filter(is_document_file, (folder / "v1").glob("*"))
    for name in sorted({path.name.removesuffix(".gz") for path in files}):
        path, task = plain_or_gzip(folder / "v1" / name), name.removesuffix(".jsonl")
        others = ("passage", "answer") if task in CLOZE else ("passage", "options", "label")
        items, unlabelled = [], 0
        for line, row in json_lines(path, ("question",), others):
            try:
                item = render(row, task)
            except ValueError as problem:
                raise ValueError(f"{path}, line {line}: {problem}") from None
            if item.get("gold") == []:
                unlabelled += 1
            else:
                items.append(item)
        left_out = {"no label": unlabelled} if unlabelled else {}
        yield Split(f"hails/agieval-{task}", "default", "test", items, (path,), left_out)


BENCHMARKS = {
    "agieval": Benchmark(
        _read, ("The prompts are rendered from AGIEval v1 as AGIEval's own code does, not taken from the hub.",)
    )
}
