"""The table, plots and page of a suite."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from mindllm_jax.ablations.claims import Claim
from mindllm_jax.ablations.records import Record, record_name
from mindllm_jax.ablations.results import Predicted, Results
from mindllm_jax.ablations.statistics import LEAST_SEEDS, Interval
from mindllm_jax.ablations.suite import Suite
from mindllm_jax.files import write_text
from mindllm_jax.reporting.page import Figure, Page, Paragraph, Part, Section, write_page
from mindllm_jax.reporting.plots import Band, heat_map, line_plot
from mindllm_jax.reporting.tables import Cell, Table
from mindllm_jax.reporting.units import PER_CENT, PLAIN, Unit, metric_unit

_TEMPLATE = Path(__file__).with_name("suite.html")
_BY_FLOPS = "/by_flops"
FIRST_RECORD = "first record"
"""Stands before the name of a record in the text above the tables, which says of which settings they are."""
_NAMES = {
    "bits_per_byte": "bits per byte",
    "answer_loss": "loss of answers in nats per token",
    "answer_accuracy": "accuracy of answers' tokens",
    "label_f1": "weighted F1 of labels",
    "label_accuracy": "accuracy of labels",
    "without_label": "answers without a label",
}


def write_report(suite: Suite, name: str, results: Results, claims: dict[str, Claim]) -> list[Path]:
    """Writes NAME.SCALE.md, .csv and .html into `Suite.results`, and an SVG of each measure; returns their paths.

    The table of differences has a file of its own, NAME.SCALE.differences.csv. Numbers in both are in the units of the
    records, at full precision.
    """
    stem = Path(suite.results) / f"{name}.{suite.scale}"
    tables = result_tables(suite, results, claims)
    plots = {} if suite.heat_map else {measure: _plot(results, measure) for measure in suite.measures}
    if suite.heat_map:
        plots["heat_map"] = _heat_map(suite, results)
    plots |= {f"{one.extrapolation['measure']}{_BY_FLOPS}": _law_plot(one) for one in results.predicted}
    paths = [stem.with_name(f"{stem.name}.{end}") for end in ("md", "csv", "html")]
    pictures = {m: stem.with_name(f"{stem.name}.{m.replace('/', '_')}.svg") for m, svg in plots.items() if svg}
    for measure, path in pictures.items():
        write_text(path, plots[measure] or "")
    images = "\n".join(f"![{_title(m)}]({quote(path.name, safe='@,')})\n" for m, path in pictures.items())
    prose = list(_prose(suite, results))
    text = "\n\n".join([f"# {heading(suite, results)}", *prose, *(table.markdown() for table in tables), images])
    write_text(paths[0], text.rstrip() + "\n")
    write_text(paths[1], means_numbers(results).csv())
    if suite.expectations:
        paths.append(stem.with_name(f"{stem.name}.differences.csv"))
        write_text(paths[-1], differences_numbers(suite, results).csv())
    figures: list[Part] = [Figure(svg, f"{_title(m)}.") for m, svg in plots.items() if svg]
    sections = [Section("What was asked", [Paragraph(text) for text in prose])]
    sections += [Section("Results", tables), Section("Figures", figures)]
    write_page(paths[2], Page(heading(suite, results), "", sections), _TEMPLATE)
    return [*paths, *pictures.values()]


def heading(suite: Suite, results: Results) -> str:
    """Returns the title with the scale: parameters, tokens, tokens per parameter, seeds."""
    records = results.all_records
    if not records:
        return f"{suite.title} ({suite.scale}: not run)"
    parameters = _range([f"{one.parameters / 1e6:.1f}M" for one in sorted(records, key=lambda one: one.parameters)])
    tokens = _range([f"{one.tokens / 1e6:.2f}M" for one in sorted(records, key=lambda one: one.tokens)])
    shares = sorted(one.tokens / one.parameters for one in records)
    ratios = _range([f"{ratio:.1f}" if ratio >= 0.1 else f"{ratio:.1g}" for ratio in shares])
    return f"{suite.title} ({suite.scale}: {parameters} parameters, {tokens} tokens, {ratios} tokens per parameter)"


def result_tables(suite: Suite, results: Results, claims: dict[str, Claim]) -> list[Table]:
    """Returns the means, and the tested differences and predictions of a suite that has any."""
    tables = [means_table(suite, results)]
    if suite.expectations:
        tables.append(differences_table(suite, results, claims))
    if suite.predictions:
        tables.append(predictions_table(results, claims))
    return tables


def means_table(suite: Suite, results: Results) -> Table:
    """Returns the mean of each variant and measure, with its 95 % interval over seeds."""
    rows: list[list[Cell]] = []
    for variant, measures in results.means.items():
        found = results.records[variant]
        failed = sum(bool(record.failure(suite.measures, suite.last)) for record in found)
        seeds = f"{len(found)}" + (f", {failed} failed" if failed else "")
        rows.append([variant, seeds, *(_interval(measures[name], metric_unit(name)) for name in suite.measures)])
    columns = ("variant", "seeds", *(_title(name) for name in suite.measures))
    what = "the last evaluation" if suite.last == 1 else f"the mean of the last {suite.last} evaluations"
    return Table(columns, rows, f"Mean over seeds of {what}, with 95 % interval.")


def differences_table(suite: Suite, results: Results, claims: dict[str, Claim]) -> Table:
    """Returns the tested differences with verdicts, and what the paper claims."""
    rows: list[list[Cell]] = []
    for test in results.tested:
        expectation, difference, p_value, failed = test
        against, unit = suite.against(expectation), metric_unit(expectation["measure"])
        claim = claims.get(expectation.get("claim", ""))
        opposite = "; it says the opposite" if "claimed" in expectation else ""
        late = " (added after the runs)" if expectation.get("after_runs") else ""
        rows.append([
            f"{expectation['variant']} {expectation['direction']} than {against}{late}",
            _title(expectation["measure"]),
            (_interval(difference.interval, unit, sign="+") if difference else "not run")
            + (f", {failed} runs failed" if failed else ""),
            number(difference.detectable, unit) if difference else "",
            f"{p_value:.3g}" if p_value is not None else "",
            test.verdict(expectation["direction"]),
            f"{claim.sentence} ({claim.certainty}){opposite}" if claim else "ours",
        ])  # fmt: skip
    columns = ("tested", "measure", "difference", "detectable", "p", "verdict", "claim (certainty of our reading)")
    caption = (
        "Paired differences by seed with 95 % interval. Detectable: the smallest difference that these seeds see with a"
        " power of about 80 % (70 to 80 % with 3 to 6 seeds), corrected for the number of tests. p: paired t-test,"
        f" corrected for the number of tests (Holm), from {LEAST_SEEDS} seeds on. The verdict is yes or no where p is"
        " at most 0.05 and no run failed."
    )
    return Table(columns, rows, caption)


def means_numbers(results: Results) -> Table:
    """Returns the means as numbers, a row for each variant and measure."""
    rows: list[list[Cell]] = [
        [variant, measure, *(value or (None, None, None, 0))]
        for variant, measures in results.means.items()
        for measure, value in measures.items()
    ]
    return Table(("variant", "measure", "mean", "low", "high", "seeds"), rows)


def differences_numbers(suite: Suite, results: Results) -> Table:
    """Returns the tested differences as numbers."""
    rows: list[list[Cell]] = []
    for test in results.tested:
        expectation, difference, p_value, failed = test
        found = (*difference.interval, difference.detectable) if difference else (None, None, None, 0, None)
        against, verdict = suite.against(expectation), test.verdict(expectation["direction"])
        named = [expectation["variant"], against, expectation["measure"], expectation["direction"]]
        rows.append([*named, *found, p_value, failed, verdict])
    columns = ("variant", "against", "measure", "expected", "difference", "low", "high", "seeds", "detectable", "p")
    return Table((*columns, "failed runs", "verdict"), rows)


def predictions_table(results: Results, claims: dict[str, Claim]) -> Table:
    """Returns what the power laws of the smaller runs predict, and what was measured."""
    rows: list[list[Cell]] = []
    for one in results.predicted:
        prediction, claim = one.prediction, claims.get(one.extrapolation.get("claim", ""))
        law = value = nearest = "not run"
        if prediction:
            law = f"{prediction.law.factor:.3g} C^-{prediction.law.exponent:.4f}"
            value = prediction.text
            nearest = number(one.nearest)
        rows.append([
            one.extrapolation["variant"],
            _title(one.extrapolation["measure"]),
            law,
            value,
            _interval(one.measured),
            nearest,
            one.verdict,
            f"{claim.sentence} ({claim.certainty})" if claim else "ours",
        ])  # fmt: skip
    columns = (
        "predicted", "measure", "law of training FLOPs C", "prediction", "measured", "next smaller size", "verdict",
        "claim (certainty of our reading)",
    )  # fmt: skip
    caption = (
        "A power law is fitted to all other variants; its 95 % interval is that of their runs' spread (bootstrap) and"
        " leaves out what a straight line in logarithms cannot follow. The verdict is yes where the two intervals"
        " overlap, and undecided where one of them holds the value of the next smaller size."
    )
    return Table(columns, rows, caption)


def _prose(suite: Suite, results: Results) -> Iterator[str]:
    yield suite.question
    yield f"Expected, written before the runs: {suite.expected}"
    if suite.limits:
        yield f"What this scale cannot say: {suite.limits}"
    records = results.all_records
    if results.missing:
        yield f"{results.missing} runs of this suite are not run."
    reasons = [(record, record.failure(suite.measures, suite.last)) for record in records]
    if failed := [f"{record.variant}, seed {record.seed}: {reason}" for record, reason in reasons if reason]:
        yield "Failed: " + "; ".join(failed)
    if records:
        hours = sum(record.seconds for record in records) / 3600
        commits = ", ".join(sorted({_short(record.commit) for record in records}))
        hardware = "; ".join(sorted({record.hardware for record in records}))
        yield (
            f"{len(records)} runs, {hours:.2f} hours of their last sessions on {hardware}; commit {commits};"
            f" version {results.version}; {FIRST_RECORD} {record_name(records[0].settings, records[0].version)}."
        )
    if not suite.heat_map:
        yield "Curves are means over the seeds; a band reaches from the lowest seed to the highest."
    if len({(record.hardware, *record.versions.items()) for record in records}) > 1:
        yield "The runs are not all of one hardware and of the same package versions: see their records."
    for version, count in results.others.items():
        yield f"{count} records of another version of data or code, {version}, are left out."


def _plot(results: Results, measure: str) -> str | None:
    """Returns the curves of a measure: the mean of each variant's seeds, and the range of them as a band."""
    lines, bands, scale = {}, {}, metric_unit(measure).scale
    for variant, records in results.records.items():
        by_step = _by_step(records, measure)
        if by_step:
            steps, values = list(by_step), [[scale * value for value in found] for found in by_step.values()]
            lines[variant] = steps, [sum(v) / len(v) for v in values]
            bands[variant] = Band(steps, [min(v) for v in values], [max(v) for v in values])
    return line_plot(lines, x_label="step", y_label=_title(measure), bands=bands) if lines else None


