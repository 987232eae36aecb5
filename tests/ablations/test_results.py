"""Records and the results that are made from them."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mindllm_jax.ablations import command
from mindllm_jax.ablations.claims import read_claims, write_verdicts
from mindllm_jax.ablations.command import write_results
from mindllm_jax.ablations.measurement import HeldOutText
from mindllm_jax.ablations.plan import Run, suite_runs
from mindllm_jax.ablations.records import Record, curves, read_records, write_record
from mindllm_jax.ablations.report import differences_table, heading, write_report
from mindllm_jax.ablations.results import suite_results
from mindllm_jax.ablations.runner import run_missing
from mindllm_jax.ablations.suite import Suite
from mindllm_jax.ablations.trainers import TRAINERS
from mindllm_jax.configuration import Arguments
from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.training.pretrain import Pretrain
from tests.ablations.conftest import arguments

Make = Callable[..., Record]


def _runs(suite: Suite, version: str = "v1") -> list[Run]:
    trainer, config = TRAINERS[suite.trainer], Pretrain(Mixture("store"))
    return [
        Run(variant, seed, trainer, arguments(), config, HeldOutText("", (), 8), f"{variant}-{seed}", version)
        for seed in range(suite.seeds)
        for variant in suite.variants
    ]


def _write(suite: Suite, records: list[Record]) -> None:
    for record in records:
        write_record(Path(suite.records), record)


def test_a_record_is_read_as_it_was_written(suite: Suite, record: Make):
    made = record("one", 0, 1.5, curves={"loss": [(1, math.nan), (2, 1.25)]})
    _write(suite, [made])
    found = read_records(Path(suite.records))["one-0"]["v1"]
    assert math.isnan(found.curves["loss"][0][1]) and found.curves["loss"][1] == (2, 1.25)
    assert dataclasses.replace(found, curves={}) == dataclasses.replace(made, curves={})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("tokens", None, "'tokens' is missing"),
        ("seed", "three", "not the record of a run: .*'three'"),
        ("status", "weird", "not the record of a run: .*'weird'"),
        ("settings", [], r"not the record of a run: settings is \[\], where str was expected"),
        ("parameters", True, "not the record of a run: parameters is True, where int was expected"),
        ("versions", [], "not the record of a run: versions is"),
        ("curves", {"loss": [[2, 1.0], [1, 2.0]]}, "not the record of a run: the steps of loss do not rise"),
        ("curves", [], "not the record of a run"),
        ("curves", {"loss": [[None, 1.0]]}, "not the record of a run"),
        ("curves", {"loss": [[1, "x"]]}, "not the record of a run"),
    ],
)
def test_damaged_records_are_named(suite: Suite, record: Make, field: str, value: object, message: str):
    _write(suite, [record("one", 0, 1.5)])
    path = Path(suite.records) / "one-0-v1.json"
    values = json.loads(path.read_text())
    values[field] = value
    if value is None:
        del values[field]
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=rf"one-0-v1.json: damaged: {message}"):
        read_records(Path(suite.records))


def test_a_copy_of_a_record_is_refused(suite: Suite, record: Make):
    _write(suite, [record("one", 0, 1.5)])
    folder = Path(suite.records)
    (folder / "one-0-v1 (1).json").write_bytes((folder / "one-0-v1.json").read_bytes())
    with pytest.raises(ValueError, match=r"one-0-v1 \(1\).json: holds the record of one-0-v1.json"):
        read_records(folder)


def test_a_record_of_another_seed_is_refused(suite: Suite, record: Make):
    _write(suite, [dataclasses.replace(record("one", 1, 1.5), settings="one-0")])
    with pytest.raises(ValueError, match=r"one-0-v1.json: damaged: seed 1, where 0 was expected"):
        suite_results(suite, _runs(suite))


def test_a_measure_that_no_record_has_is_named(suite: Suite, record: Make):
    suite = dataclasses.replace(suite, measures=("bits_per_byte/zz",), expectations=())
    _write(suite, [record("one", 0, 1.5)])
    with pytest.raises(ValueError, match=r"names 'bits_per_byte/zz', which no record of 'a suite' has"):
        suite_results(suite, _runs(suite))


@pytest.mark.parametrize("count", [3, 200, 201, 1001])
def test_curves_are_thinned_and_keep_the_last_points(count: int):
    metrics = [{"step": float(i), "loss": float(i)} for i in range(count)] + [{"step": 1001.0, "a/b": 1.0}]
    found = curves(metrics, ["a"])
    assert min(count, 100) <= len(found["loss"]) <= 200 and found["a/b"] == [(1001, 1.0)]
    assert found["loss"][0] == (0, 0.0) and found["loss"][-20:] == [(i, float(i)) for i in range(count)][-20:]


def test_means_and_differences_are_by_seed(suite: Suite, record: Make):
    suite = dataclasses.replace(suite, seeds=6, last=2)
    ones = [record("one", seed, 2.0 + seed) for seed in range(6)]
    twos = [record("two", seed, 1.5 + seed + 0.01 * seed) for seed in range(6)]
    _write(suite, ones + twos)
    results = suite_results(suite, _runs(suite))
    mean = results.means["one"]["bits_per_byte/mean"]
    assert mean is not None and mean.mean == pytest.approx(5.0)  # 4.5 and the half of the step before
    (test,) = results.tested
    assert test.difference is not None and test.difference.interval.mean == pytest.approx(-0.475)
    assert test.verdict("lower") == "yes" and test.p_value is not None and test.p_value < 0.001
    assert results.missing == 0 and results.detectable["bits_per_byte/mean"] > 1


def test_only_seeds_of_both_are_compared(suite: Suite, record: Make):
    _write(suite, [record("one", 0, 2.0), record("one", 1, 3.0), record("two", 1, 2.0)])
    (test,) = suite_results(suite, _runs(suite)).tested
    assert test.difference is not None and test.difference.interval.mean == pytest.approx(-1.0)
    assert test.difference.interval.seeds == 1 and test.verdict("lower") == "cannot tell at this scale"


@pytest.mark.slow
def test_a_run_that_diverges_is_recorded_and_not_repeated(suite: Suite, real_sources: Path, tmp_path: Path):
    settings = (f"Mixture.store={real_sources}", "Model.vocab_size=1000", "Mixture.sources=()", "Loop.max_skipped=0")
    variants = {"one": (), "two": ("Optimizer.peak_learning_rate=1e38",)}
    suite = dataclasses.replace(suite, scale="smoke", seeds=1, variants=variants, settings=settings)
    lines: list[str] = []
    for _ in range(2):
        run_missing(suite, suite_runs(suite), tmp_path / "runs", lines.append)
    assert lines[0] == "2 runs, 0 of them done" and lines[-1] == "2 runs, 2 of them done"
    results = suite_results(suite, suite_runs(suite))
    (failed,) = results.records["two"]
    assert failed.status == "failed" and "no finite loss or gradient" in failed.reason
    assert results.records["one"][0].status == "done" and results.tested[0].verdict("lower").startswith("cannot")


class _Recorded:
    """A trainer that writes the metrics of a run, and does something else meanwhile."""

    entry_point = "launch/train.py"

    def __init__(self, meanwhile: Callable[[Path], None] = lambda folder: None) -> None:
        self.meanwhile, self.trained = meanwhile, list[str]()

    def train(self, arguments: Arguments, text: HeldOutText, folder: Path) -> None:
        self.trained.append(folder.name)
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text('{"step": 1, "time": 1.0, "loss": 2.0, "bits_per_byte/mean": 2.0}\n')
        self.meanwhile(folder)


def _trained_by(trainer: _Recorded, runs: list[Run]) -> list[Run]:
    return [run._replace(trainer=trainer) for run in runs]  # pyright: ignore[reportArgumentType]


def test_processes_share_the_runs_and_the_last_one_knows_it(suite: Suite, tmp_path: Path):
    """The second starts in the middle of the first one's first run, and ends before it."""
    suite, lines, left = dataclasses.replace(suite, seeds=2), list[str](), list[list[Run]]()
    runs, second = _runs(suite), _Recorded()

    def meanwhile(folder: Path) -> None:
        if not left:
            left.append(run_missing(suite, _trained_by(second, runs), tmp_path / "runs", lines.append))

    first = _Recorded(meanwhile)
    assert run_missing(suite, _trained_by(first, runs), tmp_path / "runs", lines.append) == []
    assert [(run.variant, run.seed) for run in left[0]] == [("one", 0)]
    assert first.trained == ["one-0-v1"] and second.trained == ["two-0-v1", "one-1-v1", "two-1-v1"]
    assert len(read_records(Path(suite.records))) == 4 and not (tmp_path / "runs" / "claims").exists()
    assert all(len(record["v1"].date) == 25 for record in read_records(Path(suite.records)).values())


