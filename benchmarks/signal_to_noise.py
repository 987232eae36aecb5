"""Tabulates signal to noise of benchmarks from evaluations of the last checkpoints of several runs.

python benchmarks/signal_to_noise.py LABEL=FOLDER … [--markdown FILE]

FOLDER holds an evaluation per checkpoint: the workdirs of `launch/eval.py --gin.Evaluate.step=STEP`, in subfolders. All
runs need the same scores. `mindllm_jax/evaluation/signal.py` defines the measures. Columns: the mean score of each run
over its checkpoints; signal, the largest difference between runs, and noise, the standard deviation over a run's
checkpoints, both in per cent of the mean score; their ratio. Above 1 per checkpoint, a difference between two runs is
larger than what the choice of the checkpoint changes.
"""

from __future__ import annotations

import argparse
import math
from datetime import date
from pathlib import Path


def main() -> None:
    """Reads the evaluations, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="LABEL=FOLDER, a label and a folder of evaluations")
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()

    from mindllm_jax.evaluation.signal import signal
    from mindllm_jax.files import write_text
    from mindllm_jax.reporting.tables import Table
    from mindllm_jax.run_records import git_sha

    runs = {label: read(Path(folder)) for label, _, folder in (run.partition("=") for run in arguments.runs)}
    names = [name for name in next(iter(runs.values())) if all(name in scores for scores in runs.values())]
    found = {name: signal({label: scores[name] for label, scores in runs.items()}) for name in names}
    rows = [
        (
            name,
            *(f"{score:.3f}" for score in of.scores.values()),
            f"{100 * of.signal:.1f}",
            f"{100 * of.noise:.1f}",
            f"{of.ratio:.1f}",
        )
        for name, of in sorted(found.items(), key=lambda item: -item[1].ratio)
    ]
    counts = {label: len(next(iter(scores.values()))) for label, scores in runs.items()}
    freedom = sum(counts.values()) - len(counts)
    caption = (
        f"Checkpoints per run: {', '.join(f'{label} {count}' for label, count in counts.items())}. The noise has"
        f" {freedom} degrees of freedom, a relative error of about {100 / math.sqrt(2 * freedom):.0f} %; the error of"
        " a score over its items is in neither."
    )
    table = Table(("score", *runs, "signal, %", "noise, %", "ratio"), rows, caption).markdown()
    print(table)
    if arguments.markdown:
        command = f"python benchmarks/signal_to_noise.py {' '.join(arguments.runs)} --markdown FILE"
        head = f"# Signal to noise\n\nRebuilt by `{command}`, which documents the columns; {date.today()}, commit"
        write_text(arguments.markdown, f"{head} {git_sha()}.\n\n{table}")


def read(folder: Path) -> dict[str, list[float]]:
    """Reads the scores of the evaluations in the subfolders, by name; a score that one of them lacks is left out."""
    from mindllm_jax.evaluation.signal import scores_of
    from mindllm_jax.files import read_json

    results = [scores_of(read_json(path)) for path in sorted(folder.glob("*/eval.json"))]
    if not results:
        raise SystemExit(f"{folder} holds no evaluation (*/eval.json)")
    return {name: [scores[name] for scores in results] for name in results[0] if all(name in s for s in results)}


if __name__ == "__main__":
    main()
