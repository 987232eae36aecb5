"""The paired comparison of two evaluations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindllm_jax.evaluation.comparison import compare, paired, require_samples, settings_that_differ
from mindllm_jax.evaluation.harness.run import TaskResult


def record(text: str, acc: float, **more: Any) -> dict[str, Any]:
    return {"filter": "none", "doc_hash": text, "metrics": ["acc"], "acc": acc} | more


def result(**samples: list[dict[str, Any]]) -> TaskResult:
    return TaskResult("quiz", {}, 0, 0, 0, 0, None, 0, 0.0, {}, samples)


def write(folder: Path, task: str, records: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in records)
    (folder / f"samples_{task}.jsonl").write_text(text, encoding="utf-8")


def test_items_are_paired_by_their_hash(tmp_path: Path) -> None:
    """In another order, with an item that only one has, and two items with the same text."""
    ours = [record("a", 1.0), record("b", 0.0), record("same", 1.0), record("same", 0.0), record("only ours", 1.0)]
    write(
        tmp_path, "quiz", [record("same", 0.0), record("b", 1.0), record("same", 0.0), record("a", 0.0, note="\u2028")]
    )
    found = compare(result(quiz=ours), tmp_path)
    assert found["acc"]["items"] == 4 and found["acc"]["difference"] == pytest.approx((1 - 1 + 1 + 0) / 4)
    assert found["acc"]["low"] < found["acc"]["difference"] < found["acc"]["high"]


def test_filters_and_members_are_told_apart(tmp_path: Path) -> None:
    both = [record("a", 1.0, filter="strict"), record("a", 0.0, filter="flexible")]
    write(tmp_path, "one", [record("a", 0.0, filter="strict"), record("a", 0.0, filter="flexible")])
    write(tmp_path, "two", [record("a", 0.5, filter="strict")])
    found = compare(result(one=both, two=both), tmp_path)
    assert found["acc,strict"]["difference"] == pytest.approx(0.75) and found["acc,strict"]["items"] == 2
    assert found["acc,flexible"]["difference"] == 0 and found["acc,flexible"]["items"] == 1


def test_measures_of_multiple_choice_are_compared_too(tmp_path: Path) -> None:
    def choice(log: float) -> dict[str, Any]:
        return record("a", 1.0, filtered_resps=[(log, True), (-9.0, False)], choices=["x", "y"], right=[0])

    write(tmp_path, "quiz", [choice(-2.0)])
    found = compare(result(quiz=[choice(-1.0)]), tmp_path)
    assert found["bits_per_byte"]["difference"] == pytest.approx(-1 / np.log(2))
    assert found["acc"]["difference"] == 0 and found["probability"]["difference"] > 0


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    """400 data sets of 100 differences around 0.3: 95 % of the intervals, within four standard errors."""
    generator = np.random.default_rng(0)
    intervals = [paired(generator.normal(0.3, 2.0, 100).tolist(), draws=400, seed=n) for n in range(400)]
    covered = sum(low <= 0.3 <= high for _, low, high, _ in intervals) / 400
    assert covered == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / 400) ** 0.5)
    assert np.mean([high - low for _, low, high, _ in intervals]) == pytest.approx(2 * 1.96 * 0.2, rel=0.05)


def test_it_is_the_same_each_time_and_exact_without_spread() -> None:
    assert paired([0.5, -1.0, 2.0]) == paired([0.5, -1.0, 2.0])
    assert paired([0.25] * 7)[:3] == (0.25, 0.25, 0.25)


def test_what_cannot_be_compared_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Evaluate\.against: .* holds no samples_TASK\.jsonl of quiz"):
        require_samples(tmp_path, ["quiz"])
    (tmp_path / "samples_quiz.jsonl").write_text('{"filter": "none"}\n')
    require_samples(tmp_path, ["quiz", "other"])
    with pytest.raises(ValueError, match=r"samples_quiz\.jsonl, line 1: damaged: not a sample"):
        compare(result(quiz=[record("a", 1.0)]), tmp_path)
    assert compare(result(other=[record("a", 1.0)]), tmp_path) == {}


def test_settings_that_differ_are_named(tmp_path: Path) -> None:
    """Another tokenizer is the model's; a task of one evaluation alone has nothing to be compared with."""
    protocol = {"seam": "together", "tokenizer_sha256": "a"}
    ours = {"protocol": protocol, "task_settings": {"max_gen_toks": None}}
    theirs = {
        "protocol": {"seam": "apart", "tokenizer_sha256": "b"},
        "task_settings": {"max_gen_toks": 40},
        "tasks": {"cmmlu": {"shots": 5}, "piqa": {"shots": 0}, "mmlu": {"shots": 1}},
    }
    path = tmp_path / "eval.json"
    shots = {"cmmlu": 0, "piqa": 0, "ceval": 3}
    (missing,) = settings_that_differ(ours, shots, tmp_path)
    assert missing == f"the other's settings are not known: there is no {path}"
    path.write_text(json.dumps(theirs))
    assert settings_that_differ(ours, shots, tmp_path) == [
        "max_gen_toks: there 40, here None",
        "protocol.seam: there 'apart', here 'together'",
        "shots.cmmlu: there 5, here 0",
    ]
    path.write_text(json.dumps(ours | {"tasks": {"cmmlu": {"shots": 0}}}))
    assert settings_that_differ(ours, shots, tmp_path) == []
    path.write_text('{"results": {}}')
    assert settings_that_differ(ours, shots, tmp_path) == [
        f"the other's settings are not known: {path} has no `protocol`"
    ]
    path.write_text('{"tasks": 3, "protocol": {}}')
    with pytest.raises(ValueError, match=r"eval.json is damaged: not the result of an evaluation"):
        settings_that_differ(ours, shots, tmp_path)
