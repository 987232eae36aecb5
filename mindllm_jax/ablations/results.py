"""The results of a suite, from the records of its runs: means, differences and verdicts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from mindllm_jax.ablations.plan import Run
from mindllm_jax.ablations.power_law import Prediction, predict
from mindllm_jax.ablations.records import Record, read_records, record_name
from mindllm_jax.ablations.statistics import (
    Interval,
    PairedDifference,
    Verdict,
    baseline_detectable,
    holm,
    interval,
    paired_difference,
    verdict,
)
from mindllm_jax.ablations.suite import Expectation, Extrapolation, Suite


class Tested(NamedTuple):
    """A tested difference.

    Attributes:
        expectation: what was expected.
        difference: over the seeds that both variants have; None where no seed has both.
        p_value: corrected for the number of tests of the suite (Holm); None below six pairs.
        failed: runs of the two variants that diverged or measured no finite value, and are missing among the pairs.
    """

    expectation: Expectation
    difference: PairedDifference | None
    p_value: float | None
    failed: int

    def verdict(self, direction: Literal["lower", "higher"]) -> Verdict:
        """Returns whether the difference has a direction; undecided where a run diverged."""
        if self.difference is None:
            return "cannot tell at this scale" if self.failed else "not run"
        return verdict(self.difference.interval.mean, None if self.failed else self.p_value, direction)


class Predicted(NamedTuple):
    """A prediction beside what was measured.

    Attributes:
        extrapolation: what was predicted.
        prediction: by the law of the other variants; None where one of them has no run.
        measured: mean of the predicted variant; None where it has no run.
        nearest: mean of the variant with the most FLOPs of those that the law is fitted to; NaN where one has no run.
        sizes: of each variant, FLOPs of a run and its mean, those that are fitted first, in the order of their FLOPs.
        failed: runs that diverged or measured no finite value, and are missing in law and measurement.
    """

    extrapolation: Extrapolation
    prediction: Prediction | None
    measured: Interval | None
    nearest: float
    sizes: list[tuple[float, float]]
    failed: int

    @property
    def verdict(self) -> Verdict:
        """Whether prediction and measurement agree: their 95 % intervals overlap.

        Undecided where a run diverged, and where one of the intervals holds the value of the nearest smaller size: so
        wide a prediction says nothing.
        """
        if self.prediction is None or self.measured is None:
            return "not run"
        low, high, measured = self.prediction.low, self.prediction.high, self.measured
        if self.failed or low <= self.nearest <= high or measured.low <= self.nearest <= measured.high:
            return "cannot tell at this scale"
        return "yes" if low <= measured.high and measured.low <= high else "no"


class Results(NamedTuple):
    """The results of a suite from its records.

    Attributes:
        version: the one version of data and code whose records are used.
        others: how many records of the suite's runs are of each other version.
        records: of the finished and failed runs, by variant, in the order of their seeds.
        missing: runs without a record.
        means: by variant and measure; None where a variant has no finished run.
        tested: the expectations, in order.
        predicted: the predictions, in order.
        detectable: by measure, the difference that the baseline's seeds let expect to be detectable.
    """

    version: str
    others: Counter[str]
    records: dict[str, list[Record]]
    missing: int
    means: dict[str, dict[str, Interval | None]]
    tested: list[Tested]
    predicted: list[Predicted]
    detectable: dict[str, float]

    @property
    def all_records(self) -> list[Record]:
        """The records of all variants."""
        return [record for found in self.records.values() for record in found]


def suite_results(suite: Suite, runs: Sequence[Run]) -> Results:
    """Reads the records of a suite's runs and compares its variants seed by seed.

    Where the runs' own version is not known, the version with the most records is used, of several the one with the
    newest. Raises ValueError where a record is damaged or of another seed, and where all lack a measure.
    """
    on_file = read_records(Path(suite.records))
    found = [record for run in runs for record in on_file.get(run.settings, {}).values()]
    others = Counter(record.version for record in found)
    newest = {record.version: record.date for record in sorted(found, key=lambda record: record.date)}
    version = runs[0].version or max(newest, key=lambda version: (others[version], newest[version]), default="")
    del others[version]
    records: dict[str, list[Record]] = {variant: [] for variant in suite.variants}
    for run in runs:
        if record := on_file.get(run.settings, {}).get(version):
            if record.seed != run.seed:
                name = record_name(run.settings, version)
                raise ValueError(f"{suite.records}/{name}: damaged: seed {record.seed}, where {run.seed} was expected")
            records[run.variant].append(record)
    _require_measured(suite, [record for of_variant in records.values() for record in of_variant])
    values = {
        variant: {name: _by_seed(found, name, suite.last) for name in suite.measures}
        for variant, found in records.items()
    }
    means = {
        variant: {name: interval(list(seeds.values())) if seeds else None for name, seeds in measures.items()}
        for variant, measures in values.items()
    }
    tested = []
    for expectation in suite.expectations:
        ours = values[expectation["variant"]][expectation["measure"]]
        theirs = values[suite.against(expectation)][expectation["measure"]]
        seeds = sorted(ours.keys() & theirs.keys())
        pairs = [ours[s] for s in seeds], [theirs[s] for s in seeds]
        difference = paired_difference(*pairs, len(suite.expectations)) if seeds else None
        pair = records[expectation["variant"]] + records[suite.against(expectation)]
        failed = sum(bool(record.failure((expectation["measure"],), suite.last)) for record in pair)
        tested.append(Tested(expectation, difference, difference and difference.p_value, failed))
    detectable = {
        name: baseline_detectable(list(seeds.values()), suite.seeds, len(suite.expectations))
        for name, seeds in values[suite.baseline].items()
    }
    predicted = [_predicted(one, suite.last, records, values, means) for one in suite.predictions]
    missing = len(runs) - sum(map(len, records.values()))
    return Results(version, others, records, missing, means, _corrected(tested), predicted, detectable)


def _require_measured(suite: Suite, records: Sequence[Record]) -> None:
    """Raises ValueError for a measure that none of the finished runs has."""
    done = [record for record in records if record.status == "done"]
    for name in suite.measures:
        if done and not any(name in record.curves for record in done):
            raise ValueError(
                f"Suite.measures names {name!r}, which no record of {suite.title!r} has: they were made without it."
                " Leave it out, or move the records away to train again"
            )


def _predicted(
    extrapolation: Extrapolation,
    last: int,
    records: Mapping[str, Sequence[Record]],
    values: Mapping[str, Mapping[str, Mapping[int, float]]],
    means: Mapping[str, Mapping[str, Interval | None]],
) -> Predicted:
    variant, measure = extrapolation["variant"], extrapolation["measure"]
    found = {name: list(seeds[measure].values()) for name, seeds in values.items()}
    flops = {name: records[name][0].flops for name, losses in found.items() if losses}
    fitted = sorted((name for name in found if name != variant and name in flops), key=lambda name: flops[name])
    prediction, nearest = None, math.nan
    if len(fitted) == len(found) - 1 and variant in flops:
        prediction = predict([flops[name] for name in fitted], [found[name] for name in fitted], flops[variant])
        nearest = float(np.mean(found[fitted[-1]]))
    sizes = [(flops[name], float(np.mean(found[name]))) for name in (*fitted, variant) if name in flops]
    failed = sum(bool(one.failure((measure,), last)) for of_variant in records.values() for one in of_variant)
    return Predicted(extrapolation, prediction, means[variant][measure], nearest, sizes, failed)


def _by_seed(records: Iterable[Record], measure: str, last: int) -> dict[int, float]:
    values = {record.seed: record.measure(measure, last) for record in records}
    return {seed: value for seed, value in values.items() if math.isfinite(value)}


def _corrected(tested: list[Tested]) -> list[Tested]:
    found = {index: test.p_value for index, test in enumerate(tested) if test.p_value is not None}
    corrected = dict(zip(found, holm(list(found.values()), len(tested)), strict=True))
    return [test._replace(p_value=corrected.get(index)) for index, test in enumerate(tested)]
