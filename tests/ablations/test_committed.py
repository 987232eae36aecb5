"""The committed tables are those of the committed records: anyone can rebuild them."""

from __future__ import annotations

import pytest

from mindllm_jax import configuration
from mindllm_jax.ablations.claims import ledger, read_claims, read_verdicts
from mindllm_jax.ablations.plan import suite_runs
from mindllm_jax.ablations.report import heading, result_tables
from mindllm_jax.ablations.results import suite_results
from mindllm_jax.ablations.suite import Suite
from tests.ablations.conftest import CONFIGS, ROOT, arguments

RESULTS = ROOT / "docs/results/ablations"
TABLES = sorted(path.stem for path in RESULTS.glob("*.md"))


@pytest.mark.parametrize("table", TABLES)
def test_a_committed_table_is_that_of_the_records(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    name, scale = table.split(".")
    suite = configuration.load(Suite, arguments(CONFIGS / f"{name}.gin", overrides=(f"Suite.scale={scale}",)))
    results = suite_results(suite, suite_runs(suite, data=False))
    committed = (RESULTS / f"{table}.md").read_text(encoding="utf-8")
    assert committed.startswith(f"# {heading(suite, results)}\n")
    for rebuilt in result_tables(suite, results, read_claims()):
        assert rebuilt.markdown() in committed


def test_the_committed_ledger_is_that_of_claims_and_verdicts() -> None:
    rebuilt = ledger(read_claims(), read_verdicts(RESULTS))
    assert (ROOT / "docs/claims.md").read_text(encoding="utf-8") == rebuilt


def test_there_are_tables() -> None:
    assert {"strategy.cpu", "order.cpu"} <= set(TABLES)
