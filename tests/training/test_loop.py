"""What happens between the steps of a run: where it reads on, what it logs, what stops it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindllm_jax.mixture.rows import MixtureRows
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.rows import Batch, TrainingRows
from mindllm_jax.training.checkpoint import latest_checkpoint, read_identity, steps_of
from mindllm_jax.training.loop import Periodic
from mindllm_jax.training.run_spec import Loop, RunSpec


class Watched(TrainingRows):
    """Rows that note which of them are read, of which some have a loss that is not finite."""

    def __init__(self, rows: MixtureRows, seen: list[int], bad: tuple[int, ...] = ()) -> None:
        super().__init__(rows.sequence_length, rows.planned_rows)
        self._rows, self._seen, self._bad = rows, seen, bad

    def places(self, indices: np.ndarray) -> list[Any]:
        return self._rows.places(indices)

    def read(self, indices: np.ndarray) -> Batch:
        self._seen += indices.tolist()
        batch = self._rows.read(indices)
        weights = np.where(np.isin(indices, self._bad)[:, None], np.float32(np.inf), batch.weights)
        return batch._replace(weights=weights)


def of(metrics: list[dict[str, Any]], name: str) -> dict[int, Any]:
    return {row["step"]: row[name] for row in metrics if name in row}


@pytest.fixture(scope="module")
def four_steps(train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("four_steps")
    train(workdir)
    return workdir


@pytest.fixture
def trained(four_steps: Path, tmp_path: Path) -> Path:
    """The folder of a run that has done its four steps."""
    return Path(shutil.copytree(four_steps, tmp_path / "trained"))


@pytest.mark.parametrize("rows", [8, 2, 3])
def test_another_batch_size_reads_on_where_the_run_was(train, trained: Path, rows: int) -> None:
    seen: list[int] = []
    metrics = train(
        trained,
        rows=lambda mixture: Watched(mixture, seen),
        Loop={"steps": 6, "global_batch_size": rows, "log_every": 1},
    )
    assert seen[: 2 * rows] == list(range(16, 16 + 2 * rows)), "nothing twice, nothing left out"
    tokens = {step: 128.0 * step for step in range(1, 5)} | {5: 512.0 + 32 * rows, 6: 512.0 + 64 * rows}
    assert of(metrics, "tokens") == tokens
    assert read_identity(latest_checkpoint(trained))["position"] == {"rows": 16 + 2 * rows, "tokens": tokens[6]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"Mixture": {"seed": 1}}, r"Pretrain\.data\.seed: was 0, is now 1"),
        ({"Mixture": {"weights": {"zh": 3, "en": 2}}}, r"Pretrain\.data\.weights\.en: was 3, is now 2"),
        ({"Mixture": {"sequence_length": 16}}, r"Pretrain\.data\.sequence_length: was 32, is now 16"),
        (
            {"Mixture": {"sources": ("laws",), "weights": {"zh": 1}}},
            r"Pretrain\.data\.sources: was \[\], is now \['laws'\]",
        ),
        ({"Mixture": {"order": "blocked"}}, r"Pretrain\.data\.order: was 'shuffled', is now 'blocked'"),
        (
            {"Mixture": {"stages": ({"name": "a", "share": 1, "weights": {"en": 1}}, {"name": "b", "share": 1})}},
            "stages",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_settings_that_change_read_rows_are_refused_by_name(train, trained: Path, settings, message) -> None:
    before = snapshot(trained)
    with pytest.raises(ValueError, match=rf"16 rows read so far would have been other rows(.|\n)*{message}"):
        train(trained, **settings, Loop={"steps": 8})
    assert snapshot(trained) == before


def test_settings_that_change_later_rows_are_accepted(train, trained: Path) -> None:
    stages = ({"name": "as before", "share": 1}, {"name": "english", "share": 1, "weights": {"en": 1}})
    metrics = train(trained, Mixture={"stages": stages}, Loop={"steps": 8})
    assert list(of(metrics, "loss")) == list(range(1, 9))


def test_a_mixture_laid_out_over_the_run_is_not_read_in_other_batches(train, tmp_path: Path) -> None:
    stages = ({"name": "both", "share": 3}, {"name": "english", "share": 1, "weights": {"en": 1}})
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, [stop_at(2)], Mixture={"stages": stages}, Loop={"steps": 8})
    with pytest.raises(
        ValueError, match=r"laid out over 16 rows .* the run would read 20: set Loop\.global_batch_size back"
    ):
        train(tmp_path, Mixture={"stages": stages}, Loop={"steps": 8, "global_batch_size": 2})


def stop_at(step: int) -> Periodic:
    """Ends the run after the checkpoint of a step, as a kill would, but for the thread that writes it."""

    def measure(_: Decoder) -> dict[str, float]:
        raise KeyboardInterrupt

    return Periodic(step, measure)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_fewer_steps_than_are_done_is_refused(train, trained: Path) -> None:
    before = snapshot(trained)
    with pytest.raises(ValueError, match=r"has done 4 steps, more than Loop\.steps = 3: raise it"):
        train(trained, Loop={"steps": 3})
    assert snapshot(trained) == before


def test_an_evaluation_that_fails_costs_no_step(train, tmp_path: Path) -> None:
    def measure(_: Decoder) -> dict[str, float]:
        raise ValueError("no such file")

    with pytest.raises(ValueError, match="no such file"):
        train(tmp_path, [Periodic(3, measure)])
    assert latest_checkpoint(tmp_path).name == "3"


@pytest.mark.parametrize("step", [2, 4])
def test_an_evaluation_that_was_cut_is_done_when_the_run_resumes(train, tmp_path: Path, step: int) -> None:
    def counted(_: Decoder) -> dict[str, float]:
        return {"measured": 1.0}

    def cut(_: Decoder) -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, [Periodic(step, cut)])
    assert latest_checkpoint(tmp_path).name == str(step)
    for _ in range(2):  # and is not done again
        metrics = train(tmp_path, [Periodic(step, counted)])
        assert [row["step"] for row in metrics if "measured" in row] == list(range(step, 5, step))
        assert list(of(metrics, "loss")) == [1, 2, 3, 4]


@pytest.mark.parametrize("step", [0, 2, 4])
def test_a_stop_during_an_evaluation_leaves_the_rest_to_the_resumed_run(train, tmp_path: Path, step: int) -> None:
    calls: list[str] = []

    def first(_: Decoder) -> dict[str, float]:
        calls.append("first")
        if len(calls) == 1:
            signal.raise_signal(signal.SIGTERM)
        return {"first": 1.0}

    def second(_: Decoder) -> dict[str, float]:
        calls.append("second")
        return {"second": 1.0}

    events = [Periodic(step or 9, measure, before=step == 0) for measure in (first, second)]
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, events)
    assert calls == ["first"], "of a grace period that may end at once"
    assert steps_of(tmp_path) == ([step] if step else []), "and no step more, after which it would not be due"
    metrics = train(tmp_path, events)
    assert list(of(metrics, "first")) == list(of(metrics, "second")) == sorted({step or 4, step, 4})
    assert list(of(metrics, "loss")) == [1, 2, 3, 4]


def test_a_note_of_a_checkpoint_that_cannot_be_written_costs_nothing(train, tmp_path: Path) -> None:
    (tmp_path / "latest_checkpoint.json").mkdir()
    train(tmp_path, Checkpointing={"every_steps": 2})
    assert latest_checkpoint(tmp_path).name == "4"


def test_another_seed_is_refused_by_name(train, trained: Path) -> None:
    """Evaluation makes the parameters of an untrained run of it."""
    with pytest.raises(ValueError, match=r"does not match this run:\n  seed: was 0, is now 1"):
        train(trained, Loop={"steps": 8, "seed": 1})


def test_what_an_interrupted_save_left_is_removed_before_anything_is_written(train, trained: Path) -> None:
    """On a full disk the records could not be written beside it."""
    leftover = trained / "checkpoints/6.orbax-checkpoint-tmp"
    leftover.mkdir()
    found: list[bool] = []
    train(trained, Loop={"steps": 5}, accept=lambda: found.append(leftover.exists()))
    assert found == [False]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/full and /proc/self/fd")
def test_a_log_line_that_cannot_be_written_ends_the_run_with_everything_saved(train, tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)

    def measure(_: Decoder) -> dict[str, float]:
        for name in os.listdir("/proc/self/fd"):
            if os.path.realpath(f"/proc/self/fd/{name}") == str((tmp_path / "metrics.jsonl").resolve()):
                os.dup2(full, int(name))
        return {}

    with pytest.raises(OSError, match=r"metrics\.jsonl cannot be written: No space left on device"):
        train(tmp_path, [Periodic(2, measure)], Loop={"steps": 100})
    assert latest_checkpoint(tmp_path).name == "4", "step 3 could not be logged; the next one was saved"
    os.close(full)


def test_bad_steps_are_counted_in_a_row(train, tmp_path: Path) -> None:
    def bad(*steps: int) -> Any:
        return lambda mixture: Watched(mixture, [], tuple(4 * (step - 1) for step in steps))

    metrics = train(tmp_path / "a", rows=bad(1, 3, 5, 7), Loop={"steps": 8, "max_skipped": 1})
    assert of(metrics, "skipped")[8] == 4 and of(metrics, "skipped_in_a_row")[7] == 1
    assert of(metrics, "skipped_in_a_row")[8] == 0 and of(metrics, "loss")[7] is None, "JSON has no infinity"
    with pytest.raises(ValueError, match=r"2 steps in a row had no finite loss or gradient \(Loop\.max_skipped = 1\)"):
        train(tmp_path / "b", rows=bad(1, 3, 4), Loop={"steps": 8, "max_skipped": 1})


def test_a_run_that_diverges_keeps_its_checkpoints_and_names_the_one_it_resumes_from(
    train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {
        "rows": lambda mixture: Watched(mixture, [], tuple(range(8, 100))),  # from step 3 on
        "Checkpointing": {"every_steps": 2, "keep": 1},
    }
    message = r"3 steps in a row .*Loop\.max_skipped = 2\).* The same command resumes after step 2"
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "stopped", **settings, Loop={"steps": 8, "max_skipped": 2, "log_every": 5})
    assert steps_of(tmp_path / "stopped") == [2]
    warning = "warning: step 4 is not saved: its last 2 steps had no finite loss or gradient and changed nothing\n"
    assert warning in capsys.readouterr().out
    train(tmp_path / "finished", **settings)
    assert steps_of(tmp_path / "finished") == [4]
    assert "warning: step 4 is saved: its last 2 steps had no finite loss" in capsys.readouterr().out


def test_a_step_that_changed_nothing_is_not_saved(train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The parameters may be broken since the step before, and the checkpoints from before would be removed."""
    train(tmp_path, rows=lambda mixture: Watched(mixture, [], (8,)), Checkpointing={"every_steps": 1, "keep": 9})
    assert steps_of(tmp_path) == [1, 2, 4]
    warning = "warning: step 3 is not saved: it had no finite loss or gradient and changed nothing\n"
    assert warning in capsys.readouterr().out


