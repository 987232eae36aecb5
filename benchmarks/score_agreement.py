"""Compares the scores that two models give the same conversations.

python benchmarks/score_agreement.py LABEL=SCORES LABEL=SCORES [--markdown FILE]

SCORES is a folder of scores that `launch/select_instructions.py` wrote (WORKDIR/scores); both need the same inputs and
sample. The first table has quantiles of the loss of the answers given the prompt, in nats per token, and the share of
answers between 1.0 and 1.5 nats, the range that is remembered of the paper. The second has, for each column, Spearman's
rank correlation of the two models with its 95 % bootstrap interval, the same with the ranks of the answer's length (in
the first model's tokens) partialled out, and the share of the first model's lowest quarter that is in the other's.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LOW, HIGH = 1.0, 1.5  # nats per token
OF_TEXT = ("answer_tokens", "whole_tokens", "zlib_ratio")
"""Columns that no model decides, but its tokenizer at most."""


def main() -> None:
    """Reads both scores, prints and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", nargs=2, type=labelled, help="LABEL=FOLDER, a label and a folder of scores")
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()

    import numpy as np

    from mindllm_jax.files import write_text
    from mindllm_jax.instruct.selection.correlation import rank_correlations
    from mindllm_jax.reporting.tables import Table
    from mindllm_jax.run_records import git_sha

    labels, folders = zip(*arguments.scores, strict=True)
    (first_rows, first), (other_rows, other) = map(read, folders)
    if first_rows != other_rows:
        raise SystemExit(f"{folders[0]} and {folders[1]} have scores of other conversations: score the same sample")

    spread = []
    for label, columns in zip(labels, (first, other), strict=True):
        loss = columns["answer_loss"][np.isfinite(columns["answer_loss"])]
        quantiles = np.quantile(loss, (0.05, 0.25, 0.5, 0.75, 0.95))
        within = np.mean((loss >= LOW) & (loss <= HIGH))
        spread.append((label, len(loss), *(f"{value:.3f}" for value in quantiles), f"{100 * within:.1f}"))
    head = ("model", "conversations", "5 %", "25 %", "median", "75 %", "95 %", f"{LOW} to {HIGH} nats, %")
    text = Table(head, spread, "Loss of the answers given the prompt, nats per token").markdown()

    agreement = []
    for name in (name for name in first if name not in OF_TEXT):
        found = rank_correlations({name: first[name]}, other[name], first["answer_tokens"]).get(name)
        if found is not None:
            shared = f"{100 * lowest_in_common(first[name], other[name]):.0f}"
            agreement.append((name, found.conversations, *found.shown(), shared))
    head = ("column", "conversations", "rank correlation", "without the answer's length", "lowest quarter, %")
    text += "\n" + Table(head, agreement, f"{labels[0]} and {labels[1]}").markdown()
    print(text)
    if arguments.markdown:
        given = " ".join(f"{label}={folder}" for label, folder in arguments.scores)
        command = f"python benchmarks/score_agreement.py {given} --markdown FILE"
        title = f"# Scores of {labels[0]} and {labels[1]}\n\nRebuilt by `{command}`,\nwhich documents the columns;"
        write_text(arguments.markdown, f"{title} {date.today()}, commit {git_sha()}.\n\n{text}")


def labelled(text: str) -> tuple[str, Path]:
    """Returns label and folder. Raises argparse.ArgumentTypeError without either."""
    label, _, folder = text.partition("=")
    if not label or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not LABEL=FOLDER")
    return label, Path(folder)


def read(folder: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Returns the places of the conversations (file and line), and their columns."""
    from mindllm_jax.instruct.scoring.shards import NUMBERS, ScoreShards
    from mindllm_jax.instruct.selection.columns import columns

    table = ScoreShards(folder).columns((*NUMBERS, "where"))
    return table["where"].to_pylist(), columns({name: table[name].to_numpy() for name in NUMBERS})


def lowest_in_common(first: np.ndarray, other: np.ndarray) -> float:
    """Returns the share of the first's lowest quarter that is in the other's, of the values that both have."""
    import numpy as np

    common = np.isfinite(first) & np.isfinite(other)
    count = int(common.sum()) // 4
    lowest = [set(np.argsort(values[common], kind="stable")[:count]) for values in (first, other)]
    return len(lowest[0] & lowest[1]) / count


if __name__ == "__main__":
    main()
