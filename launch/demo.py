"""From text to a talking model in about ten minutes: corpus, tokenizer, store, training, tuning, evaluation, report.

python launch/demo.py          (`make demo` installs first; DEMO_CORPUS=folder-of-jsonl takes your own text)

Every stage is a command of its own, printed before it runs. Stages that are done are not done again; interrupted
anywhere, the next run goes on.
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

HERE = Path(__file__).parent
RUN = Path("runs/demo")
CONFIGS = Path("configs/demo")
EVALUATIONS = {
    "before training": ("pretrain", "--gin.Evaluate.untrained=True"),
    "after pre-training": ("pretrain", "--gin.Evaluate.baselines=True"),
    "after tuning": ("tune",),
}


def own_settings(text: Path, run: Path) -> None:
    """Writes the settings of a demo on a person's own text: the demo's, with another folder and what the text needs."""
    from mindllm_jax.recipes.demo.corpus import settings_of_text

    gin = (CONFIGS / "demo.gin").read_text("utf-8").replace(str(RUN), str(run))
    settings = settings_of_text(text, run / "corpus").items()
    write_text(run / "demo.gin", "\n".join([gin, *(f"{name} = {value!r}" for name, value in settings), ""]))


def stages(run: Path, gin: str) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    """Title, file that is there when the stage is done, command."""
    tune = ("--gin", str(CONFIGS / "tune.gin"), "--workdir", f"{run}/tune")
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
    """Runs what is not done yet, then prints the table and writes the report."""
    configuration.command_line(__doc__)
    own = local_path("DEMO_CORPUS", text).resolve() if (text := os.environ.get("DEMO_CORPUS")) else None
    os.chdir(HERE.parent)
    run = RUN.with_name(f"demo-{own.name}") if own else RUN
    started = time.monotonic()
    for title, done, (script, *arguments) in stages(run, str(run / "demo.gin" if own else CONFIGS / "demo.gin")):
        if own:
            own_settings(own, run)
        if done.exists():
            print(f"--- {title}: done ({done})", flush=True)
            continue
        print(f"\n--- {title}\n$ {shlex.join(['python', f'launch/{script}', *arguments])}", flush=True)
        if status := subprocess.run([sys.executable, str(HERE / script), *arguments], check=False).returncode:
            sys.exit(status)
        if not done.exists():
            write_text(done, "")

    from mindllm_jax.recipes.demo.page import finish_demo

    finish_demo(run, {label: run / "evaluation" / label.replace(" ", "_") for label in EVALUATIONS})
    print(f"{time.monotonic() - started:.0f} s for this run of the demo")


if __name__ == "__main__":
    configuration.run(main)
