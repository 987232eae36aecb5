"""A tiny store, a tiny model, and a run as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import pytest

from mindllm_jax.batching.global_batches import Loader
from mindllm_jax.mixture.rows import MixtureRows
from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.rows import TrainingRows
from mindllm_jax.run_records import resolved
from mindllm_jax.store.store import TokenStore
from mindllm_jax.store.writer import SourceDocuments, build_store
from mindllm_jax.text.documents import Document
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training import loop
from mindllm_jax.training.checkpoint import Checkpointing
from mindllm_jax.training.loop import Periodic
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.pretrain import Pretrain
from mindllm_jax.training.run_spec import Loop, run_spec

ROOT = Path(__file__).parents[2]
SETTINGS = """
Model.vocab_size = 1000
Model.layers = 2
Model.width = 32
Model.heads = 2
Model.head_dim = 16
Model.mlp_dim = 64
Model.max_seq_len = 32
Mixture.sequence_length = 32
Loop.global_batch_size = 8
Loop.steps = 10
Loop.log_every = 1
Loop.evaluate_every = 100
Checkpointing.every_steps = 5
"""

Run = Callable[..., subprocess.CompletedProcess[str]]
Train = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token store of 80 short documents in each language."""
    folder = tmp_path_factory.mktemp("store") / "store"
    tokenizer = Tokenizer.load(ROOT / "tests" / "fixtures" / "tokenizer.model")
    texts = {
        "laws": ("zh", [f"第{n}条　公民的合法权益受法律保护，任何人不得侵犯第{n * 7}号财产。\n" for n in range(80)]),
        "wiki": ("en", [f"Article {n}: the river was {n * 3} miles long, the mill {n} below.\n" for n in range(80)]),
    }
    sources = [
        SourceDocuments(
            name, language, {}, lambda name=name, language=language, lines=lines: documents(name, language, lines)
        )
        for name, (language, lines) in texts.items()
    ]
    build_store(str(folder), sources, tokenizer, held_out=0.1)
    return folder


def documents(source: str, language: str, texts: list[str]) -> list[Document]:
    return [Document(text, source, language, f"{source}/{n}") for n, text in enumerate(texts)]


@pytest.fixture(scope="session")
def run(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs launch/train.py on the store in a process of its own; `before` comes in front of the command."""
    gin = tmp_path_factory.mktemp("gin") / "tiny.gin"
    gin.write_text(f"{SETTINGS}\nMixture.store = '{store}'\n")

    def run(
        workdir: Path, *settings: str, before: tuple[str, ...] = (), environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [*before, sys.executable, "launch/train.py", "--gin", str(gin), "--workdir", str(workdir), *settings]
        everything = os.environ | {"JAX_PLATFORMS": "cpu"} | (environment or {})
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=everything)

    return run


@pytest.fixture(scope="session")
def train(store: Path) -> Train:
    """Trains a model of one layer on one device of this process; returns the lines of metrics.jsonl.

    Settings are given by class: `train(workdir, Loop={"steps": 8})`. `rows` makes the rows to be read of the mixture's.
    """

    def train(
        workdir: Path,
        periodic: Iterable[Periodic] = (),
        rows: Callable[[MixtureRows], TrainingRows] = lambda rows: rows,
        accept: Callable[[], None] = lambda: None,
        **settings: dict[str, Any],
    ) -> list[dict[str, Any]]:
        model: dict[str, Any] = {"vocab_size": 1000, "layers": 1, "width": 16, "heads": 1, "head_dim": 16}
        model |= {"mlp_dim": 32, "max_seq_len": 64, "compute_dtype": "float32"}
        steps: dict[str, Any] = {"steps": 4, "global_batch_size": 4, "log_every": 1}
        mixture: dict[str, Any] = {"store": str(store), "sequence_length": 32}
        config = Pretrain(
            data=Mixture(**mixture | settings.get("Mixture", {})),
            model=Model(**model | settings.get("Model", {})),
            loop=Loop(**steps | settings.get("Loop", {})),
            checkpointing=Checkpointing(**settings.get("Checkpointing", {})),
        )
        stored = TokenStore.open(store)
        read = MixtureRows(
            config.data, stored, steps=config.loop.steps, global_batch_size=config.loop.global_batch_size
        )
        length, identity = config.data.sequence_length, resolved(config) | {"seed": config.loop.seed}
        run = run_spec(config.model, config.loop, Optimizer(), MeshAxes(), length, jax.devices()[:1])
        loop.train(
            run,
            rows(read),
            workdir,
            config.checkpointing,
            identity,
            loader=Loader(threads=1),
            periodic=periodic,
            accept=accept,
        )
        return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]

    return train
