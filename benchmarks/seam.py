"""Counts benchmark items that the two seams between context and continuation encode, score and answer differently.

Items of CMMLU and C-Eval (val), zero-shot, in three forms: `letters`, with lm-evaluation-harness's prompts; `texts`,
the answers' texts directly behind question and 答案：; `halves`, the second half of the question behind the first, as
in tasks that continue a text. An item differs in tokens where a continuation encoded with its context and cut off
(`together`) has others than alone (`apart`). With a model those that have choices are scored: of all items, the share
with a log-likelihood that differs by more than 1e-3 nats, and with another answer. A second table has the letters'
tokens.

    python benchmarks/seam.py --eval EVAL --tokenizer NAME=FILE --run NAME=RUN --results FILE.json --markdown FILE.md

`--results` keeps the rows of each tokenizer, so that the page can be made in several calls. Needs the extras `eval` and
`hf`.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_items import LETTERS, Item, answer_texts, halves, read_items

from mindllm_jax.evaluation.encoding import Encoder, Pair
from mindllm_jax.evaluation.likelihood import likelihoods
from mindllm_jax.evaluation.protocol import Protocol
from mindllm_jax.files import read_json, write_text
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.reporting.tables import Table
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.load_run import load_decoder

DIFFERENT = 1e-3
SETS = {"cmmlu": "CMMLU", "ceval": "C-Eval val"}
INTRODUCTION = """# The seam between context and continuation

Rebuilt by `python benchmarks/seam.py`, which documents the forms; all items.

"""
FORMS = {"letters": read_items, "texts": answer_texts, "halves": halves}


def main() -> None:
    """Counts for each tokenizer and run, prints the tables and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eval", type=Path, required=True, help="folder of benchmarks' raw files")
    parser.add_argument("--tokenizer", action="append", default=[], metavar="NAME=FILE", help="tokens alone")
    parser.add_argument("--run", action="append", default=[], metavar="NAME=RUN", help="a run; its tokenizer and model")
    parser.add_argument("--results", type=Path, help="JSON with the rows so far, which are kept")
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    results = read_json(arguments.results) if arguments.results and arguments.results.exists() else {}
    named = [(*text.partition("=")[::2], kind) for kind in ("tokenizer", "run") for text in getattr(arguments, kind)]
    for name, path, kind in named:
        loaded = load_decoder(Path(path)) if kind == "run" else None
        tokenizer = loaded.tokenizer if loaded else Tokenizer.load(path)
        rows = []
        for chosen, title in SETS.items():
            for form, items_of in FORMS.items():
                row = differences(tokenizer, loaded and loaded.decoder, items_of(arguments.eval, chosen))
                rows.append([name, title, form, *row])
                print(rows[-1], flush=True)
        results[name] = {"differences": rows, "letters": letter_rows(name, tokenizer)}
        if arguments.results:
            write_text(arguments.results, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    differing, letters = (
        [row for rows in results.values() for row in rows[part]] for part in ("differences", "letters")
    )
    columns = (
        "tokenizer", "set", "form", "items", "items with other tokens", "continuations swallowed", "other likelihoods",
        "other answer",
    )  # fmt: skip
    tables = [
        Table(columns, differing, "Items that the seams `together` and `apart` treat differently."),
        Table(("tokenizer", "text", *LETTERS), letters, "Tokens of the letters, alone and behind a prompt."),
    ]
    text = "\n".join(table.markdown() for table in tables)
    print(text)
    if arguments.markdown:
        write_text(arguments.markdown, f"{INTRODUCTION}{text}")


def differences(tokenizer: Tokenizer, decoder: Decoder | None, items: list[Item]) -> list[Any]:
    """Returns the number of items, and the shares of those with other tokens, likelihoods and answers."""
    texts = [(item.prompt, choice) for item in items for choice in item.choices]
    pairs = [Encoder(tokenizer, Protocol(seam=seam)).pairs(texts) for seam in ("together", "apart")]
    ends = np.cumsum([0, *(len(item.choices) for item in items)])
    spans = [slice(begin, end) for begin, end in pairwise(ends)]
    different = [span for span in spans if any(pair.seam_differs for pair in pairs[0][span])]
    swallowed = sum(pair.swallowed for pair in pairs[0])
    shares = [f"{len(different) / len(items):.1%}", f"{swallowed / len(texts):.1%}"]
    if decoder is None or len(items[0].choices) == 1:
        return [len(items), *shares, None, None]
    # Equal tokens have equal likelihoods.
    together, apart = (scores(decoder, [part[span] for span in different]) for part in pairs)
    both = list(zip(together, apart, strict=True))
    likelihood = sum(np.abs(one - other).max() > DIFFERENT for one, other in both) / len(items)
    answer = sum(one.argmax() != other.argmax() for one, other in both) / len(items)
    return [len(items), *shares, f"{likelihood:.1%}", f"{answer:.1%}"]


def scores(decoder: Decoder, items: list[list[Pair]]) -> list[np.ndarray]:
    """Returns the log-likelihoods of each item's continuations, in nats."""
    found = iter(likelihoods(decoder, [pair.query for item in items for pair in item]))
    return [np.array([next(found).log for _ in item]) for item in items]


def letter_rows(name: str, tokenizer: Tokenizer) -> list[list[Any]]:
    """Returns the tokens of each letter alone, behind a space, and behind the ends of the prompts, by `together`."""
    together = Encoder(tokenizer, Protocol())
    rows = []
    for space in ("", " "):
        shown = [[tokenizer.piece(int(id)) for id in tokenizer.encode(space + letter)] for letter in LETTERS]
        rows.append([name, f"{space}A alone", *map(repr, shown)])
    for prompt, space in (("答案：", ""), ("答案：", " "), ("Answer:", ""), ("Answer:", " ")):
        pairs = together.pairs([(f"D. x\n{prompt}", space + letter) for letter in LETTERS])
        shown = [[tokenizer.piece(id) for id in pair.query.continuation] for pair in pairs]
        rows.append([name, f"{prompt}{space}A", *map(repr, shown)])
    return rows


if __name__ == "__main__":
    main()
