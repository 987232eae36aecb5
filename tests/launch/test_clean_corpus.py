"""A corpus cleaned on Slurm and on Ray equals the one cleaned on this machine, and can be tokenized."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "tests/fixtures/tokenizer.model"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two raw files, and settings under which they are kept."""
    folder = tmp_path_factory.mktemp("raw")
    sentences = {
        "en": "The mill number {} by the river had to be mended with care. ",
        "zh": "河边第{}座磨坊要用心修理，村里的人都知道。",
    }
    for lang, sentence in sentences.items():
        rows = [{"text": sentence.format(n) * 12, "source": lang, "lang": lang, "id": f"{lang}{n}"} for n in range(20)]
        (folder / f"{lang}.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    lenient = (
        "en_max_duplicate_ngram_share=1.0",
        "en_max_top_ngram_share=1.0",
        "zh_max_duplicate_ngram_share=1.0",
        "zh_max_top_ngram_share=1.0",
    )
    values = [f"CleanCorpus.inputs=('{folder}',)", "MinHash.buckets=4", *(f"QualityRules.{rule}" for rule in lenient)]
    return [f"--gin.{value}" for value in [*values, "MinHash.min_similarity=1.0", "Repeats.min_site_documents=50"]]


def clean(settings: list[str], folder: Path, *more: str, **environment: str) -> str:
    values = [f"--gin.{value}" for value in (f"CleanCorpus.output={folder}/corpus", *more)]
    return launch("clean_corpus.py", *settings, *values, **environment)


def launch(*words: str, **environment: str) -> str:
    command = [sys.executable, f"launch/{words[0]}", *words[1:]]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documents(folder: Path) -> dict[str, bytes]:
    files = sorted((folder / "corpus/documents").rglob("*.gz"))
    return {str(file.relative_to(folder)): gzip.decompress(file.read_bytes()) for file in files}


@pytest.fixture(scope="module")
def local(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the corpus cleaned on this machine."""
    folder = tmp_path_factory.mktemp("local")
    assert "card.html" in clean(settings, folder, "Executor.workers=1")
    assert len(documents(folder)) == 2
    return folder


@pytest.mark.slow
def test_a_cleaned_corpus_is_tokenized_and_its_card_gets_the_tokens(local: Path) -> None:
    values = (f"corpus={local}/corpus", f"tokenizer={FIXTURE}", f"store={local}/store")
    table = launch("prepare_data.py", *(f"--gin.PrepareData.{value}" for value in values))
    assert "all of zh" in table
    card = json.loads((local / "corpus/card.json").read_text("utf-8"))
    assert set(card["tokens"]) == {"en", "zh"} and min(card["tokens"].values()) > 0
    assert f"{card['tokens']['zh']:,}" in (local / "corpus/card.html").read_text("utf-8")


@pytest.mark.slow
def test_on_slurm(slurm: Callable[..., str], settings: list[str], local: Path, tmp_path: Path) -> None:
    environment = slurm.environment  # pyright: ignore[reportFunctionMemberAccess]
    on_slurm = (
        "Executor.kind=slurm",
        "Executor.partition=all",
        "Executor.memory_gb=1",
        "Executor.time_limit='00:10:00'",
    )
    shell = f"Executor.setup_command='export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={ROOT}'"
    assert "submitted to Slurm" in clean(settings, tmp_path, *on_slurm, shell, **environment)
    deadline = time.monotonic() + 240
    while slurm("squeue", "--noheader").strip():
        assert time.monotonic() < deadline, slurm("squeue")
        time.sleep(1)
    assert "card.html" in clean(settings, tmp_path, *on_slurm, shell, **environment)
    assert documents(tmp_path) == documents(local)


@pytest.mark.slow
def test_on_ray(settings: list[str], local: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'mindllm-jax[ray]'")
    clean(settings, tmp_path, "Executor.kind=ray", "Executor.memory_gb=1", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0")
    assert documents(tmp_path) == documents(local)
