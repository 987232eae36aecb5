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
from pathlib import Path

from mindllm_jax import configuration

HERE = Path(__file__).parent
RUN = Path("runs/demo")
GIN = ("--gin", "configs/demo/demo.gin")
TUNE = ("--gin", "configs/demo/tune.gin")
EVALUATIONS = {
    "before training": (f"--gin.Evaluate.run={RUN}/pretrain", "--gin.Evaluate.untrained=True"),
    "after pre-training": (f"--gin.Evaluate.run={RUN}/pretrain", "--gin.Evaluate.baselines=True"),
    "after tuning": (f"--gin.Evaluate.run={RUN}/tune",),
}


def stages() -> list[tuple[str, Path, tuple[str, ...]]]:
    """Title, file that is there when the stage is done, command."""
    own = os.environ.get("DEMO_CORPUS")
    text = (f"--gin.DemoCorpus.text={Path(own).resolve()}",) if own else ()
    made = [
        ("corpus", RUN / "corpus/manifest.json", ("demo_corpus.py", *GIN, *text)),
        ("tokenizer", RUN / "tokenizer.model", ("train_tokenizer.py", *GIN)),
        ("token store", RUN / "store/done", ("prepare_data.py", *GIN)),
        ("pre-training", RUN / "pretrain/report.html", ("train.py", *GIN, "--workdir", f"{RUN}/pretrain")),
        ("instruction tuning", RUN / "tune/report.html", ("sft.py", *GIN, *TUNE, "--workdir", f"{RUN}/tune")),
    ]
    for label, settings in EVALUATIONS.items():
        folder = RUN / "evaluation" / label.replace(" ", "_")
        command = ("eval.py", *GIN, *settings, "--workdir", str(folder))
        made.append((f"evaluation {label}", folder / "eval.json", command))
    return made


def main() -> None:
    """Runs what is not done yet, then prints the table and writes the report."""
    configuration.command_line(__doc__)
    os.chdir(HERE.parent)
    started = time.monotonic()
    for title, done, (script, *arguments) in stages():
        if done.exists():
            print(f"--- {title}: done ({done})", flush=True)
            continue
        command = [sys.executable, str(HERE / script), *arguments]
        print(f"\n--- {title}\n$ {shlex.join(['python', f'launch/{script}', *arguments])}", flush=True)
        status = subprocess.run(command, check=False).returncode
        if status:
            sys.exit(status)
        if not done.exists():
            configuration.write_text(done, "")

    from mindllm_jax.evaluation.demo import finish_demo

    finish_demo(RUN, {label: RUN / "evaluation" / label.replace(" ", "_") for label in EVALUATIONS})
    print(f"{time.monotonic() - started:.0f} s for this run of the demo")


if __name__ == "__main__":
    configuration.run(main)
