"""Line plots and heat maps as SVG."""

import re
from xml.etree import ElementTree

import matplotlib
import pytest

from mindllm_jax.reporting.plots import heat_map, line_plot

SVG = "{http://www.w3.org/2000/svg}"


def plot(**lines) -> ElementTree.Element:
    return ElementTree.fromstring(line_plot(lines, x_label="step", y_label="loss"))


def curves(root: ElementTree.Element) -> list[str]:
    """The paths of the lines themselves: those that are not axes, ticks or grid."""
    paths = [path for path in root.iter(f"{SVG}path") if "currentColor" not in path.get("style", "")]
    return [path.get("d", "") for path in paths if "stroke-linecap: square" in path.get("style", "")]


def test_labels_are_text_in_the_colour_of_the_page():
    root = plot(zh=([0, 1000], [3.0, 2.0]), en=([0, 1000], [4.0, 3.0]))
    texts = ["".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")]
    assert {"step", "loss", "zh", "en", "1,000"} <= set(texts)
    text = ElementTree.tostring(root, "unicode")
    assert "currentColor" in text
    assert "#010203" not in text
    assert "#000000" not in text
    assert "font-family" not in text


def test_names_are_shown_as_they_are():
    """matplotlib leaves out names that begin with an underscore, and takes dollars for mathematics."""
    root = plot(**{"_first": ([0, 1], [1, 2]), "cost $5 to $9": ([0, 1], [2, 1]), r"$\frac$": ([0, 1], [3, 3])})
    texts = ["".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")]
    assert {"_first", "cost $5 to $9", r"$\frac$"} <= set(texts)


def test_one_line_needs_no_legend():
    root = plot(training=([0, 1], [3.0, 2.0]))
    assert not any("training" in "".join(text.itertext()) for text in root.iter(f"{SVG}text"))


def test_long_lines_are_thinned_and_keep_their_end():
    steps = list(range(100_000))
    (path,) = curves(plot(a=(steps, [float(s) for s in steps])))
    points = re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)
    assert len(points) <= 1501
    (short,) = curves(plot(a=([0, 99_999], [0.0, 99_999.0])))
    assert points[-1] == re.findall(r"[ML] ([\d.]+) ([\d.]+)", short)[-1]


def test_values_that_are_not_finite_leave_a_gap():
    y = [1.0] * 50
    y[20], y[30] = float("nan"), float("inf")
    (path,) = curves(plot(a=(list(range(50)), y)))
    assert path.count("M") == 3


def test_it_is_the_same_every_time_and_changes_no_global_setting():
    before = dict(matplotlib.rcParams)
    assert line_plot({"a": ([0], [1.0])}, x_label="", y_label="") == line_plot(
        {"a": ([0], [1.0])}, x_label="", y_label=""
    )
    assert dict(matplotlib.rcParams) == before


def test_bad_input_raises():
    with pytest.raises(ValueError, match="at least one line"):
        plot()
    with pytest.raises(ValueError, match="the line 'a' has 2 x and 1 y"):
        plot(a=([0, 1], [1.0]))


def test_y_axis_begins_at_y_min():
    def labels(y_min: float | None) -> set[str]:
        text = line_plot({"a": ([7, 8], [90.0, 100.0])}, x_label="", y_label="", y_min=y_min)
        return {"".join(label.itertext()) for label in ElementTree.fromstring(text).iter(f"{SVG}text")}

    assert "0" in labels(0)
    assert "0" not in labels(None)


def test_a_heat_map_shows_every_value_and_leaves_out_what_is_not_finite():
    values = [[1.0, 2.5], [1.25, float("nan")]]
    root = ElementTree.fromstring(heat_map(values, ["zh", "en"], ["books", "laws"], label="bits above the best"))
    texts = ["".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")]
    assert {"zh", "en", "books", "laws", "1.00", "1.25", "2.50", "bits above the best"} <= set(texts)
    assert "nan" not in texts


@pytest.mark.parametrize("values", [[[1.0]], [[1.0, float("nan")], [2.0, float("nan")]]])
def test_a_heat_map_that_cannot_be_drawn(values: list[list[float]]):
    with pytest.raises(ValueError, match=r"do not name the values|has no finite value"):
        heat_map(values, ["zh", "en"], ["books", "laws"], label="")
