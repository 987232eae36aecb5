"""The command: every suite at the smallest scale, from a plan to the ledger."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mindllm_jax import configuration
from mindllm_jax.ablations.command import require_of_suite, write_results
from mindllm_jax.ablations.plan import suite_runs
from mindllm_jax.ablations.runner import run_missing
from mindllm_jax.ablations.suite import Suite
from tests.ablations.conftest import CONFIGS, ROOT, SUITES, arguments


def _ablate(folder: Path, store: Path, name: str, *more: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
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
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


def of_tasks(suite: Suite) -> tuple[str, ...]:
    """The settings of a suite's benchmark tasks, without which its measures are refused."""
    return tuple(setting for setting in suite.settings if setting.startswith("TaskSuite."))


def on_eight_devices(settings: tuple[str, ...]) -> tuple[str, ...]:
    """The settings of a variant with a batch that the tests' devices can split."""
    return tuple(re.sub(r"global_batch_size=\d+", "global_batch_size=8", one) for one in settings)


@pytest.mark.long
def test_a_suite_from_its_runs_to_its_tables(tmp_path: Path, real_sources: Path):
    done = _ablate(tmp_path, real_sources, "strategy", "--workdir", str(tmp_path / "runs"))
    assert done.returncode == 0, done.stdout + done.stderr
    records = {path.name: json.loads(path.read_text()) for path in (tmp_path / "records").glob("*.json")}
    assert sorted(record["variant"] for record in records.values()) == ["Chinese first", "English first", "mixed"]
    assert all(record["status"] == "done" for record in records.values())
    table = tmp_path / "results/strategy.smoke.md"
    assert "not run" not in table.read_text()

    assert not list((tmp_path / "runs").glob("*/checkpoints"))

    # The same run again, in the folder that it left: the same numbers, bit for bit.
    again = next(path for path, record in records.items() if record["variant"] == "English first")
    (tmp_path / "records" / again).unlink()
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
def test_every_suite_of_pre_training_runs_at_smoke_scale_and_shares_its_baseline(
    tmp_path: Path, real_sources: Path, project: Path
):
    suites = {name: configuration.load(Suite, arguments(CONFIGS / f"{name}.gin")) for name in SUITES}
    for name in (name for name, suite in suites.items() if suite.trainer == "pretrain"):
        # Some variants have steps of their own.
        short = {
            key: tuple(
                re.sub(r"warmup_steps=\d+", "warmup_steps=1", re.sub(r"Loop\.steps=\d+", "Loop.steps=9", one))
                for one in on_eight_devices(own)
            )
            for key, own in suites[name].variants.items()
        }
        more = [f"--gin.Suite.variants={short}", "--workdir", str(tmp_path / "runs")]
        if tasks := of_tasks(suites[name]):
            pytest.importorskip("lm_eval", reason="lm-eval (the extra `eval`) is not installed")
            store = (f"Mixture.store={real_sources}", "Model.vocab_size=1000")
            more.append(f"--gin.Suite.settings={(*store, *tasks)}")
        done = _ablate(tmp_path, real_sources, name, *more, cwd=project)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "not run" not in (tmp_path / f"results/{name}.smoke.md").read_text()
    # Of 79 variants: five suites share one baseline; forgetting has a ratio's, depth three and scaling one of another.
    assert len(list((tmp_path / "records").glob("*.json"))) == 69


