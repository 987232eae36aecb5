"""Benchmark tasks as measures of a suite."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from mindllm_jax.ablations.plan import suite_runs
from mindllm_jax.ablations.runner import run_missing
from mindllm_jax.ablations.suite import Suite

pytest.importorskip("lm_eval", reason="lm-eval (the extra `eval`) is not installed")

MEASURE = "tasks/continuation_zh/acc_mutual_info"


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """The file of eight items of a task."""
    path = tmp_path / "benchmarks/mindllm/continuation/zh/test.jsonl"
    path.parent.mkdir(parents=True)
    texts = ("甲乙", "河。", "天下大势", "公民的")
    rows = [{"id": str(n), "context": f"第{n}条，", "choices": texts, "answer": n % 4} for n in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def asked(suite: Suite, real_sources: Path, items: Path) -> Suite:
    """A suite of one seed that measures the task."""
    settings = (
        *(f"Mixture.store={real_sources}", "Mixture.sources=()", "Mixture.weights={'zh': 1, 'en': 1}"),
        *("TaskSuite.tasks=('continuation_zh',)", f"TaskSuite.data={items.parents[3]}"),
    )
    expected = ({"variant": "two", "measure": MEASURE, "direction": "higher"},)
    return dataclasses.replace(
        suite, scale="smoke", seeds=1, settings=settings, measures=(MEASURE,), expectations=expected
    )  # fmt: skip


@pytest.mark.long
def test_records_hold_the_metrics_of_tasks(asked: Suite, tmp_path: Path) -> None:
    run_missing(asked, suite_runs(asked), tmp_path / "runs", print)
    for path in Path(asked.records).glob("*.json"):
        assert [step for step, _ in json.loads(path.read_text())["curves"][MEASURE]] == [10]


def test_tasks_and_their_items_identify_a_run(asked: Suite, items: Path) -> None:
    before = suite_runs(asked)
    elsewhere = items.parents[3].rename(items.parents[4] / "moved")
    moved = (*asked.settings[:-1], f"TaskSuite.data={elsewhere}")
    after = suite_runs(dataclasses.replace(asked, settings=moved))
    assert [(run.settings, run.version) for run in after] == [(run.settings, run.version) for run in before]

    path = elsewhere / "mindllm/continuation/zh/test.jsonl"
    path.write_text(path.read_text().replace('"answer": 3', '"answer": 0'))
    changed = suite_runs(dataclasses.replace(asked, settings=moved))
    assert [run.settings for run in changed] == [run.settings for run in before]
    assert changed[0].version != before[0].version

    without = dataclasses.replace(
        asked, settings=asked.settings[:3], measures=("bits_per_byte/zh",), expectations=()
    )  # fmt: skip
    assert suite_runs(without)[0].settings != before[0].settings


def test_tasks_that_make_no_sense_are_refused(asked: Suite) -> None:
    wrong = dataclasses.replace(asked, measures=("tasks/continuation_zh/f1",), expectations=())
    with pytest.raises(ValueError, match=r"one of Suite.measures is 'tasks/continuation_zh/f1', .*did you mean"):
        suite_runs(wrong)
    variants = {"one": (), "two": ("TaskSuite.samples=3",)}
    with pytest.raises(ValueError, match="variant 'two' of 'a suite' has another TaskSuite than 'one'"):
        suite_runs(dataclasses.replace(asked, variants=variants))
    of_hub = dataclasses.replace(asked, settings=(*asked.settings[:-1], "TaskSuite.data=None"))
    with pytest.raises(ValueError, match=r"TaskSuite\.data is not set: name the folder of the items"):
        suite_runs(of_hub)
