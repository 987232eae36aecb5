"""The benchmark of attention: its arithmetic, its errors, the search for tiles, and a tiny run."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from mindllm_jax.kernels.flash_attention import tiles, triton
from mindllm_jax.kernels.flash_attention.tiles import Row

ROOT = Path(__file__).parents[2]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("attention_calls")


@pytest.fixture
def attention(calls: Any) -> Any:
    return importlib.import_module("attention")


@pytest.fixture
def attention_tiles(calls: Any) -> Any:
    return importlib.import_module("attention_tiles")


def test_flop_counts_pairs_that_may_meet(calls: Any) -> None:
    for mean in (None, 20):
        problem = calls.Problem(mean, head_dim=8, heads=4, kv_heads=2, length=100, batch=3)
        ids = problem.segment_ids()
        pairs = (np.tri(100, dtype=bool) & (ids[:, :, None] == ids[:, None])).sum()
        assert problem.flop() == 2 * 2 * 8 * 4 * pairs  # two products, a multiplication and an addition each
        assert (len(np.unique(ids)) > 3) == (mean is not None)


@pytest.mark.parametrize("mean", [None, 40])
def test_errors_notice_what_is_wrong(calls: Any, mean: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of the timed results is compared; it is right for a right implementation, and each of the four counts."""
    monkeypatch.setattr(calls, "CHECKED", 32)
    problem = calls.Problem(mean, head_dim=16, heads=2, kv_heads=1, length=160, batch=2)
    expected = calls.truth(problem)
    assert [x.shape[1] for x in expected] == [32] * 4
    results = calls.with_jax("xla", problem).results()
    assert max(calls.errors(results, expected)) < 0.01
    for i in range(4):
        wrong = [x * (1.1 if j == i else 1) for j, x in enumerate(results)]
        assert [error > 0.05 for error in calls.errors(wrong, expected)] == [j == i for j in range(4)]


def test_what_cannot_be_done_is_a_line(attention: Any) -> None:
    problem = attention.Problem(None, head_dim=16, heads=2, kv_heads=1, length=16, batch=1)
    *_, why = attention.line(problem, "cudnn", 1e12)
    assert "implementation='cudnn' runs on gpu, not on cpu" in why


def test_packed_rows_over_causal_ones_of_the_peer(attention: Any) -> None:
    def entry(row: str, name: str, forward: float, both: float, why: str = "") -> tuple[Any, ...]:
        return row, 128, "16/16", 8192, name, forward, 0, 0, both, 0, 0, 0, 0, why

    lines = [entry("causal", "cudnn", 4, 10), entry("packed 1024", "triton", 1, 5), entry("packed 512", "triton", 9, 9)]
    assert list(attention.packed_ratios(lines, "gpu")) == [(128, "16/16", "triton", "cudnn", 0.25, 0.5)]
    lines[0] = entry("causal", "cudnn", 4, 10, "out of memory")
    assert not list(attention.packed_ratios(lines, "gpu"))


def test_the_file_of_tiles_is_as_the_search_writes_it(attention_tiles: Any) -> None:
    assert tiles.PATH.read_text(encoding="utf-8") == attention_tiles.as_text(tiles.rows())


def test_a_form_of_a_chip_has_the_name_of_the_chip_in_the_table() -> None:
    rows = tiles.rows()
    assert tiles.table_name("NVIDIA H100 80GB HBM3", rows, otherwise="NVIDIA H100 80GB HBM3") == "NVIDIA H100"
    assert tiles.table_name("TPU v5 lite", rows, otherwise="TPU v5 lite") == "TPU v5 lite"
    assert tiles.table_name("NVIDIA X", rows, otherwise="NVIDIA X") == "NVIDIA X"


def test_search_keeps_the_fastest_tile_and_other_chips(attention_tiles: Any, tmp_path: Path) -> None:
    """By times that are made up: wide tiles are fast, the widest do not run, and one kernel runs with no tile."""
    path = tmp_path / "tiles.json"
    path.write_text(tiles.PATH.read_text(encoding="utf-8"), encoding="utf-8")
    before = tiles.rows()
    tried: list[Row] = []

    def seconds(table: tuple[Row, ...], row: Row) -> float | None:
        tried.append(row)
        assert row in table
        return None if row.queries == 256 or row.kernel == "backward_keys" else 1 / (row.queries * row.keys)

    candidates = [(q, k, 4, 2) for q in (64, 128, 256) for k in (64, 32)]
    kernels = dict.fromkeys(("forward", "backward_queries", "backward_keys"), candidates)

    def search(source: str) -> int:
        tried.clear()
        attention_tiles.search("NVIDIA X", kernels, [64, 128], [2048, 8192], source, seconds, path)
        return len(tried)

    assert search("measured yesterday") == 6 * 3 * 4
    assert search("measured") == 6 * 3 * 4  # the lines of yesterday are replaced
    assert search("measured") == 6 * 4  # what was found stays; a kernel with which no tile ran is tried again
    after = tuple(Row(**line) for line in json.loads(path.read_text(encoding="utf-8")))
    assert path.read_text(encoding="utf-8") == attention_tiles.as_text(after)
    own = {row[1:7] for row in after if row.chip == "NVIDIA X"}
    kept = ("forward", "backward_queries")
    assert own == {
        (kernel, head, length, 128, 64, 4) for kernel in kept for head in (64, 128) for length in (2048, 8192)
    }
    assert tuple(row for row in after if row.chip != "NVIDIA X") == before


def test_a_line_on_trial_is_what_is_launched(attention_tiles: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row("GPU", "forward", 64, 2048, 16, 128, 2, 1, "")
    table = attention_tiles.replaced(tiles.rows(), row)
    monkeypatch.setattr(tiles, "rows", lambda: table)
    assert triton.tile_sizes("forward", jnp.bfloat16, 64, 2048) == (16, 128, 2, 1)
    assert triton.tile_sizes("forward", jnp.bfloat16, 128, 2048) != (16, 128, 2, 1)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "benchmarks/attention.py", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_without_an_accelerator() -> None:
    done = run()
    assert done.returncode == 0 and "not measured: JAX finds no GPU and no TPU" in done.stdout


@pytest.mark.long
def test_a_tiny_run(tmp_path: Path) -> None:
    file = tmp_path / "attention.md"
    words = "--head_dims 16 --lengths 64 --tokens 64 --heads 2/1 --means causal,20".split()
    done = run("--here", *words, "--markdown", str(file))
    assert done.returncode == 0, done.stderr
    found = {(x["row"], x["implementation"]): x for x in json.loads(done.stdout.splitlines()[-1])["lines"]}
    assert set(found) == {(row, name) for row in ("causal", "packed 20") for name in ("xla", "reference", "torch")}
    right = [x for (_, name), x in found.items() if name != "torch"]
    assert all(x["both ms"] > 0 and x["error"] < 0.01 and not x["why not"] for x in right)
    assert found["packed 20", "torch"]["why not"]
    page = file.read_text(encoding="utf-8")
    assert "| packed 20 | 16 | 2/1 | 64 | xla |" in page and "--lengths 64" in page and "jax " in page
