"""Runs the demo, from text to a chat model: corpus, tokenizer, store, training, tuning, evaluation, report.

python launch/demo.py          (`make demo` installs first; DEMO_CORPUS=folder-of-jsonl takes your own text)

Every stage is a command of its own, printed before it runs. A finished stage is not run again, and every stage is
resumable: run the same command again.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from mindllm_jax import configuration
from mindllm_jax.checks import local_path
from mindllm_jax.files import write_text

LAUNCH = Path(__file__).parent
RUN = Path("runs/demo")
DEMO, TUNE = Path("configs/demo/demo.gin"), Path("configs/demo/tune.gin")
EVALUATIONS = {
    "before training": ("pretrain", "--gin.Evaluate.untrained=True"),
    "after pre-training": ("pretrain", "--gin.Evaluate.baselines=True"),
    "after tuning": ("tune",),
}


def stages(run: Path, gin: str) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    """Yields the title, the file that marks the stage as finished, and the command of each stage."""
    tune = ("--gin", str(TUNE), "--workdir", f"{run}/tune")
    yield "corpus", run / "corpus/manifest.json", ("demo_corpus.py", "--gin", gin)
    yield "tokenizer", run / "tokenizer.model", ("train_tokenizer.py", "--gin", gin)
    yield "token store", run / "store/done", ("prepare_data.py", "--gin", gin)
    yield "pre-training", run / "pretrain/report.html", ("train.py", "--gin", gin, "--workdir", f"{run}/pretrain")
    yield "instruction tuning", run / "tune/report.html", ("sft.py", "--gin", gin, *tune)
    for label, (which, *settings) in EVALUATIONS.items():
        folder = run / "evaluation" / label.replace(" ", "_")
        command = ("eval.py", "--gin", gin, f"--gin.Evaluate.run={run}/{which}", *settings, "--workdir", str(folder))
        yield f"evaluation {label}", folder / "done", command


def main() -> None:
    """Runs the stages that are not finished, then prints the results and writes the report."""
    configuration.without_settings(__doc__)
    from mindllm_jax.recipes.demo.user_text import write_settings

    text = local_path("DEMO_CORPUS", folder).resolve() if (folder := os.environ.get("DEMO_CORPUS")) else None
    os.chdir(LAUNCH.parent)
    run = RUN.with_name(f"demo-{text.name}") if text else RUN
    gin = run / "demo.gin" if text else DEMO
    started = time.monotonic()
    for title, done, (script, *arguments) in stages(run, str(gin)):
        if text:
            write_settings(text, run, DEMO)  # before each stage: once the corpus is built, its languages are settings
        if done.exists() and not (text and title == "corpus"):  # which compares the text with what it was made of
            print(f"--- {title}: done ({done})", flush=True)
            continue
        print(f"\n--- {title}\n$ {shlex.join(['python', f'launch/{script}', *arguments])}", flush=True)
        if status := subprocess.run([sys.executable, str(LAUNCH / script), *arguments], check=False).returncode:
            sys.exit(status)
        if not done.exists():
            write_text(done, "")

    from mindllm_jax.recipes.demo.report import write_report

    write_report(run, {label: run / "evaluation" / label.replace(" ", "_") for label in EVALUATIONS})
    print(f"{time.monotonic() - started:.0f} s for this run of the demo")


if __name__ == "__main__":
    configuration.run(main)