@pytest.mark.parametrize("name", SUITES)
def test_suites_are_planned(
    tmp_path: Path, real_sources: Path, project: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    suite = configuration.load(Suite, arguments(CONFIGS / f"{name}.gin"))
    settings = (f"Mixture.store={real_sources}", "Model.vocab_size=1000", *of_tasks(suite))
    monkeypatch.chdir(project)
    if suite.trainer == "tune":
        settings = of_tasks(suite)
    if of_tasks(suite):
        pytest.importorskip("lm_eval", reason="lm-eval (the extra `eval`) is not installed")
    variants = {key: on_eight_devices(own) for key, own in suite.variants.items()}
    suite = dataclasses.replace(
        suite, scale="smoke", settings=settings, records=str(tmp_path), seeds=2, variants=variants
    )  # fmt: skip
    runs = suite_runs(suite)
    assert len(runs) == suite.seeds * len(suite.variants)
    assert runs[0].variant == suite.baseline
    assert all(f"Loop.seed={run.seed}" in " ".join(run.command) for run in runs)


@pytest.mark.long
def test_tuning_runs_are_compared(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(project)
    suite = configuration.load(Suite, arguments(CONFIGS / "entropy.gin"))
    places = {name: str(tmp_path / name) for name in ("records", "results", "ledger")}
    variants = {name: suite.variants[name] for name in ("random", "longest")}
    expected = tuple(one for one in suite.expectations if one["variant"] in variants)
    measures = ("answer_loss", "answer_loss/belle_seed_zh", "bits_per_byte/en")
    suite = dataclasses.replace(
        suite, scale="smoke", seeds=1, variants=variants, expectations=expected,
        measures=measures, **places,
    )  # fmt: skip
    runs = suite_runs(suite)
    assert len({run.version for run in runs}) == 1 and len({run.settings for run in runs}) == 2
    run_missing(suite, runs, tmp_path / "runs", print)
    records = [json.loads(path.read_text()) for path in (tmp_path / "records").glob("*.json")]
    assert sorted(record["variant"] for record in records) == ["longest", "random"]
    assert all("launch/sft.py" in record["command"] for record in records)
    for record in records:
        assert [step for step, _ in record["curves"]["answer_loss"]] == [0, 1, 2]
        assert set(measures) <= record["curves"].keys()
    table, *_ = write_results(suite, "entropy", runs)
    text = table.read_text()
    assert "loss of answers in nats per token, belle_seed_zh" in text and "not run" not in text

    # Other instructions are another version of the data.
    selection = Path("runs/entropy/longest/zh/selection.jsonl")
    before = selection.read_text()
    selection.write_text(before.replace("b ", "c "))
    assert {run.version for run in suite_runs(suite)}.isdisjoint(run.version for run in runs)
    selection.write_text(before)


@pytest.mark.long
def test_labels_are_measured_on_the_same_records(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("sklearn", reason="scikit-learn (the extra `labels`) is not installed")
    monkeypatch.chdir(project)
    suite = configuration.load(Suite, arguments(CONFIGS / "finance.gin"))
    variants = {name: suite.variants[name] for name in ("label", "chain of thought")}
    suite = dataclasses.replace(
        suite, scale="smoke", seeds=1, settings=("Labels.max_tokens=2",), variants=variants, expectations=(),
        records=str(tmp_path / "records"),
    )  # fmt: skip
    run_missing(suite, suite_runs(suite)[:1], tmp_path / "runs", print)
    record = json.loads(next((tmp_path / "records").glob("*.json")).read_text())
    assert [step for step, _ in record["curves"]["label_f1"]] == [2] and "label_accuracy" in record["curves"]

    # Other records under another variant.
    path = Path("runs/finance/thought_eval/sentiment.jsonl")
    before = path.read_text()
    path.write_text(before.replace('"id": "1"', '"id": "2"'))
    with pytest.raises(ValueError, match=r"Labels\.inputs are of other records in some variants"):
        suite_runs(suite)
    path.write_text(before)


def test_tuning_runs_need_common_held_out_conversations(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(project)
    suite = configuration.load(Suite, arguments(CONFIGS / "entropy.gin"))
    suite = dataclasses.replace(suite, scale="smoke", settings=("Instructions.held_out_inputs=()",))
    with pytest.raises(ValueError, match=r"Instructions\.held_out_inputs is empty"):
        suite_runs(suite)


def test_tuning_runs_that_cannot_be_compared_are_refused(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(project)
    suite = configuration.load(Suite, arguments(CONFIGS / "entropy.gin"))
    variants = {"random": (), "longest": ("Instructions.held_out_inputs=('../shared/data/sft/belle_seed_zh.jsonl',)",)}
    measures = ("answer_loss/belle_seed_zh",)
    suite = dataclasses.replace(suite, scale="smoke", variants=variants, expectations=(), measures=measures)
    with pytest.raises(ValueError, match=r"Instructions\.held_out_inputs differ between variants"):
        suite_runs(suite)
    suite = dataclasses.replace(suite, variants={"random": ()}, measures=("answer_loss/fr",))
    with pytest.raises(ValueError, match=r"one of Suite\.measures is 'answer_loss/fr', .* did you mean 'answer_loss"):
        suite_runs(suite)


def test_bad_input_is_one_message(tmp_path: Path, real_sources: Path):
    done = _ablate(tmp_path, real_sources, "strategy")
    assert done.returncode != 0 and "--workdir" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "records").exists()
    done = _ablate(tmp_path, real_sources, "strategy", "--dry_run", "--accept_changes")
    assert done.returncode != 0 and "--accept_changes is of single runs" in done.stderr
    done = _ablate(tmp_path, real_sources, "strategy", "--dry_run", "--gin.Loop.steps=3")
    assert done.returncode != 0 and "--gin.Loop.steps=3: Loop.steps is of no suite" in done.stderr
    assert "'Model.vocab_size=1000', 'Loop.steps=3')\"" in done.stderr.replace("\n", " ")


def test_a_setting_of_runs_in_a_file_of_the_suite_is_refused(tmp_path: Path):
    file = tmp_path / "mine.gin"
    file.write_text("Suite.seeds = 2\nModel.layers = 3\nLoop.steps = %STEPS\nSTEPS = 9\n")
    given = arguments(CONFIGS / "strategy.gin", file)
    bindings = configuration.read(Suite, given)
    suite = configuration.load(Suite, given, bindings=bindings)
    message = (
        r"mine\.gin:2: Model\.layers is of no suite: .* --gin\.Suite\.settings=\"\('Model\.layers=3', 'Loop\.steps=9'"
    )
    with pytest.raises(ValueError, match=message):
        require_of_suite(suite, bindings)


def _without_times(text: str) -> str:
    return re.sub(r"[\d.]+ hours", "", text)
