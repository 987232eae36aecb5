"""Compares a small model trained on clean text with one trained on raw text, on clean held-out text.

Both sides have the same tokenizer, tokens, settings, seeds and proportion of languages; the same documents are held
out, by the hash of the id. Raw text keeps its copies, so the raw side may have seen near-duplicates of held-out
documents: that favours it. Sources too small for a row are left out. Finished runs are not repeated. Needs the store of
configs/data/real_bilingual.gin.
python benchmarks/cleaning.py --raw ../shared/data/pretrain --markdown docs/results/cleaning.md
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

from mindllm_jax.files import write_text
from mindllm_jax.reporting.tables import Cell, Table
from mindllm_jax.run_records import git_sha
from mindllm_jax.store.store import TokenStore

ROOT = Path(__file__).parents[1]
LENGTH, ROWS = 256, 16


def main() -> None:
    """Trains both sides with each seed, prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, required=True, help="the folder of raw files that the store was made of")
    parser.add_argument("--prepared", type=Path, default=Path("runs/data/real_bilingual"))
    parser.add_argument("--steps", type=int, default=300, help=f"of {ROWS} rows of {LENGTH} tokens")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/cleaning"))
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    raw_store = arguments.runs / "raw_store"
    folders = tuple(str(path) for path in sorted(arguments.raw.iterdir()) if path.is_dir()) or (str(arguments.raw),)
    held_out = TokenStore.open(str(arguments.prepared / "store")).manifest.held_out
    launch(
        "prepare_data",
        f"PrepareData.inputs={folders!r}",
        f"PrepareData.held_out={held_out}",
        f"PrepareData.tokenizer={arguments.prepared}/tokenizer.model",
        f"PrepareData.store={raw_store}",
        "PrepareData.on_bad=skip",
    )
    stores = {"clean": arguments.prepared / "store", "raw": raw_store}
    results: dict[str, list[dict[str, float]]] = {side: [] for side in stores}
    for seed in range(arguments.seeds):
        for side, store in stores.items():
            folder = arguments.runs / f"{side}_{seed}_{arguments.steps}"
            results[side].append(bits_per_byte(folder, store, stores["clean"], seed, arguments.steps))
            print(f"{side}, seed {seed}: {results[side][-1]}", flush=True)
    if arguments.markdown:
        write_text(arguments.markdown, page(results, arguments))


def bits_per_byte(run: Path, store: Path, held_out: Path, seed: int, steps: int) -> dict[str, float]:
    """Trains a model; returns bits per byte by language on the held-out documents of a store."""
    done = run / "evaluation/eval.json"
    if not done.exists():
        opened = TokenStore.open(str(store))
        sources = tuple(source for source in opened.sources if opened.split(source, "train").tokens > LENGTH)
        launch(
            "train",
            f"Mixture.store={store}",
            f"Mixture.sequence_length={LENGTH}",
            f"Mixture.sources={sources!r}",
            f"Mixture.seed={seed}",
            f"Loop.seed={seed}",
            f"Loop.steps={steps}",
            f"Loop.global_batch_size={ROWS}",
            f"Loop.evaluate_every={steps}",
            "Model.compute_dtype=float32",  # the same on every processor
            "Optimizer.name=muon",
            "Optimizer.peak_learning_rate=1.5e-2",
            "Optimizer.warmup_steps=30",
            gin="configs/model/ladder_3m.gin",
            workdir=run,
        )
        measured = (f"Evaluate.run={run}", f"Evaluate.store={held_out}", "Evaluate.baselines=False")
        launch("eval", *measured, workdir=run / "evaluation")
    return json.loads(done.read_text("utf-8"))["bits_per_byte"]


def launch(entry: str, *values: str, gin: str = "", workdir: Path | None = None) -> None:
    """Runs an entry point with settings."""
    words = [sys.executable, f"launch/{entry}.py", *(["--gin", gin] if gin else [])]
    words += [f"--gin.{value}" for value in values] + (["--workdir", str(workdir)] if workdir else [])
    subprocess.run(words, cwd=ROOT, check=True)


def page(results: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> str:
    """Returns the results as Markdown."""
    rows: list[list[Cell]] = []
    for lang in sorted(results["clean"][0]):
        sides = [[run[lang] for run in results[side]] for side in ("clean", "raw")]
        differences = [clean - raw for clean, raw in zip(*sides, strict=True)]
        spread = statistics.stdev(differences) if len(differences) > 1 else None
        rows.append([lang, *map(statistics.mean, sides), statistics.mean(differences), spread])
    table = Table(("language", "trained on clean", "trained on raw", "difference", "standard deviation"), rows)
    model, tokens = "ladder_3m (2.7M parameters)", arguments.steps * ROWS * LENGTH
    return (
        "# Clean against raw text\n\n"
        f"Rebuilt by `python benchmarks/cleaning.py --raw {arguments.raw} --steps {arguments.steps} --seeds"
        f" {arguments.seeds} --markdown docs/results/cleaning.md`, which documents the comparison. {model}, {tokens:,}"
        f" tokens per run, {arguments.seeds} seeds, two CPU cores, {date.today()}, commit"
        f" {git_sha()[:7]}. Bits per byte of clean held-out documents; the difference is by seed.\n\n"
        f"{table.markdown()}"
    )


if __name__ == "__main__":
    main()
