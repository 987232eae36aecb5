"""Suites that make no sense are refused before anything runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mindllm_jax import configuration
from mindllm_jax.ablations.claims import read_claims
from mindllm_jax.ablations.plan import suite_runs
from mindllm_jax.ablations.suite import Suite
from tests.ablations.conftest import CONFIGS, SUITES, arguments

TWO = {"variant": "two", "measure": "bits_per_byte/mean", "direction": "lower"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"baseline": "three"}, "Suite.baseline is 'three', which is not known"),
        ({"scale": "cpus"}, "Suite.scale is 'cpus', which is not known; did you mean 'cpu'?"),
        ({"trainer": "tune", "scale": "paper"}, "Suite.scale is 'paper', which is of pre-training"),
        ({"seeds": 0}, "Suite.seeds"),
        ({"variants": {"one": ("Loop.z_loss=0.1",)}}, "is the baseline and has settings"),
        ({"variants": {"one": (), "two": ()}}, "'two' has the settings of 'one'"),
        ({"measures": ()}, "Suite.measures is empty"),
        ({"trainer": "tune", "held_out_rows": 8}, "Suite.held_out_rows is of pre-training"),
        ({"measures": ("loss",)}, r"Suite.expectations\[0\]\['measure'\] is 'bits_per_byte/mean'"),
        (
            {"variants": {"one": (), "too": ("a",)}},
            r"expectations\[0\]\['variant'\] is 'two'.*did you mean 'too'",
        ),
        ({"last": 21}, "Suite.last is 21: records keep the last 20"),
        (
            {"expectations": ({"variant": "one", "measure": "bits_per_byte/mean", "direction": "lower"},)},
            "'one' is compared with itself",
        ),
        ({"expectations": (TWO | {"claim": "geglus"},)}, "a claim of the suite is 'geglus', .*did you mean 'geglu'"),
        ({"expectations": (TWO | {"claimed": "lower"},)}, r"expectations\[0\] has 'claimed' and no 'claim'"),
        ({"heat_map": True, "measures": ("bits_per_byte/mean", "answer_loss")}, "Suite.heat_map"),
        ({"heat_map": True, "measures": ("tasks/a/acc",), "expectations": ()}, "Suite.heat_map"),
        (
            {
                "measures": ("label_f1",),
                "expectations": (),
                "predictions": ({"variant": "two", "measure": "label_f1"},),
            },
            "a law is one of losses; 'label_f1' is a share",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(suite: Suite, changed: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(suite, **changed)


@pytest.mark.parametrize("name", SUITES)
def test_claims_of_the_suites_are_in_the_ledger(name: str):
    suite = configuration.load(Suite, arguments(CONFIGS / f"{name}.gin"))
    claims = read_claims()
    named = {claim for tested in (*suite.expectations, *suite.predictions) if (claim := tested.get("claim"))}
    assert named <= claims.keys()
    assert all(name in claims[claim].suites for claim in named)


def test_every_suite_tests_a_claim_or_a_note_says_why_it_does_not():
    claims = read_claims().values()
    testing = {suite for claim in claims for suite in claim.suites}
    assert testing <= set(SUITES)
    for name in set(SUITES) - testing:
        assert any(f"the suite {name} " in claim.note for claim in claims), name


def _smoke(suite: Suite, store: Path, variant: str) -> Suite:
    settings = (f"Mixture.store={store}", "Mixture.sources=()")
    return dataclasses.replace(suite, scale="smoke", variants={"one": (), "two": (variant,)}, settings=settings)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("Loop.z_losss=0.1", "variant 'two' of 'a suite': .*z_losss"),
        ("Mixture.weights={'fr': 1}", "variant 'two' of 'a suite': .*'fr'"),
        ("Model.vocab_size=10", "variant 'two' of 'a suite': the tokenizer of the store"),
        ("Loop.steps=10", "'two' and 'one' are the same run"),
    ],
)
def test_variants_are_checked_before_anything_runs(suite: Suite, real_sources: Path, variant: str, message: str):
    with pytest.raises(ValueError, match=message):
        suite_runs(_smoke(suite, real_sources, variant))


def test_a_measure_that_no_run_has_is_refused(suite: Suite, real_sources: Path):
    suite = _smoke(suite, real_sources, "Loop.z_loss=0.1")
    suite = dataclasses.replace(suite, measures=("bits_per_byte/fr",), expectations=())
    with pytest.raises(
        ValueError, match=r"one of Suite.measures is 'bits_per_byte/fr', which is not known; did you mean"
    ):
        suite_runs(suite)


def test_hashes_follow_settings_and_not_paths(suite: Suite, real_sources: Path, tmp_path: Path):
    link = tmp_path / "other"
    link.symlink_to(real_sources)
    runs = suite_runs(_smoke(suite, real_sources, "Loop.z_loss=0.1"))
    moved = suite_runs(_smoke(suite, link, "Loop.z_loss=0.1"))
    assert [run.settings for run in runs] == [run.settings for run in moved]
    assert {run.version for run in runs} == {run.version for run in moved} and runs[0].version
    assert len({run.settings for run in runs}) == len(runs) == 2 * suite.seeds
    without = suite_runs(_smoke(suite, tmp_path / "absent", "Loop.z_loss=0.1"), data=False)
    assert [run.settings for run in without] == [run.settings for run in runs]


def test_a_variant_of_another_store_is_another_run(suite: Suite, real_sources: Path, tmp_path: Path):
    link = tmp_path / "other"
    link.symlink_to(real_sources)
    runs = suite_runs(_smoke(suite, real_sources, f"Mixture.store={link}"))
    assert len({run.settings for run in runs}) == 2 * suite.seeds
    alone = suite_runs(_smoke(suite, real_sources, "Loop.z_loss=0.1"))
    assert runs[0].settings == alone[0].settings  # of the baseline


def test_rows_that_are_measured_make_another_run(suite: Suite, real_sources: Path):
    suite = _smoke(suite, real_sources, "Loop.z_loss=0.1")
    runs = suite_runs(suite)
    more = suite_runs(dataclasses.replace(suite, held_out_rows=128))
    assert {run.settings for run in runs}.isdisjoint(run.settings for run in more)
    assert {run.text.rows for run in more} == {128}