def test_a_run_that_only_owes_an_evaluation_compiles_no_step(train, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, [stop_at(4)])
    monkeypatch.delattr(RunSpec, "compiled_step")
    assert of(train(tmp_path, [Periodic(4, lambda _: {"measured": 1.0})]), "measured") == {4: 1.0}


def test_the_rate_is_that_of_steps_alone(train, tmp_path: Path) -> None:
    def measure(_: Decoder) -> dict[str, float]:
        time.sleep(3)
        return {}

    started = time.monotonic()
    rates = of(train(tmp_path, [Periodic(2, measure)]), "tokens_per_second")
    assert time.monotonic() - started > 6
    # 128 tokens per step: with the compilation or the evaluation counted, it would take seconds.
    assert min(rates.values()) > 128 / 2.5, rates


@pytest.mark.parametrize("window", [(3, 2), (0, 2), (3, 9)])
def test_a_profiler_window_outside_of_the_run_is_refused(window: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"Loop\.profile_steps = .* within 1 to Loop\.steps = 8"):
        Loop(steps=8, profile_steps=window)


def test_a_run_that_stops_and_resumes_inside_the_profiler_window(train, tmp_path: Path) -> None:
    def traces() -> list[str]:
        return sorted(path.relative_to(tmp_path).parts[1] for path in tmp_path.glob("profile/**/*.xplane.pb"))

    profiled = {"steps": 8, "profile_steps": (3, 6)}
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, [stop_at(4)], Loop=profiled)
    assert traces() == ["step_3"], "what was traced is kept"
    train(tmp_path, Loop=profiled)
    assert traces() == ["step_3", "step_5"]


def test_a_start_before_the_first_checkpoint_keeps_no_figure_of_another_run(train, tmp_path: Path) -> None:
    """As of another base or store, which a run that ended after its first measurement had measured."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "time": 1.0, "figure": 7.0}\n')
    metrics = train(tmp_path, periodic=[Periodic(4, lambda decoder: {"figure": 1.0}, before=True)])
    assert of(metrics, "figure") == {0: 1.0, 4: 1.0}
    assert [row["step"] for row in metrics if "figure" in row] == [0, 4]
