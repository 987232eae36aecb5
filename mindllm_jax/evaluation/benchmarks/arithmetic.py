"""Arithmetic made by rule: the ten kinds of GPT-3's tests (arXiv 2005.14165, section 3.9.1), with numbers of ours."""

from __future__ import annotations

import operator
import random
from collections.abc import Iterator
from pathlib import Path

from mindllm_jax.evaluation.benchmarks.splits import Benchmark, Item, Split

SEED, ITEMS = 0, 2000
WORDS = {"a": ("plus", operator.add), "s": ("minus", operator.sub), "m": ("times", operator.mul)}
KINDS = ("1dc", "2da", "2dm", "2ds", "3da", "3ds", "4da", "4ds", "5da", "5ds")
_SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def item(kind: str, draw: random.Random) -> Item:
    """Returns a problem of a kind: `2da` adds numbers of up to two digits, `1dc` combines three of one digit."""
    if kind == "1dc":
        first, second, third = (draw.randrange(10) for _ in range(3))
        outer, inner = draw.choice("+-*"), draw.choice("+-*")
        problem = f"{first} {outer} ({second} {inner} {third})"
        answer = _SIGNS[outer](first, _SIGNS[inner](second, third))
    else:
        word, operate = WORDS[kind[-1]]
        first, second = (draw.randrange(10 ** int(kind[0])) for _ in range(2))
        problem, answer = f"{first} {word} {second}", operate(first, second)
    return {"context": f"Question: What is {problem}?\nAnswer:", "completion": f" {answer}"}


def _generate(_: Path) -> Iterator[Split]:
    for kind in KINDS:
        draw = random.Random(f"{SEED}/{kind}")
        yield Split("mindllm/arithmetic", kind, "test", [item(kind, draw) for _ in range(ITEMS)], ())


BENCHMARKS = {
    "arithmetic": Benchmark(
        _generate, (f"Ours, made by rule with seed {SEED}: not the items of the published set.",), generated=True
    )
}
