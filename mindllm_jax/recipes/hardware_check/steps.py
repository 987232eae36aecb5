"""The steps of the hardware check: commands, requirements and time limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mindllm_jax.checks import require_at_least, require_local
from mindllm_jax.reporting.tables import Table
from mindllm_jax.run_records import installed


@dataclass(frozen=True)
class HardwareCheck:
    """Settings of the hardware check.

    Attributes:
        here: runs everything at toy size on the CPU, to try the commands; otherwise on the NVIDIA GPU.
        store: the token store of the training run, which is left out without one (except with `here`).
        only: names of the steps to run; empty: all.
        minutes: time limit of the command; the current step is ended then. The same command resumes.
        attention: implementation of attention in the training steps.
        commit: the commit of the sources, if they are a copy without git.
    """

    here: bool = False
    store: str = ""
    only: tuple[str, ...] = ()
    minutes: float = 120.0
    attention: str = "triton"
    commit: str = ""

    def __post_init__(self) -> None:
        require_at_least(self, 0, "minutes")
        require_local(self, "store")
        known = [step.name for step in steps(self, Path())]
        if unknown := [name for name in self.only if name not in known]:
            raise ValueError(f"HardwareCheck.only: there is no step {unknown[0]!r}; there are {', '.join(known)}")


class Step(NamedTuple):
    """One benchmark, whose last line of output is JSON."""

    name: str
    part: int  # index into PARTS, from 1
    title: str
    command: tuple[str, ...]  # arguments of python
    minutes: float  # limit of one call
    needs: tuple[str, ...] = ()  # required distributions
    if_missing: str = ""  # what its result shows if one is missing; "": it does not run then
    resumable: bool = False  # accepts --lines and --limit
    needs_run: bool = False  # needs the workdir of the training run
    rerun: bool = False  # runs each time, because it changes the checkout; its records make that quick
    after: str = ""  # a step that has to be done before
    min_minutes: float = 1.0  # it is not begun with less time

    def missing(self) -> list[str]:
        """Returns the required distributions that are not installed."""
        available = installed(self.needs)
        return [name for name in self.needs if name not in available]


PARTS = (
    "Machine and numerics",
    "Attention",
    "Tiles",
    "Steps of the presets",
    "A training run",
)
GIVE_STORE = "no token store is given (HardwareCheck.store)"


def steps(config: HardwareCheck, workdir: Path) -> Iterator[Step]:
    """Yields all steps in order. workdir: the folder of the training run."""
    yield from _toy_steps(workdir) if config.here else _full_steps(config, workdir)


def _full_steps(config: HardwareCheck, workdir: Path) -> Iterator[Step]:
    kernels, torch = ("jax-triton", "triton"), ("torch", "transformers")
    names = "triton,cudnn,tokamax,torch"
    yield Step("rates", 1, "Rates of the GPU", ("benchmarks/rates.py",), 2)
    yield Step(
        "numerics", 1, "Errors against float64", ("benchmarks/kernel_numerics.py",), 8,
        needs=("pytest", "hypothesis"), resumable=True, min_minutes=2,
    )  # fmt: skip
    for head_dim in (128, 64):
        yield Step(
            f"attention_{head_dim}", 2, f"Heads of {head_dim}",
            ("benchmarks/attention.py", "--head_dims", str(head_dim), "--lengths", "8192,2048,32768,4096,16384",
             "--heads", "16/16", "--means", "causal,1024", "--implementations", names), 8,
            needs=(*kernels, "torch"), if_missing="its lines say that it is missing", resumable=True,
        )  # fmt: skip
    yield Step(
        "attention_more", 2, "Grouped heads, portable XLA and other document lengths",
        ("benchmarks/attention.py", "--head_dims", "128", "--lengths", "8192", "--heads", "16/16,32/8",
         "--means", "causal,512,1024,2048"), 6,
        needs=(*kernels, "torch"), if_missing="its lines say that it is missing", resumable=True,
    )  # fmt: skip
    yield Step(
        "tiles", 3, "Search for tiles",
        ("benchmarks/attention.py", "--tune", "--head_dims", "128,64", "--lengths", "8192"), 8,
        needs=kernels, resumable=True, rerun=True,
    )  # fmt: skip
    yield Step(
        "attention_tuned", 3, "Attention with the tuned tiles",
        ("benchmarks/attention.py", "--head_dims", "128,64", "--lengths", "8192,32768", "--heads", "16/16",
         "--means", "causal,1024", "--implementations", "triton,cudnn"), 4,
        needs=kernels, if_missing="its lines say that it is missing", resumable=True, after="tiles",
    )  # fmt: skip
    yield Step("loss_head", 4, "The loss head", ("benchmarks/loss_head.py",), 4)
    for preset in ("mindllm_1b3", "mindllm_3b"):
        yield Step(
            f"steps_{preset.removeprefix('mindllm_')}", 4, f"Steps of {preset}",
            ("benchmarks/scaling.py", "--presets", preset, "--attention", f"{config.attention},xla"), 8,
            needs=(*kernels, *torch), if_missing="its line says that it is missing", resumable=True, min_minutes=2,
        )  # fmt: skip
    store = ("--store", config.store)
    run = ("benchmarks/training_run.py", *store, "--workdir", f"{workdir}/training", "--attention", config.attention)
    packages = ("gin-config", "grain", "orbax-checkpoint", "tensorstore", "sentencepiece", "tensorboardX", *kernels)
    yield Step(
        "resume", 5, "A killed and resumed run", (*run, "--parts", "resume"), 5,
        needs=packages, resumable=True, min_minutes=2,
    )  # fmt: skip
    yield Step(
        "training", 5, "Five minutes of training", (*run, "--parts", "run"), 8,
        needs=packages, resumable=True, min_minutes=6,
    )  # fmt: skip
    yield Step(
        "inference", 5, "Generation and evaluation",
        ("benchmarks/inference.py", "--run", f"{workdir}/training/run", *store), 3, needs_run=True,
    )  # fmt: skip


def _toy_steps(workdir: Path) -> Iterator[Step]:
    """Yields the same commands at toy size."""
    toy = ("--head_dims", "16", "--lengths", "64", "--tokens", "64", "--heads", "2/1", "--here")
    both = ("--means", "causal,20")
    yield Step("rates", 1, "Rates of the CPU", ("benchmarks/rates.py", "--here"), 2)
    yield Step(
        "numerics", 1, "Errors against float64", ("benchmarks/kernel_numerics.py", "--here"), 2,
        needs=("pytest", "hypothesis"), resumable=True,
    )  # fmt: skip
    yield Step("attention_16", 2, "Heads of 16", ("benchmarks/attention.py", *toy, *both), 2, resumable=True)
    tiles = ("--tune", "--tiles", f"{workdir}/table_of_tiles.json")
    yield Step("tiles", 3, "Search for tiles", ("benchmarks/attention.py", *toy, *tiles), 2, resumable=True)
    yield Step(
        "attention_tuned", 3, "Attention again",
        ("benchmarks/attention.py", *toy, "--means", "causal", "--implementations", "xla"), 2, resumable=True,
    )  # fmt: skip
    sizes = ("--vocabs", "1024", "--tokens", "64", "--width", "16", "--chunks", "default")
    yield Step("loss_head", 4, "The loss head", ("benchmarks/loss_head.py", *sizes), 2)
    yield Step(
        "steps_1b3", 4, "Steps of a small model",
        ("benchmarks/scaling.py", "--here", "--presets", "mindllm_1b3", "--attention", "xla", "--rows", "2",
         "--seconds", "0.1"), 2,
        needs=("torch", "transformers"), if_missing="its line says that it is missing", resumable=True,
    )  # fmt: skip
    run = f"{workdir}/training"
    small = ("benchmarks/training_run.py", "--here", "--workdir", run)
    yield Step(
        "resume", 5, "A killed and resumed run", (*small, "--parts", "resume"), 3, resumable=True,
    )  # fmt: skip
    yield Step(
        "training", 5, "Seconds of training", (*small, "--parts", "run", "--seconds", "5"), 3, resumable=True,
    )  # fmt: skip
    yield Step(
        "inference", 5, "Generation and evaluation",
        ("benchmarks/inference.py", "--run", f"{run}/run", "--store", f"{run}/store", "--batches", "1,2",
         "--tokens", "8"), 2, needs_run=True,
    )  # fmt: skip


def obstacle(step: Step, config: HardwareCheck, workdir: Path) -> str | None:
    """Returns why a step cannot run; None if it can."""
    if (missing := step.missing()) and not step.if_missing:
        return f"{', '.join(missing)} not installed"
    if step.part == 5 and not config.here and not config.store:
        return GIVE_STORE
    if step.needs_run and not (workdir / "training/run/tokenizer.model").exists():
        return "the training run is missing"
    return None


def listing(config: HardwareCheck, workdir: Path) -> Table:
    """Returns the steps of a dry run: command, requirements, limit, result, and what happens if one is missing."""
    rows = []
    for step in steps(config, workdir):
        missing = step.missing()
        needs = [f"{name} (missing)" if name in missing else name for name in step.needs]
        if step.part == 5 and not config.here:
            needs.append("HardwareCheck.store" if config.store else "HardwareCheck.store (not given)")
        command = " ".join(("python", *step.command))
        if_missing = (step.if_missing or "the step is left out") if needs else ""
        rows.append((step.name, command, ", ".join(needs), f"{step.minutes:g} min", f"{step.name}.json", if_missing))
    return Table(("step", "command", "needs", "limit", "result", "if something is missing"), rows)
