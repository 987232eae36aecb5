"""Power laws: known ones are found again, and predictions are judged beside what was measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mindllm_jax.ablations.command import write_results
from mindllm_jax.ablations.plan import Run, suite_runs
from mindllm_jax.ablations.power_law import fit, predict
from mindllm_jax.ablations.records import Record, write_record
from mindllm_jax.ablations.results import suite_results
from mindllm_jax.ablations.suite import Suite
from tests.ablations.test_results import _runs

FLOPS = [1e12, 3e12, 1e13, 3e13]
MEASURE = "bits_per_byte/mean"


def _law(flops: float) -> float:
    return 40.0 * flops**-0.1


def test_a_known_law_is_found() -> None:
    law = fit(FLOPS, [_law(flops) for flops in FLOPS])
    assert law.exponent == pytest.approx(0.1, rel=1e-6) and law(1e15) == pytest.approx(_law(1e15), rel=1e-6)


def test_an_outlier_counts_less_than_in_least_squares() -> None:
    losses = [_law(flops) for flops in FLOPS for _ in range(5)]
    losses[3] *= 1.2
    repeated = [flops for flops in FLOPS for _ in range(5)]
    squares = -np.polynomial.Polynomial.fit(np.log(repeated), np.log(losses), 1).convert().coef[1]
    assert abs(fit(repeated, losses).exponent - 0.1) < 0.1 * abs(squares - 0.1)


def test_the_interval_covers_the_law_about_as_often_as_it_says() -> None:
    draw, covered = np.random.default_rng(0), 0
    for _ in range(16):
        losses = [(_law(flops) * np.exp(draw.normal(0, 0.01, 8))).tolist() for flops in FLOPS]
        found = predict(FLOPS, losses, 1e14, resamples=60)
        covered += found.low <= _law(1e14) <= found.high
    assert covered >= 12


def test_a_size_of_one_run_leaves_no_bound() -> None:
    found = predict(FLOPS, [[_law(flops)] * (1 + (flops > 1e12)) for flops in FLOPS], 1e14)
    assert found.low == -np.inf and found.high == np.inf and found.text.endswith("(a size has one run)")


@pytest.mark.parametrize(("flops", "losses"), [([1e12, 1e12], [2.0, 2.1]), ([1e12, 2e12], [2.0, 0.0])])
def test_what_has_no_law_is_refused(flops: list[float], losses: list[float]) -> None:
    with pytest.raises(ValueError, match="two or more different FLOPs, with losses above 0"):
        fit(flops, losses)


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "yes"), (0.95, "no"), (3**0.1, "cannot tell at this scale")]
)  # 3**0.1: no better than the next smaller size
def test_verdicts(suite: Suite, record: Callable[..., Record], factor: float, verdict: str) -> None:
    names = ["one", "two", "three", "four"]
    suite = dataclasses.replace(
        suite,
        variants={name: (f"Loop.steps={n}",) if n else () for n, name in enumerate(names)},
        expectations=(),
        predictions=({"variant": "four", "measure": MEASURE, "claim": "power_law"},),
        seeds=2,
        last=1,
    )
    for name, flops in zip(names, FLOPS, strict=True):
        for seed in range(2):
            value = _law(flops) * (factor if name == "four" else 1) * (1 + 1e-4 * seed)
            write_record(Path(suite.records), record(name, seed, value, flops=flops))
    runs: list[Run] = _runs(suite)
    (found,) = suite_results(suite, runs).predicted
    assert found.verdict == verdict
    assert found.prediction and found.prediction.value == pytest.approx(_law(FLOPS[-1]), rel=1e-3)
    table, *_ = write_results(suite, "a_suite", runs)
    assert "C^-0.1" in table.read_text() and f"{verdict}: four" in Path(suite.ledger).read_text()


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (
            {"two": ("Loop.steps=300",), "three": ("Loop.steps=200",)},
            "'three' has no more FLOPs than 'two'",
        ),
        ({"two": ("Loop.z_loss=0.1",), "three": ("Loop.steps=300",)}, "all variants but 'three' have the same FLOPs"),
    ],
)
def test_predictions_that_no_law_makes(suite: Suite, variants: dict[str, tuple[str, ...]], message: str) -> None:
    predictions = ({"variant": "three", "measure": MEASURE},)
    suite = dataclasses.replace(
        suite, scale="smoke", variants={"one": (), **variants}, expectations=(), predictions=predictions,
        settings=("Mixture.store=absent", "Mixture.weights={'en': 1}"),
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        suite_runs(suite, data=False)


def test_a_prediction_with_a_run_that_diverged(suite: Suite, record: Callable[..., Record]) -> None:
    names = ["one", "two", "three"]
    suite = dataclasses.replace(
        suite,
        variants={name: (f"Loop.steps={n}",) if n else () for n, name in enumerate(names)},
        expectations=(),
        predictions=({"variant": "three", "measure": MEASURE, "claim": "power_law"},),
        seeds=2,
        last=1,
    )
    for name, flops in zip(names, FLOPS, strict=False):
        for seed in range(2):
            failed = {"status": "failed", "reason": "diverged"} if (name, seed) == ("two", 1) else {}
            write_record(Path(suite.records), record(name, seed, _law(flops), flops=flops, **failed))
    (found,) = suite_results(suite, _runs(suite)).predicted
    assert found.failed == 1 and found.verdict == "cannot tell at this scale"
    write_results(suite, "a_suite", _runs(suite))
    assert "1 failed)" in Path(suite.ledger).read_text()


def test_a_suite_without_enough_variants(suite: Suite) -> None:
    with pytest.raises(ValueError, match="a law needs two variants or more beside 'two'"):
        dataclasses.replace(suite, predictions=({"variant": "two", "measure": MEASURE},))