def test_a_run_of_several_processes_is_refused(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each of them would take another one."""
    monkeypatch.setattr("jax.process_count", lambda: 2)
    with pytest.raises(ValueError, match=r"a run of a suite is of one process: start ablate\.py as often"):
        run_missing(suite, _runs(suite), tmp_path, lambda line: None)


def test_a_killed_process_holds_no_run(suite: Suite, tmp_path: Path):
    code = "import os, sys, pathlib; from mindllm_jax.locks import lock_folder\n"
    code += "with lock_folder(pathlib.Path(sys.argv[1]), user='a', otherwise='b'): os.kill(os.getpid(), 9)"
    claim = tmp_path / "claims" / "one-0-v1"
    subprocess.run([sys.executable, "-c", code, str(claim)], check=False)
    assert (claim / ".lock").exists()
    trainer, runs = _Recorded(), _runs(dataclasses.replace(suite, seeds=1))
    assert run_missing(suite, _trained_by(trainer, runs), tmp_path, lambda line: None) == []
    assert trainer.trained == ["one-0-v1", "two-0-v1"]


def test_the_error_of_a_run_without_a_first_line_of_metrics_is_its_own(
    suite: Suite, real_sources: Path, tmp_path: Path
):
    settings = (f"Mixture.store={real_sources}", "Model.vocab_size=1000", "Mixture.sources=()")
    suite = dataclasses.replace(suite, scale="smoke", seeds=1, settings=settings)
    (run, _) = suite_runs(suite)
    folder = tmp_path / f"{run.settings}-{run.version}"
    folder.mkdir()
    (folder / "metrics.jsonl").touch()
    (folder / "config.json").write_text('{"Tune": {}}')
    with pytest.raises(ValueError, match="holds a run of Tune"):
        run_missing(suite, [run], tmp_path, lambda line: None)


def test_versions_are_never_mixed(suite: Suite, record: Make):
    old = [record("one", seed, 2.0, version="v0") for seed in range(3)]
    _write(suite, [*old, record("one", 0, 5.0)])
    results = suite_results(suite, _runs(suite))
    assert results.version == "v1" and results.others == Counter({"v0": 3}) and len(results.records["one"]) == 1
    rebuilt = suite_results(suite, _runs(suite, version=""))
    assert rebuilt.version == "v0" and len(rebuilt.records["one"]) == 3
    # Of as many records the newest.
    for version, date in (
        *(("v1", "2026-02-01"), ("a0", "2026-02-01T09:30:00+00:00")),
        *(("v1", "2026-02-01T10:00:00+00:00"), ("a0", "2026-02-02")),
    ):
        _write(suite, [record("one", seed, 5.0, version=version, date=date) for seed in range(3)])
        assert suite_results(suite, _runs(suite, version="")).version == version


def test_a_table_of_other_settings_is_not_replaced(suite: Suite, record: Make):
    _write(suite, [record("one", 0, 2.0), record("two", 0, 1.0)])
    runs = _runs(suite)
    table, *_ = write_results(suite, "a_suite", runs)
    _write(suite, [record("one", 1, 2.0), record("two", 1, 1.0)])
    write_results(suite, "a_suite", runs)  # of more seeds
    before = {path: path.read_bytes() for path in (*table.parent.iterdir(), Path(suite.ledger))}
    others = [run._replace(settings=f"{run.settings}-of-another-store") for run in runs]
    _write(suite, [record(run.variant, run.seed, 3.0, settings=run.settings) for run in others])
    with pytest.raises(
        ValueError, match=r"a_suite\.cpu\.md names no record of this suite's settings, .* set Suite\.records"
    ):
        write_results(suite, "a_suite", others)
    assert before == {path: path.read_bytes() for path in before}
    table.unlink()
    write_results(suite, "a_suite", others)


def test_nothing_run_is_said(suite: Suite):
    results = suite_results(suite, _runs(suite))
    assert heading(suite, results) == "a suite (cpu: not run)"
    assert results.tested[0].verdict("lower") == "not run" and results.missing == 10
    with pytest.raises(ValueError, match="holds no record of 'a suite'; nothing was written"):
        write_results(suite, "a_suite", _runs(suite))
    assert not Path(suite.results).exists()


def test_a_suite_of_its_baseline_alone_stays_not_run(suite: Suite, record: Make):
    """Another suite has trained the baseline."""
    _write(suite, [record("one", seed, 2.0) for seed in range(2)])
    with pytest.raises(ValueError, match="no record of 'a suite' but of its baseline; nothing was written"):
        write_results(suite, "a_suite", _runs(suite))
    assert not Path(suite.results).exists()


def test_an_expectation_of_a_variant_that_is_not_run_is_in_the_ledger(suite: Suite, record: Make):
    suite = dataclasses.replace(suite, variants=suite.variants | {"three": ("Loop.z_loss=0.2",)})
    _write(suite, [record("one", 0, 2.0), record("three", 0, 2.0)])
    text = write_results(suite, "a_suite", _runs(suite))[-1].read_text()
    assert "not run: two against one, bits_per_byte/mean [a_suite, cpu]" in text


def test_a_failed_run_is_shown_and_not_counted(suite: Suite, record: Make):
    failed = record("two", 0, 1.0, status="failed", reason="no finite loss")
    _write(suite, [record("one", 0, 2.0), failed, record("one", 1, 2.0), record("two", 1, 1.0)])
    results = suite_results(suite, _runs(suite))
    mean = results.means["two"]["bits_per_byte/mean"]
    assert mean is not None and mean.seeds == 1
    assert results.tested[0].failed == 1 and results.tested[0]._replace(p_value=0.01).verdict("lower").startswith("can")
    text = write_report(suite, "a_suite", results, read_claims())[0].read_text()
    assert "2, 1 failed" in text and "Failed: two, seed 0: no finite loss" in text


def test_a_comparison_whose_runs_all_failed_is_no_missing_one(suite: Suite, record: Make):
    _write(suite, [record("one", 0, 2.0), record("two", 0, 1.0, status="failed", reason="no finite loss")])
    text = write_results(suite, "a_suite", _runs(suite))[-1].read_text()
    assert "cannot tell at this scale: two against one, bits_per_byte/mean, 1 failed [a_suite, cpu]" in text


def test_a_run_without_a_finite_measure_counts_as_failed(suite: Suite, record: Make):
    """As one whose bits per byte overflow at the end: without it the mean would be of the runs that went well."""
    curve = {"bits_per_byte/mean": [(0, 9.0), (1, math.nan), (2, math.nan)]}
    _write(suite, [record(v, s, 2.0) for v in ("one", "two") for s in range(2)] + [record("two", 2, 0, curves=curve)])
    results = suite_results(suite, _runs(suite))
    assert results.tested[0].failed == 1
    text = write_report(suite, "a_suite", results, read_claims())[0].read_text()
    assert "3, 1 failed" in text and "Failed: two, seed 2: bits_per_byte/mean is not finite" in text


def test_a_suite_with_a_heat_map(suite: Suite, record: Make):
    measures = ("bits_per_byte/books", "bits_per_byte/laws")
    suite = dataclasses.replace(suite, heat_map=True, measures=measures, expectations=(), seeds=1)
    for variant, values in (("one", (2.0, 3.0)), ("two", (2.5, 2.75))):
        curves = {name: [(0, 9.0), (2, value)] for name, value in zip(measures, values, strict=True)}
        _write(suite, [record(variant, 0, 0.0, curves=curves)])
    paths = write_results(suite, "a_suite", _runs(suite))
    (picture,) = (path for path in paths if path.suffix == ".svg")
    assert picture.name == "a_suite.cpu.heat_map.svg"
    assert {"2.00", "2.75", "books"} <= set(re.findall(r">\s*([\w.]+)\s*</text>", picture.read_text()))


def test_the_report_has_the_scale_the_claim_and_the_verdict(suite: Suite, record: Make):
    _write(suite, [record(v, s, x) for v, x in (("one", 2.0), ("two", 1.0)) for s in range(2)])
    markdown, csv, page, differences, picture, claims = write_results(suite, "a_suite", _runs(suite))
    text = markdown.read_text()
    assert text.startswith("# a suite (cpu: 0.0M parameters, 0.00M tokens, 2.0 tokens per parameter)")
    assert "GeGLU is the better feed-forward" in text and "two lower than one" in text and picture.name in text
    assert "6 runs of this suite are not run." in text
    assert csv.read_text().splitlines()[1] == "one,bits_per_byte/mean,2.5,2.5,2.5,2"
    assert (
        differences.read_text().splitlines()[1].startswith("two,one,bits_per_byte/mean,lower,-1.0,-1.0,-1.0,2,0.0,,0,")
    )
    assert "<svg" in page.read_text() and "<svg" in picture.read_text()
    assert "<script>" in page.read_text() and not re.search(r'<script [^>]|(src|href)="(?!#)', page.read_text())
    line = "two against one, bits_per_byte/mean -1.0000 (-1.0000 to -1.0000, 2 seeds, 6 runs missing) [a_suite, cpu]"
    assert f"cannot tell at this scale: {line}" in claims.read_text()


def test_a_verdict_on_a_claim_may_oppose_our_expectation(suite: Suite, record: Make):
    suite = dataclasses.replace(suite, seeds=6, expectations=({**suite.expectations[0], "claimed": "higher"},))
    _write(suite, [record("one", seed, 2.0) for seed in range(6)])
    _write(suite, [record("two", seed, 1.0 + 0.01 * seed) for seed in range(6)])
    markdown, *_, claims = write_results(suite, "a_suite", _runs(suite))
    assert "| yes |" in markdown.read_text() and "it says the opposite" in markdown.read_text()
    assert "no: two against one" in claims.read_text()


def test_the_ledger_keeps_the_verdicts_of_other_suites(suite: Suite, record: Make):
    write_verdicts(Path(suite.results), {"b, cpu": {"rope": ["no: b"]}, "a_suite, cpu": {"geglu": ["yes: a"]}})
    _write(suite, [record("one", 0, 2.0), record("two", 0, 1.0)])
    text = write_results(suite, "a_suite", _runs(suite))[-1].read_text()
    assert "two against one" in text and "no: b [b, cpu]" in text and "yes: a" not in text
    assert text.count("\n| ") == len(read_claims()) + 2


def test_damaged_verdicts_are_named_before_anything_is_written(suite: Suite, record: Make):
    _write(suite, [record("one", 0, 2.0), record("two", 0, 1.0)])
    path = Path(suite.results) / "verdicts.json"
    path.parent.mkdir()
    for content in ("[", '{"x": 3}', '{"x": {"rope": "yes: text"}}', '{"x": {"rope": [null]}}'):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"verdicts.json: damaged"):
            write_results(suite, "a_suite", _runs(suite))
        assert list(path.parent.iterdir()) == [path]


def test_two_suites_that_end_together_both_keep_their_verdicts(
    suite: Suite, record: Make, monkeypatch: pytest.MonkeyPatch
):
    _write(suite, [record("one", 0, 2.0), record("two", 0, 1.0)])
    write = command.write_verdicts

    def slowly(*arguments: Any) -> None:
        time.sleep(0.3)
        write(*arguments)

    monkeypatch.setattr(command, "write_verdicts", slowly)
    threads = [threading.Thread(target=write_results, args=(suite, name, _runs(suite))) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = Path(suite.ledger).read_text()
    assert "[a, cpu]" in text and "[b, cpu]" in text


def test_shares_are_in_per_cent_and_late_tests_say_so(suite: Suite, record: Make):
    expectation = {"variant": "two", "measure": "label_f1", "direction": "lower", "claim": "geglu", "after_runs": True}
    suite = dataclasses.replace(suite, measures=("label_f1",), expectations=(expectation,), last=1)
    for variant, value in (("one", 0.5), ("two", 0.25)):
        _write(suite, [record(variant, 0, 0.0, curves={"label_f1": [(2, value)]})])
    markdown, csv, *_, claims = write_results(suite, "a suite, 50% (v2)", _runs(suite))
    text = markdown.read_text()
    assert "weighted F1 of labels, %" in text and "| two | 1 | 25.00 (one seed) |" in text and "0.25" in csv.read_text()
    assert "two lower than one (added after the runs)" in text and "(a%20suite,%2050%25%20%28v2%29.cpu" in text
    line = "label_f1 -25.00 points (1 seeds, 8 runs missing), added after the runs [a suite, 50% (v2), cpu]"
    assert line in claims.read_text()


def test_smoke_leaves_the_ledger_alone(suite: Suite, record: Make):
    _write(suite, [record("one", 0, 2.0), record("two", 0, 1.0)])
    write_results(dataclasses.replace(suite, scale="smoke"), "a_suite", _runs(suite))
    assert not Path(suite.ledger).exists()


def test_p_values_are_corrected_for_their_number(suite: Suite, record: Make):
    expectation = suite.expectations[0]
    twice = (expectation, {**expectation, "direction": "higher"})
    suite = dataclasses.replace(suite, seeds=6, last=1, expectations=twice)
    _write(suite, [record(v, s, x + 0.1 * s * s) for v, x in (("one", 2.0), ("two", 1.0)) for s in range(6)])
    generator = [record("two", s, 1.0 + 0.2 * s * s) for s in range(6)]
    _write(suite, generator)
    results = suite_results(suite, _runs(suite))
    raw, corrected = results.tested[0].difference, results.tested[0].p_value
    assert raw is not None and raw.p_value is not None and corrected == pytest.approx(min(1.0, 2 * raw.p_value))
    assert len(differences_table(suite, results, read_claims()).rows) == 2
