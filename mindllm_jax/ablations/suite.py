"""The settings of an ablation suite: what is compared, how often, and what is expected."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict

from mindllm_jax.ablations.claims import read_claims
from mindllm_jax.ablations.records import LAST
from mindllm_jax.checks import require_at_least, suggestion
from mindllm_jax.reporting.units import PER_CENT, metric_unit

SCALES = ("smoke", "cpu", "gpu", "paper")
ROWS = 64


class Expectation(TypedDict):
    """A difference that is tested, written down before the runs unless it says otherwise.

    Attributes:
        variant: the variant of which something is expected.
        against: the variant that it is compared with; the suite's baseline if absent.
        measure: one of the suite's measures.
        direction: whether the variant's value is expected to be lower or higher.
        claim: the id of the claim in `claims.json` that the difference tests; absent for an expectation of ours.
        claimed: the direction that follows from the claim, where we expect the other one.
        after_runs: whether it was added when its runs had been seen, which table and ledger say.
    """

    variant: str
    measure: str
    direction: Literal["lower", "higher"]
    against: NotRequired[str]
    claim: NotRequired[str]
    claimed: NotRequired[Literal["lower", "higher"]]
    after_runs: NotRequired[bool]


class Extrapolation(TypedDict):
    """A variant, the largest, whose measure a power law of the FLOPs of all other variants predicts.

    Attributes:
        variant: the variant that the law is not fitted to.
        measure: one of the suite's measures.
        claim: the id of the claim in `claims.json` that the prediction tests; absent for one of ours.
    """

    variant: str
    measure: str
    claim: NotRequired[str]


@dataclass(frozen=True)
class Suite:
    """A comparison of pre-training or tuning runs that differ in the settings of their variant alone.

    Attributes:
        title: for tables and the page.
        question: what the suite asks.
        expected: what is expected and why, written before the runs.
        limits: what a small scale cannot say.
        trainer: pretrain, runs of `launch/train.py`, or tune, runs of `launch/sft.py` from one base.
        base: gin files of every run; the scale's file, `configs/ablations/scales/SCALE.gin` or `SCALE_sft.gin`, is read
            after them.
        variants: settings of each variant, as on the command line: `{"blocked": ("Mixture.order=blocked",)}`.
        baseline: the variant that the others are compared with.
        expectations: the differences that are tested, in the order of the table.
        predictions: variants that a power law of the others predicts (`power_law.predict`).
        measures: names in the runs' metrics.
        held_out_rows: of pre-training, rows of held-out text that are measured, about so many of a language. Rows of
            another tokenizer hold other text: variants of several tokenizers should be measured on all of them.
        heat_map: whether the means of all variants and measures are drawn as one picture, in place of curves by step.
        scale: smoke, cpu, gpu or, of pre-training, paper.
        scales: for which the sizes and steps of the variants are chosen; smoke is always possible.
        seeds: runs of each variant. A seed decides the order of rows in all variants, and the initial parameters.
        last: evaluations at the end of a run that are averaged, at most 20.
        settings: further settings of all runs, such as `("Mixture.store=DIR",)`.
        records: folder of the records of finished runs.
        results: folder of tables, plots and pages.
        ledger: file of the claims with the verdicts of all suites.
    """

    title: str
    question: str
    expected: str
    base: tuple[str, ...]
    variants: dict[str, tuple[str, ...]]
    baseline: str
    trainer: Literal["pretrain", "tune"] = "pretrain"
    expectations: tuple[Expectation, ...] = ()
    predictions: tuple[Extrapolation, ...] = ()
    limits: str = ""
    measures: tuple[str, ...] = ("bits_per_byte/zh", "bits_per_byte/en", "bits_per_byte/mean")
    held_out_rows: int = ROWS
    heat_map: bool = False
    scale: str = "cpu"
    scales: tuple[str, ...] = SCALES
    seeds: int = 5
    last: int = 3
    settings: tuple[str, ...] = ()
    records: str = "docs/results/runs"
    results: str = "docs/results/ablations"
    ledger: str = "docs/claims.md"

    def __post_init__(self) -> None:
        require_at_least(self, 1, "seeds", "last", "held_out_rows")
        if self.last > LAST:
            raise ValueError(f"Suite.last is {self.last}: records keep the last {LAST} evaluations whole")
        for where, names in (("Suite.scales", self.scales), ("Suite.scale", (self.scale,))):
            for name in names:
                require_known(where, name, SCALES)
        if self.trainer == "tune" and self.scale == "paper":
            raise ValueError("Suite.scale is 'paper', which is of pre-training: take smoke, cpu or gpu")
        if self.scale not in ("smoke", *self.scales):
            raise ValueError(
                f"Suite.scale is {self.scale!r}: the variants of {self.title!r} have sizes or steps for"
                f" {', '.join(self.scales)}"
            )
        require_known("Suite.baseline", self.baseline, self.variants)
        if self.trainer == "tune" and self.held_out_rows != ROWS:
            raise ValueError(
                "Suite.held_out_rows is of pre-training: Instructions.held_out_inputs names what is measured"
            )
        if not self.measures:
            raise ValueError("Suite.measures is empty: name at least one, as 'bits_per_byte/zh'")
        if self.variants[self.baseline]:
            raise ValueError(
                f"Suite.variants[{self.baseline!r}] is the baseline and has settings: those of all runs belong into the"
                " gin files of Suite.base"
            )
        seen: dict[tuple[str, ...], str] = {}
        for name, settings in self.variants.items():
            twin = seen.setdefault(tuple(sorted(settings)), name)
            if twin != name:
                raise ValueError(f"Suite.variants: {name!r} has the settings of {twin!r}; leave one out")
        for number, expectation in enumerate(self.expectations):
            where = f"Suite.expectations[{number}]"
            require_known(f"{where}['variant']", expectation["variant"], self.variants)
            require_known(f"{where}['against']", self.against(expectation), self.variants)
            require_known(f"{where}['measure']", expectation["measure"], self.measures)
            if expectation["variant"] == self.against(expectation):
                raise ValueError(f"{where}: {expectation['variant']!r} is compared with itself")
            if "claimed" in expectation and "claim" not in expectation:
                raise ValueError(f"{where} has 'claimed' and no 'claim': name the claim that says so")
        claims = read_claims()
        for name in (one["claim"] for one in (*self.expectations, *self.predictions) if "claim" in one):
            require_known("a claim of the suite", name, claims)
        predicted = [prediction["measure"] for prediction in self.predictions]
        if len(set(predicted)) < len(predicted):
            raise ValueError("Suite.predictions: one measure is predicted twice; leave one out")
        groups = {name.partition("/")[0] for name in self.measures}
        if self.heat_map and (len(groups) > 1 or "tasks" in groups):
            raise ValueError(
                "Suite.heat_map: the measures have several units; draw losses of one group, whose lowest is the best"
            )
        for number, prediction in enumerate(self.predictions):
            where = f"Suite.predictions[{number}]"
            require_known(f"{where}['variant']", prediction["variant"], self.variants)
            require_known(f"{where}['measure']", prediction["measure"], self.measures)
            if metric_unit(prediction["measure"]) is PER_CENT:
                raise ValueError(f"{where}: a law is one of losses; {prediction['measure']!r} is a share")
            if len(self.variants) < 3:
                raise ValueError(f"{where}: a law needs two variants or more beside {prediction['variant']!r}")

    def against(self, expectation: Expectation) -> str:
        """Returns the variant that an expectation's variant is compared with."""
        return expectation.get("against", self.baseline)


def require_known(where: str, name: str, known: Collection[str]) -> None:
    """Raises ValueError for a name that is not known, with the closest one or all."""
    if name not in known:
        hint = suggestion(name, known) or f"; it is one of {', '.join(known)}"
        raise ValueError(f"{where} is {name!r}, which is not known{hint}")


def require_measures(names: Collection[str], known: Collection[str]) -> None:
    """Raises ValueError for a measure that no run has."""
    for name in names:
        require_known("one of Suite.measures", name, known)
