"""The schedule of a run lists what it reads, and warns of text that is read too often."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mindllm_jax.mixture.report import mixture_report
from mindllm_jax.mixture.settings import Mixture, Stage
from mindllm_jax.store.store import TokenStore

ROOT = Path(__file__).parents[2]
STAGES = (
    Stage(name="English", share=1, weights={"en": 1}),
    Stage(name="both", share=1, weights={"en": 1, "zh": 1}),
)


@pytest.fixture
def store(count_store) -> TokenStore:
    """Ten rows of 16 tokens in an epoch of the poems, twenty of the books and forty of the news."""
    return count_store({"poems": ("zh", [16] * 10), "books": ("en", [160] * 2), "news": ("en", [16] * 40)})


def test_tokens_shares_and_epochs(store: TokenStore) -> None:
    report = mixture_report(Mixture("", stages=STAGES, sequence_length=16), store, steps=30, global_batch_size=4)
    assert report.table.rows == [
        ["English", "books", 20 * 16, "33.33%", 1.0],
        ["English", "news", 40 * 16, "66.67%", 1.0],
        ["English", "all of en", 60 * 16, "100.00%", None],
        ["English", "poems", 0, "0.00%", 0.0],
        ["English", "all of zh", 0, "0.00%", None],
        ["both", "books", 10 * 16, "16.67%", 0.5],
        ["both", "news", 20 * 16, "33.33%", 0.5],
        ["both", "all of en", 30 * 16, "50.00%", None],
        ["both", "poems", 30 * 16, "50.00%", 3.0],
        ["both", "all of zh", 30 * 16, "50.00%", None],
        ["whole run", "books", 30 * 16, "25.00%", 1.5],
        ["whole run", "news", 60 * 16, "50.00%", 1.5],
        ["whole run", "all of en", 90 * 16, "75.00%", None],
        ["whole run", "poems", 30 * 16, "25.00%", 3.0],
        ["whole run", "all of zh", 30 * 16, "25.00%", None],
    ]
    assert report.warnings == []


def test_one_stage_is_the_whole_run(store: TokenStore) -> None:
    report = mixture_report(Mixture("", {"zh": 1}, sequence_length=16), store, steps=10, global_batch_size=4)
    assert report.table.rows == [
        ["whole run", "poems", 640, "100.00%", 4.0],
        ["whole run", "all of zh", 640, "100.00%", None],
    ]
    assert report.warnings == []


def test_text_that_is_read_too_often_is_reported(store: TokenStore) -> None:
    report = mixture_report(Mixture("", {"zh": 1}, sequence_length=16), store, steps=41, global_batch_size=1)
    (warning,) = report.warnings
    assert warning.startswith("poems is read 4.1 times; repeated text loses its value after about 4 epochs")
    assert "arXiv 2305.16264" in warning


def launch(store: str, *more: str) -> subprocess.CompletedProcess[str]:
    words = ["--print_schedule", "--gin", "configs/pretrain/small_transfer.gin", f"--gin.Mixture.store={store}", *more]
    command = [sys.executable, "launch/train.py", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_reads_the_manifest_alone(store: TokenStore) -> None:
    for files in Path(store.url).iterdir():
        if files.is_dir():
            files.rename(files.with_name(f"no {files.name}"))
    done = launch(store.url, "--gin.Mixture.sequence_length=16")
    assert done.returncode == 0, done.stderr
    assert "English" in done.stdout and "whole run" in done.stdout
    assert "warning: poems is read" in done.stdout


def test_the_command_reports_bad_settings(store: TokenStore) -> None:
    capped = launch(store.url, "--gin.Mixture.sequence_length=16", "--gin.Mixture.max_epochs=4")
    assert capped.returncode == 2
    assert capped.stderr.startswith("error: the run needs ") and "the caps Mixture.max_epochs" in capped.stderr
    misspelt = launch(store.url, "--gin.Mixture.stages=({'name': 'English', 'shares': 1},)")
    assert misspelt.returncode == 2
    assert "Mixture.stages has no key 'shares'; did you mean 'share'?" in misspelt.stderr


def test_short_sources_are_left_out_unless_they_are_named(count_store) -> None:
    sources = {"poems": ("zh", [16] * 10), "stray": ("en", [9]), "news": ("en", [16] * 40)}
    store = count_store(sources)
    report = mixture_report(Mixture("", sequence_length=16), store, steps=10, global_batch_size=5)
    assert [row[1] for row in report.table.rows] == ["news", "all of en", "poems", "all of zh"]
    assert report.warnings == ["stray is left out: its 9 tokens are too few for a row"]
    named = Mixture("", sources=("poems", "stray", "news"), sequence_length=16)
    with pytest.raises(ValueError, match="source stray has 9 tokens to train on, too few for a row of 16"):
        mixture_report(named, store, steps=10, global_batch_size=5)
    with pytest.raises(ValueError, match="source stray has 9 tokens to train on, too few"):
        mixture_report(
            Mixture("", {"en": 1}, sequence_length=16),
            count_store({"stray": ("en", [9])}),
            steps=1,
            global_batch_size=1,
        )
