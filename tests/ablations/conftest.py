"""A store with the sources that the ablations' runs name, and suites of made records."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mindllm_jax import configuration
from mindllm_jax.ablations.measurement import HeldOutText
from mindllm_jax.ablations.records import Record
from mindllm_jax.ablations.suite import Suite
from mindllm_jax.ablations.trainers import TRAINERS
from mindllm_jax.configuration import Arguments
from mindllm_jax.instruct.tune import Tune
from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.store.writer import SourceDocuments, build_store
from mindllm_jax.text.documents import Document
from mindllm_jax.tokenization.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs/ablations"
SUITES = sorted(path.stem for path in CONFIGS.glob("*.gin") if path.stem != "real_text")
TEXTS = {
    "zh": "床前明月光，疑是地上霜。举头望明月，低头思故乡。",
    "en": "In the beginning there was a word, and it was long. ",
    "code": "def add(left, right):\n    return left + right\n",
}
ENGLISH = ("anarchist_faq", "ethereum_eips", "python_peps", "rust_rfcs")


def arguments(*files: Path, overrides: tuple[str, ...] = ()) -> Arguments:
    """The parsed command line of `--gin FILE … --gin.NAME=VALUE …`."""
    return Arguments(files, overrides, None, dry_run=False, print_config=False, accept_changes=False)


@pytest.fixture(scope="session")
def real_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of a few sentences in each source of configs/ablations/real_text.gin, and of code."""
    mixture = configuration.load(
        Mixture, arguments(CONFIGS / "real_text.gin"), {"Mixture.store": "(none)"}
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("ablations") / "store"
    sources = []
    languages = {name: "en" if name.endswith("_en") or name in ENGLISH else "zh" for name in mixture.sources}
    for name, language in (languages | {"python_stdlib": "code"}).items():
        texts = [TEXTS[language] * (3 + i % 3) + str(i) for i in range(12)]
        documents = [Document(text, name, language, str(i)) for i, text in enumerate(texts)]
        sources.append(SourceDocuments(name, language, {}, lambda documents=documents: documents))
    build_store(str(folder), sources, Tokenizer.load(ROOT / "tests/fixtures/tokenizer.model"), held_out=0.3)
    return folder


FOLDERS = {
    "runs/law/train": ("law_counsel", "law_advice", "law_exam"),
    "runs/law/held_out": ("law_gpt4", "law_cases"),
    "runs/finance/auxiliary": ("sentiment", "sentiment_rationale"),
    "runs/finance/label_eval": ("sentiment",),
    "runs/finance/thought_eval": ("sentiment",),
}
"""Datasets of the folders that suites of tuning runs name."""


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, real_sources: Path) -> Path:
    """A working folder with what the suites' variants name: stores of pre-training runs; of tuning runs a base, and one
    conversation in each file; a few items of benchmark tasks.
    """
    folder = tmp_path_factory.mktemp("suites") / "project"
    folder.mkdir()
    for name in ("configs", "launch"):
        (folder / name).symlink_to(ROOT / name)
    small = (f"Mixture.store={real_sources}", "Model.vocab_size=1000")
    files = (CONFIGS / "real_text.gin", CONFIGS / "scales/smoke.gin")
    text = HeldOutText(str(real_sources), (), 8)
    TRAINERS["pretrain"].train(
        arguments(*files, overrides=(*small, "Loop.steps=1")), text, folder / "runs/entropy/base"
    )
    _write_items(folder / "runs/benchmarks")
    named: set[str] = set()
    for name in SUITES:
        suite = configuration.load(Suite, arguments(CONFIGS / f"{name}.gin"))
        for setting in (setting for settings in suite.variants.values() for setting in settings):
            if store := setting.partition("Mixture.store=")[2]:
                (folder / store).parent.mkdir(parents=True, exist_ok=True)
                (folder / store).symlink_to(real_sources)
        for settings in suite.variants.values() if suite.trainer == "tune" else ():
            config = configuration.load(Tune, arguments(*map(ROOT.joinpath, suite.base), overrides=settings))
            named |= {*config.instructions.inputs, *config.instructions.held_out_inputs, *config.labels.inputs}
    datasets = (f"{path}/{name}.jsonl" for path in named for name in FOLDERS.get(path, ()))
    for number, path in enumerate(sorted({path for path in named if path not in FOLDERS} | set(datasets))):
        asked, answered = ("a?", "积极") if "eval" in path else (f"a {number}?", f"b {number}")
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        row = {"id": "1", "label": "积极", "messages": messages}
        content = (json.dumps(row) + "\n").encode()
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(gzip.compress(content) if path.endswith(".gz") else content)
    return folder


def _write_items(data: Path) -> None:
    """Writes a few items of each task that a suite names, where the harness is installed."""
    try:
        from mindllm_jax.evaluation.harness.index import leaves, task_manager

        index = task_manager(["mmlu", "cmmlu"], "TaskSuite").task_index
    except ImportError:
        return
    question = {"question": "1 + 1?", "subject": "s", "choices": ["1", "2", "3", "4"], "answer": 1}
    exercise = {"Question": "一加一？", "A": "一", "B": "二", "C": "三", "D": "四", "Answer": "B"}
    rows: dict[str, list[dict]] = {
        "mindllm/flores200/default/devtest": [{"eng_Latn": f"word {n}", "zho_Hans": f"一{n}"} for n in range(4)],
        "mindllm/arithmetic/2da/test": [{"context": f"{n} + 1 =", "completion": f" {n + 1}"} for n in range(4)],
    }
    for split in ("dev", "test"):
        rows |= {f"cais/mmlu/{name.removeprefix('mmlu_')}/{split}": [question] * 2 for name in leaves("mmlu", index)}
        subjects = (name.removeprefix("cmmlu_") for name in leaves("cmmlu", index))
        rows |= {f"haonan-li/cmmlu/{name}/{split}": [exercise] * 2 for name in subjects}
    for path, items in rows.items():
        file = data / f"{path}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(item) + "\n" for item in items))


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """Two variants with a measure; its records and results in the test's folder."""
    return Suite(
        title="a suite",
        question="Which is better?",
        expected="The second.",
        base=(),
        variants={"one": (), "two": ("Loop.z_loss=0.1",)},
        baseline="one",
        measures=("bits_per_byte/mean",),
        expectations=({"variant": "two", "measure": "bits_per_byte/mean", "direction": "lower", "claim": "geglu"},),
        records=str(tmp_path / "records"),
        results=str(tmp_path / "results"),
        ledger=str(tmp_path / "claims.md"),
    )


@pytest.fixture
def record() -> Callable[..., Record]:
    """Makes the record of a run: `record("two", 3, 1.5)` ends at 1.5 in seed 3."""

    def make(variant: str, seed: int, value: float, **changed: object) -> Record:
        made = Record(
            settings=f"{variant}-{seed}",
            version="v1",
            status="done",
            reason="",
            suite="a suite",
            variant=variant,
            seed=seed,
            scale="cpu",
            commit="0" * 40,
            command=["python", "launch/train.py"],
            date="2026-01-01",
            hardware="a processor",
            versions={},
            parameters=1000,
            tokens=2000,
            flops=1e9,
            seconds=10.0,
            curves={"bits_per_byte/mean": [(0, 9.0), (1, value + 1), (2, value)]},
        )
        return dataclasses.replace(made, **changed)  # pyright: ignore[reportArgumentType]

    return make
