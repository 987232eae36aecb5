"""The command: every suite at the smallest scale, from a plan to the ledger."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mindllm_jax import configuration
from mindllm_jax.ablations.plan import suite_runs
from mindllm_jax.ablations.suite import Suite
from tests.ablations.conftest import CONFIGS, ROOT, SUITES, arguments


def _ablate(folder: Path, store: Path, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "scale": "smoke",
        "seeds": 1,
        "settings": f"('Mixture.store={store}', 'Model.vocab_size=1000')",
        "records": folder / "records",
        "results": folder / "results",
        "ledger": folder / "claims.md",
    }
    given = [f"--gin.Suite.{key}={value}" for key, value in settings.items()]
    command = [sys.executable, "launch/ablate.py", "--gin", f"configs/ablations/{name}.gin", *given, *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.long
def test_a_suite_from_its_runs_to_its_tables(tmp_path: Path, real_sources: Path):
    done = _ablate(tmp_path, real_sources, "strategy", "--workdir", str(tmp_path / "runs"))
    assert done.returncode == 0, done.stdout + done.stderr
    records = {path.name: json.loads(path.read_text()) for path in (tmp_path / "records").glob("*.json")}
    assert sorted(record["variant"] for record in records.values()) == ["Chinese first", "English first", "mixed"]
    assert all(record["status"] == "done" for record in records.values())
    table = tmp_path / "results/strategy.smoke.md"
    assert "not run" not in table.read_text()

    # The same run again: the same numbers, bit for bit.
    again = next(path for path, record in records.items() if record["variant"] == "English first")
    (tmp_path / "records" / again).unlink()
    shutil.rmtree(tmp_path / "runs" / again.removesuffix(".json"))
    done = _ablate(tmp_path, real_sources, "strategy", "--workdir", str(tmp_path / "runs"))
    assert done.returncode == 0 and "3 runs, 2 of them done" in done.stdout
    assert json.loads((tmp_path / "records" / again).read_text())["curves"] == records[again]["curves"]

    # Tables need records alone, neither the store nor a workdir.
    first = table.read_text()
    table.unlink()
    done = _ablate(tmp_path, tmp_path / "absent", "strategy", "--tables")
    assert done.returncode == 0, done.stderr
    assert _without_times(table.read_text()) == _without_times(first)


@pytest.mark.slow
def test_every_suite_runs_at_smoke_scale_and_shares_its_baseline(tmp_path: Path, real_sources: Path):
    for name in SUITES:
        done = _ablate(tmp_path, real_sources, name, "--workdir", str(tmp_path / "runs"))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "not run" not in (tmp_path / f"results/{name}.smoke.md").read_text()
    assert len(list((tmp_path / "records").glob("*.json"))) == 16


@pytest.mark.parametrize("name", SUITES)
def test_suites_are_planned(tmp_path: Path, real_sources: Path, name: str):
    suite = configuration.load(Suite, arguments(CONFIGS / f"{name}.gin"))
    settings = (f"Mixture.store={real_sources}", "Model.vocab_size=1000")
    suite = dataclasses.replace(suite, scale="smoke", settings=settings, records=str(tmp_path))
    runs = suite_runs(suite)
    assert len(runs) == suite.seeds * len(suite.variants)
    assert runs[0].variant == suite.baseline
    assert all(f"Loop.seed={run.seed}" in " ".join(run.command) for run in runs)


def test_bad_input_is_one_message(tmp_path: Path, real_sources: Path):
    done = _ablate(tmp_path, real_sources, "strategy")
    assert done.returncode != 0 and "--workdir" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "records").exists()


def _without_times(text: str) -> str:
    return re.sub(r"[\d.]+ hours", "", text)