def _heat_map(suite: Suite, results: Results) -> str | None:
    """Returns the means of the finished variants by measure, as one picture."""
    means = {
        variant: [one.mean for name in suite.measures if (one := measures[name])]
        for variant, measures in results.means.items()
    }
    finished = [variant for variant, found in means.items() if len(found) == len(suite.measures)]
    names = [name.partition("/")[2] or _title(name) for name in suite.measures]
    units = {_title(name.partition("/")[0]) for name in suite.measures}
    label = f"{', '.join(sorted(units))} above the column's lowest"
    return heat_map([means[variant] for variant in finished], finished, names, label=label) if finished else None


def _law_plot(one: Predicted) -> str | None:
    """Returns the measured sizes and the law that was fitted to all but the last, over the logarithm of the FLOPs."""
    if one.prediction is None:
        return None
    flops, values = zip(*one.sizes, strict=True)
    exponents = [math.log10(value) for value in flops]
    lines = {
        "measured": (exponents, values),
        "law of all but the largest": (exponents, [one.prediction.law(value) for value in flops]),
    }
    return line_plot(lines, x_label="log10 of training FLOPs", y_label=_title(one.extrapolation["measure"]))


def _by_step(records: list[Record], measure: str) -> dict[int, list[float]]:
    """Returns the finite values of a measure by step, without the untrained model's, at steps that all seeds have."""
    by_step: defaultdict[int, list[float]] = defaultdict(list)
    done = [record for record in records if record.status == "done"]
    for record in done:
        for step, value in record.curves.get(measure, []):
            if step and math.isfinite(value):
                by_step[step].append(value)
    return {step: values for step, values in sorted(by_step.items()) if len(values) == len(done)}


def _range(ordered: list[str]) -> str:
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"


def _title(measure: str) -> str:
    if measure == "heat_map":
        return "Means of the variants by measure"
    if measure.endswith(_BY_FLOPS):
        return f"{_title(measure.removesuffix(_BY_FLOPS))}, by training FLOPs"
    group, _, name = measure.partition("/")
    if group == "tasks" and name:
        name, _, group = name.rpartition("/")
    title = metric_unit(measure).head(_NAMES.get(group, group))
    return f"{title}, {name}" if name else title


def _interval(value: Interval | None, unit: Unit = PLAIN, *, sign: str = "") -> str:
    if value is None:
        return "not run"
    mean, low, high = (number(one, unit, sign) for one in value[:3])
    return f"{mean} (one seed)" if value.seeds < 2 else f"{mean} ({low} to {high})"


def _short(commit: str) -> str:
    return commit[:12] + ("-dirty" if commit.endswith("-dirty") else "")


def number(value: float, unit: Unit = PLAIN, sign: str = "") -> str:
    """Returns a number with four places, a share with two in per cent; sign: "+" for one in front of all."""
    return f"{unit.scale * value:{sign}.{2 if unit is PER_CENT else 4}f}" if math.isfinite(value) else "none"
