"""Line plots and heat maps as inline SVG in the colours of the page."""

import contextlib
import io
import math
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

# Distinguishable on light and dark pages, and with most kinds of colour blindness.
_COLOURS = ("#3f83c8", "#dd7f32", "#2f9e7d", "#b06cc4", "#c2a01f", "#d4627a", "#7b8794")
# Of the lines that take the colours again.
_STYLES = ("solid", "dashed", "dotted")
# More points than the page has pixels only make the file larger.
_POINTS = 1500
# Replaced by the page's text colour (currentColor), which matplotlib cannot name.
_INK = "#010203"

Line = tuple[Sequence[float], Sequence[float]]


class Band(NamedTuple):
    """A shaded range around a line."""

    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def line_plot(
    lines: Mapping[str, Line],
    *,
    x_label: str,
    y_label: str,
    y_min: float | None = None,
    bands: Mapping[str, Band] = types.MappingProxyType({}),
) -> str:
    """Returns an SVG of (x, y) lines by name, with a legend if there are several. Non-finite values leave gaps.

    y_min: where the y axis begins; None: at the smallest value. bands: by the name of their line.

    Raises:
        ValueError: there are no lines, or x and y of one differ in length.
    """
    if not lines:
        raise ValueError("a plot needs at least one line")
    with _figure(9.6, 3.6) as figure:
        axes, drawn = figure.add_subplot(), []
        for number, (name, (x, y)) in enumerate(lines.items()):
            xs, ys = _thinned(name, x, y)
            marker = "o" if len(xs) < 30 else None
            rounds, place = divmod(number, len(_COLOURS))
            colour, style = _COLOURS[place], _STYLES[rounds % len(_STYLES)]
            drawn += axes.plot(xs, ys, color=colour, linestyle=style, linewidth=1.8, marker=marker, markersize=4)
            if band := bands.get(name):
                axes.fill_between(band.x, band.low, band.high, color=colour, alpha=0.2, linewidth=0)
        axes.set(xlabel=_plain(x_label), ylabel=_plain(y_label))
        names = list(map(_plain, lines))
        axes.set_ylim(bottom=y_min)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axes.grid(axis="y", color=_INK, alpha=0.12, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        if len(lines) > 4:
            figure.legend(drawn, names, loc="outside right upper", frameon=False)  # it would cover the lines
        elif len(lines) > 1:
            axes.legend(drawn, names, frameon=False)
        return _svg(figure)


def heat_map(values: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str], *, label: str) -> str:
    """Returns an SVG of a table of numbers, coloured by the root of what each has above the lowest of its column.

    values: by row and column; a value that is not finite leaves its cell empty. label: what the colours mean.

    Raises:
        ValueError: a row has not one value a column, or a column has no finite value.
    """
    import numpy as np
    from matplotlib.colors import PowerNorm

    table = np.ma.masked_invalid([list(row) for row in values])
    if table.shape != (len(rows), len(columns)):
        raise ValueError(f"{len(rows)} rows and {len(columns)} columns do not name the values of {table.shape}")
    if not table.count(axis=0).all():
        raise ValueError("a column of a heat map has no finite value")
    above = table - table.min(axis=0)
    with _figure(9.6, 1.8 + 0.34 * len(rows)) as figure:
        axes = figure.add_subplot()
        norm = PowerNorm(0.5)
        cells = axes.pcolormesh(above, norm=norm, cmap="cividis_r")
        for (row, column), value in np.ma.ndenumerate(table):  # leaves masked ones out
            ink = "#f6f6f4" if norm(above[row, column]) > 0.5 else "#14171a"
            axes.text(column + 0.5, row + 0.5, f"{value:.2f}", ha="center", va="center", size=9, color=ink)
        names = [*map(_plain, columns)]
        axes.set_xticks(np.arange(len(columns)) + 0.5, names, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(np.arange(len(rows)) + 0.5, [*map(_plain, rows)])
        axes.invert_yaxis()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.colorbar(cells, label=label).outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        return _svg(figure)


@contextlib.contextmanager
def _figure(width: float, height: float) -> Iterator[Any]:
    """Yields an empty figure, in inches, while matplotlib has the settings of our plots."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # Text stays text: small, selectable, and in the page's font, which has every script of the labels.
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "mindllm",
        "font.size": 11,
        "axes.edgecolor": _INK,
    }
    settings |= {"text.color": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(text.getvalue())


def _plain(text: str) -> str:
    """Returns text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def _thinned(name: str, x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    if len(x) != len(y):
        raise ValueError(f"the line {name!r} has {len(x)} x and {len(y)} y")
    step = math.ceil(len(x) / _POINTS) or 1
    kept = list(range(0, len(x), step))
    if kept and kept[-1] != len(x) - 1:
        kept.append(len(x) - 1)
    return [x[i] for i in kept], [y[i] if math.isfinite(y[i]) else math.nan for i in kept]


def _inline(svg: str) -> str:
    """Removes the file's head, and the ids of groups, which would occur twice in a page of two plots."""
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg))
    return re.sub(r'<g id="[^"]*"', "<g", svg)
