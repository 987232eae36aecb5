"""Units of scores: files hold shares between 0 and 1, and readers see them in per cent."""

from __future__ import annotations

import math
from typing import NamedTuple

_SHARES = frozenset(
    (
        "abstention_rate",
        "acc",
        "acc_bytes",
        "acc_mutual_info",
        "acc_norm",
        "answer_accuracy",
        "chance",
        "exact_match",
        "label_accuracy",
        "label_f1",
        "probability",
        "retrieval",
        "score",
        "without_label",
    )
)


class Unit(NamedTuple):
    """The unit of a score: what it is multiplied by, what names the unit, and the decimal places shown."""

    scale: float
    name: str
    places: int

    def head(self, label: str) -> str:
        """Returns the head of a column or the label of a row, with the unit."""
        return f"{label}, {self.name}" if self.name else label

    def text(self, value: float, error: float = math.nan, places: int | None = None) -> str:
        """Returns a score as text, with its standard error unless that is NaN; places: others than the unit's."""
        shown, spread = (f"{self.scale * each:.{places or self.places}f}" for each in (value, error))
        return shown if math.isnan(error) else f"{shown} ± {spread}"

    def line(self, label: str, value: float) -> str:
        """Returns a score in a line of the terminal: "acc 65.4 %", "bits_per_byte 2.5000"."""
        return f"{label} {self.text(value)} {self.name}" if self.name else f"{label} {value:.4f}"

    def change(self, difference: float) -> str:
        """Returns the difference of two scores as text, with its sign and one more place."""
        return f"{self.scale * difference:+z.{self.places + 1}f}"


PER_CENT = Unit(100, "%", 1)
PLAIN = Unit(1, "", 3)


def unit_of(metric: str) -> Unit:
    """Returns the unit of a metric by its name, which may end with a comma and a filter; unknown ones are plain."""
    return PER_CENT if metric.partition(",")[0] in _SHARES else PLAIN


def metric_unit(name: str) -> Unit:
    """Returns the unit of a metric of a run: that of METRIC in `tasks/TASK/METRIC`, of GROUP in `GROUP/NAME`."""
    group, _, rest = name.partition("/")
    return unit_of(rest.rpartition("/")[2] if group == "tasks" else group)


def metric_text(name: str, value: float) -> str:
    """Returns a metric of a run in a line of the terminal, as `Unit.line`."""
    return metric_unit(name).line(name, value)
