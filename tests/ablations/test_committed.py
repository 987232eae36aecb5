"""The committed tables are those of the committed records: anyone can rebuild them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from mindllm_jax import configuration
from mindllm_jax.ablations.claims import ledger, read_claims, read_verdicts
from mindllm_jax.ablations.plan import suite_runs
from mindllm_jax.ablations.report import write_report
from mindllm_jax.ablations.results import suite_results
from mindllm_jax.ablations.suite import Suite
from tests.ablations.conftest import CONFIGS, ROOT, arguments

RESULTS = ROOT / "docs/results/ablations"
TABLES = sorted(path.stem for path in RESULTS.glob("*.md"))


@pytest.mark.parametrize("table", TABLES)
def test_a_committed_page_is_that_of_the_records(table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    name, scale = table.split(".")
    suite = configuration.load(Suite, arguments(CONFIGS / f"{name}.gin", overrides=(f"Suite.scale={scale}",)))
    suite = dataclasses.replace(suite, results=str(tmp_path))
    write_report(suite, name, suite_results(suite, suite_runs(suite, data=False)), read_claims())
    for file in (f"{table}.md", f"{table}.html"):
        rebuilt, committed = (_without_pictures((folder / file).read_text("utf-8")) for folder in (tmp_path, RESULTS))
        assert rebuilt == committed


def _without_pictures(page: str) -> str:
    """The page without the coordinates of its plots, whose last digits may be another machine's."""
    return re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)


def test_the_committed_ledger_is_that_of_claims_and_verdicts() -> None:
    rebuilt = ledger(read_claims(), read_verdicts(RESULTS))
    assert (ROOT / "docs/claims.md").read_text(encoding="utf-8") == rebuilt


def test_there_are_tables() -> None:
    assert {"strategy.cpu", "order.cpu"} <= set(TABLES)
