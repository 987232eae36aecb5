"""A corpus cleaned on Slurm and on Ray is the one cleaned here."""

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
    lenient = ("en_repeated_runs=1.0", "en_commonest_run=1.0", "zh_repeated_runs=1.0", "zh_commonest_run=1.0")
    values = [f"CleanCorpus.inputs=('{folder}',)", "MinHash.buckets=4", *(f"QualityRules.{rule}" for rule in lenient)]
    return [f"--gin.{value}" for value in [*values, "MinHash.similarity=1.0", "Repeats.site_documents=50"]]


def prepare(settings: list[str], folder: Path, *more: str, **environment: str) -> str:
    values = [
        f"CleanCorpus.output={folder}/corpus",
        f"PrepareData.tokenizer={FIXTURE}",
        f"PrepareData.store={folder}/store",
    ]
    command = [sys.executable, "launch/prepare_data.py", *settings, *(f"--gin.{value}" for value in [*values, *more])]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documents(folder: Path) -> dict[str, bytes]:
    files = sorted((folder / "corpus/documents").rglob("*.gz"))
    return {str(file.relative_to(folder)): gzip.decompress(file.read_bytes()) for file in files}


@pytest.fixture(scope="module")
def here(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What comes out on this machine."""
    folder = tmp_path_factory.mktemp("here")
    assert "token store" in prepare(settings, folder, "Executor.workers=1")
    assert (folder / "corpus/card.html").exists()
    assert len(documents(folder)) == 2
    return documents(folder)


@pytest.mark.slow
def test_on_slurm(slurm: Callable[..., str], settings: list[str], here: dict[str, bytes], tmp_path: Path) -> None:
    environment = slurm.environment  # pyright: ignore[reportFunctionMemberAccess]
    on_slurm = ("Executor.kind=slurm", "Executor.partition=all", "Executor.memory_gb=1", "Executor.time='00:10:00'")
    shell = f"Executor.environment='export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={ROOT}'"
    said = prepare(settings, tmp_path, *on_slurm, shell, **environment)
    assert "submitted to Slurm" in said
    deadline = time.monotonic() + 240
    while slurm("squeue", "--noheader").strip():
        assert time.monotonic() < deadline, slurm("squeue")
        time.sleep(1)
    assert "token store" in prepare(settings, tmp_path, *on_slurm, shell, **environment)
    assert documents(tmp_path) == here


@pytest.mark.slow
def test_on_ray(settings: list[str], here: dict[str, bytes], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'mindllm-jax[ray]'")
    prepare(settings, tmp_path, "Executor.kind=ray", "Executor.memory_gb=1", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0")
    assert documents(tmp_path) == here
