"""A tiny store, a tiny model, and a run as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mindllm_jax.corpus.documents import Document
from mindllm_jax.data.store_writer import SourceDocuments, build_store
from mindllm_jax.data.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
SETTINGS = """
Model.vocab_size = 1000
Model.layers = 2
Model.width = 32
Model.heads = 2
Model.head_dim = 16
Model.feed_forward = 64
Model.max_length = 32
Mixture.sequence_length = 32
Loop.batch_rows = 8
Loop.steps = 10
Loop.log_every = 1
Loop.evaluate_every = 100
Checkpointing.every_steps = 5
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


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
