"""The steps of the hardware check: what each runs, what it needs, how long it may take."""

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
    """What is checked and measured, and for how long.

    Attributes:
        here: at toy size on this machine's CPU, to try the commands; else on its NVIDIA GPU.
        store: the token store of the training run; without one the run is left out (not with `here`).
        only: names of steps, to run these alone; empty: all.
        minutes: after which nothing is begun and what runs is ended; the same command resumes later.
        attention: the implementation that the training steps take.
        commit: of these sources, where they are a copy without git.
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
    """One command, a benchmark that ends with a line of JSON."""

    name: str
    part: int  # of the five of the page
    title: str
    command: tuple[str, ...]  # behind python
    minutes: float  # limit of one call; what is cut resumes with the next
    needs: tuple[str, ...] = ()  # distributions
    without: str = ""  # what its result says where one is missing; "": it does not run then
    resumable: bool = False  # takes --lines and --limit
    of_run: bool = False  # needs the folder of the training run
    again: bool = False  # runs each time: it changes the checkout, and what it kept makes it a matter of seconds
    after: str = ""  # the step that has to be done before
    least: float = 1.0  # minutes; with less nothing comes of it

    def missing(self) -> list[str]:
        """The distributions that are not installed."""
        here = installed(self.needs)
        return [name for name in self.needs if name not in here]


PARTS = (
    "Machine and numerics",
    "Attention",
    "Tiles",
    "Steps of the presets",
    "A training run",
)
GIVE_STORE = "no token store is given (HardwareCheck.store)"


def steps(config: HardwareCheck, workdir: Path) -> Iterator[Step]:
    """All steps in their order. workdir: where the larger files of a training run go."""
    yield from _small(workdir) if config.here else _whole(config, workdir)


def _whole(config: HardwareCheck, workdir: Path) -> Iterator[Step]:
    kernels, torch = ("jax-triton", "triton"), ("torch", "transformers")
    names = "triton,cudnn,tokamax,torch"
    yield Step("rates", 1, "What the GPU reaches", ("benchmarks/rates.py",), 2)
    yield Step(
        "numerics", 1, "Errors against float64", ("benchmarks/kernel_numerics.py",), 8,
        needs=("pytest", "hypothesis"), resumable=True, least=2,
    )  # fmt: skip
    for head_dim in (128, 64):
        yield Step(
            f"attention_{head_dim}", 2, f"Heads of {head_dim}",
            ("benchmarks/attention.py", "--head_dims", str(head_dim), "--lengths", "8192,2048,32768,4096,16384",
             "--heads", "16/16", "--means", "causal,1024", "--implementations", names), 8,
            needs=(*kernels, "torch"), without="its lines say that it is missing", resumable=True,
        )  # fmt: skip
    yield Step(
        "attention_more", 2, "Grouped heads, portable XLA and other documents",
        ("benchmarks/attention.py", "--head_dims", "128", "--lengths", "8192", "--heads", "16/16,32/8",
         "--means", "causal,512,1024,2048"), 6,
        needs=(*kernels, "torch"), without="its lines say that it is missing", resumable=True,
    )  # fmt: skip
    yield Step(
        "tiles", 3, "The search",
        ("benchmarks/attention.py", "--tune", "--head_dims", "128,64", "--lengths", "8192"), 8,
        needs=kernels, resumable=True, again=True,
    )  # fmt: skip
    yield Step(
        "attention_tuned", 3, "Attention with the tiles that were found",
        ("benchmarks/attention.py", "--head_dims", "128,64", "--lengths", "8192,32768", "--heads", "16/16",
         "--means", "causal,1024", "--implementations", "triton,cudnn"), 4,
        needs=kernels, without="its lines say that it is missing", resumable=True, after="tiles",
    )  # fmt: skip
    yield Step("loss_head", 4, "The loss head", ("benchmarks/loss_head.py",), 4)
    for preset in ("mindllm_1b3", "mindllm_3b"):
        yield Step(
            f"steps_{preset.removeprefix('mindllm_')}", 4, f"Steps of {preset}",
            ("benchmarks/scaling.py", "--presets", preset, "--attention", f"{config.attention},xla"), 8,
            needs=(*kernels, *torch), without="its line says that it is missing", resumable=True, least=2,
        )  # fmt: skip
    store = ("--store", config.store)
    run = ("benchmarks/training_run.py", *store, "--workdir", f"{workdir}/training", "--attention", config.attention)
    packages = ("gin-config", "grain", "orbax-checkpoint", "tensorstore", "sentencepiece", "tensorboardX", *kernels)
    yield Step(
        "resume", 5, "A run that is killed and resumed", (*run, "--parts", "resume"), 5,
        needs=packages, resumable=True, least=2,
    )  # fmt: skip
    yield Step(
        "training", 5, "Five minutes of training", (*run, "--parts", "run"), 8, needs=packages, resumable=True, least=6,
    )  # fmt: skip
    yield Step(
        "inference", 5, "Generation and evaluation",
        ("benchmarks/inference.py", "--run", f"{workdir}/training/run", *store), 3, of_run=True,
    )  # fmt: skip


def _small(workdir: Path) -> Iterator[Step]:
    """The same commands at toy size."""
    toy = ("--head_dims", "16", "--lengths", "64", "--tokens", "64", "--heads", "2/1", "--here")
    both = ("--means", "causal,20")
    yield Step("rates", 1, "What the CPU reaches", ("benchmarks/rates.py", "--here"), 2)
    yield Step(
        "numerics", 1, "Errors against float64", ("benchmarks/kernel_numerics.py", "--here"), 2,
        needs=("pytest", "hypothesis"), resumable=True,
    )  # fmt: skip
    yield Step("attention_16", 2, "Heads of 16", ("benchmarks/attention.py", *toy, *both), 2, resumable=True)
    tiles = ("--tune", "--tiles", f"{workdir}/table_of_tiles.json")
    yield Step("tiles", 3, "The search", ("benchmarks/attention.py", *toy, *tiles), 2, resumable=True)
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
        needs=("torch", "transformers"), without="its line says that it is missing", resumable=True,
    )  # fmt: skip
    run = f"{workdir}/training"
    small = ("benchmarks/training_run.py", "--here", "--workdir", run)
    yield Step(
        "resume", 5, "A run that is killed and resumed", (*small, "--parts", "resume"), 3, resumable=True,
    )  # fmt: skip
    yield Step(
        "training", 5, "Seconds of training", (*small, "--parts", "run", "--seconds", "5"), 3, resumable=True,
    )  # fmt: skip
    yield Step(
        "inference", 5, "Generation and evaluation",
        ("benchmarks/inference.py", "--run", f"{run}/run", "--store", f"{run}/store", "--batches", "1,2",
         "--tokens", "8"), 2, of_run=True,
    )  # fmt: skip


def obstacle(step: Step, config: HardwareCheck, workdir: Path) -> str | None:
    """Why a step cannot run now; None where it can."""
    if (missing := step.missing()) and not step.without:
        return f"{', '.join(missing)} not installed"
    if step.part == 5 and not config.here and not config.store:
        return GIVE_STORE
    if step.of_run and not (workdir / "training/run/tokenizer.model").exists():
        return "there is no training run yet"
    return None


def listing(config: HardwareCheck, workdir: Path) -> Table:
    """The dry list: for each step the command, what it needs, its limit, its result and what happens without."""
    rows = []
    for step in steps(config, workdir):
        missing = step.missing()
        needs = [f"{name} (missing)" if name in missing else name for name in step.needs]
        if step.part == 5 and not config.here:
            needs.append("HardwareCheck.store" if config.store else "HardwareCheck.store (not given)")
        command = " ".join(("python", *step.command))
        without = (step.without or "the step is left out") if needs else ""
        rows.append((step.name, command, ", ".join(needs), f"{step.minutes:g} min", f"{step.name}.json", without))
    return Table(("step", "command", "needs", "limit", "result", "where something is missing"), rows)
