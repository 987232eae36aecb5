"""Tables in their four formats."""

import csv
import io

import pytest
from rich.console import Console

from mindllm_jax.reporting.tables import Table

TABLE = Table(
    ("name", "bits | byte", "count", "done"),
    [("a|b <x> [red]", 2.1, 12345, True), ("二", 1.98765, None, False)],
    caption="Held out",
)


def test_markdown():
    assert TABLE.markdown() == (
        "Held out\n\n"
        "| name | bits \\| byte | count | done |\n"
        "| --- | ---: | ---: | --- |\n"
        "| a\\|b <x> [red] | 2.100 | 12,345 | yes |\n"
        "| 二 | 1.988 | – | no |\n"
    )


def test_a_backslash_before_a_bar_splits_no_cell():
    assert Table(("a\\|b",), []).markdown().splitlines()[0] == "| a\\\\\\|b |"


def test_csv_keeps_every_digit():
    rows = list(csv.reader(io.StringIO(TABLE.csv())))
    assert rows == [
        ["name", "bits | byte", "count", "done"],
        ["a|b <x> [red]", "2.1", "12345", "True"],
        ["二", "1.98765", "", "False"],
    ]


def test_html_is_escaped_and_aligned():
    html = TABLE.html()
    assert "<caption>Held out</caption><thead><tr><th>name</th><th class=number>bits | byte</th>" in html
    assert (
        "<tr><td>a|b &lt;x&gt; [red]</td><td class=number>2.100</td><td class=number>12,345</td><td>yes</td></tr>"
        in html
    )
    assert "<thead>" not in Table(("", ""), [("git", "0123")]).html()


def test_terminal_escapes_brackets():
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(TABLE.terminal())
    text = console.export_text()
    assert "a|b <x> [red]" in text
    assert "12,345" in text


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        ([0.25, 0.4125], ["0.2500", "0.4125"]),
        ([8.0123, 2.2, 0.0], ["8.012", "2.200", "0.000"]),
        ([2798.4, 0.00123, 12345678.9], ["2,798", "0.00123", "12,345,679"]),
        ([20480.0, 3001.5], ["20,480", "3,002"]),
        ([float("nan"), 1.5], ["nan", "1.500"]),
        ([1, None], ["1", "–"]),
    ],
)
def test_number_formats(cells, shown):
    lines = Table(("x",), [(cell,) for cell in cells]).markdown().splitlines()[2:]
    assert [line.strip("| ") for line in lines] == shown


def test_row_of_another_length_raises():
    with pytest.raises(ValueError, match=r"a row of 1 cells under 2 columns: \['x'\]"):
        Table(("a", "b"), [("x",)])
