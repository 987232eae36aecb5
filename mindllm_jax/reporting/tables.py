"""Tables that render as Markdown, CSV, HTML and in the terminal."""

import csv
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table as TerminalTable

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Table:
    """Rows under named columns. Columns of numbers are right-aligned; `caption` is above the table.

    Raises:
        ValueError: a row is longer or shorter than the header.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells under {len(self.columns)} columns: {list(row)}")

    def without_empty_columns(self) -> "Table":
        """Returns the table without the columns in which no row has a value."""
        filled = [i for i in range(len(self.columns)) if any(row[i] is not None for row in self.rows)]
        rows = [[row[i] for i in filled] for row in self.rows]
        return Table([self.columns[i] for i in filled], rows, self.caption)

    def markdown(self) -> str:
        """Returns a GitHub Markdown table."""
        lines = [list(self.columns), ["---:" if right else "---" for right in self._numeric()], *self._formatted()]
        table = "\n".join("| " + " | ".join(_in_markdown(cell) for cell in line) + " |" for line in lines)
        return f"{self.caption}\n\n{table}\n" if self.caption else f"{table}\n"

    def csv(self) -> str:
        """Returns comma-separated values, numbers at full precision."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in self.rows)
        return text.getvalue()

    def html(self) -> str:
        """Returns a `<table>` for `reporting.page`, without a head if no column has a name."""
        sides = [" class=number" if right else "" for right in self._numeric()]

        def line(tag: str, cells: Sequence[str]) -> str:
            filled = (f"<{tag}{side}>{html.escape(cell)}</{tag}>" for side, cell in zip(sides, cells, strict=True))
            return f"<tr>{''.join(filled)}</tr>"

        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        head = f"<thead>{line('th', self.columns)}</thead>" if any(self.columns) else ""
        body = "\n".join(line("td", cells) for cells in self._formatted())
        return f"<table>{caption}{head}<tbody>\n{body}\n</tbody></table>"

    def terminal(self) -> TerminalTable:
        """Returns the table for `rich.print`."""
        table = TerminalTable(title=escape(self.caption) or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for column, right in zip(self.columns, self._numeric(), strict=True):
            table.add_column(escape(column), justify="right" if right else "left", overflow="fold")
        for cells in self._formatted():
            table.add_row(*map(escape, cells))
        return table

    def _column(self, index: int) -> list[Cell]:
        return [row[index] for row in self.rows]

    def _numeric(self) -> list[bool]:
        """Returns, per column, whether it holds only numbers."""
        cells = [[cell for cell in self._column(i) if cell is not None] for i in range(len(self.columns))]
        return [
            bool(column) and all(isinstance(c, int | float) and not isinstance(c, bool) for c in column)
            for column in cells
        ]

    def _formatted(self) -> list[list[str]]:
        """Returns the cells as text."""
        decimals = [_decimals(self._column(i)) for i in range(len(self.columns))]
        return [[_format(cell, places) for cell, places in zip(row, decimals, strict=True)] for row in self.rows]


def _in_markdown(cell: str) -> str:
    return cell.replace("\\|", "\\\\|").replace("|", r"\|").replace("\n", " ")


def _decimals(column: Sequence[Cell]) -> int | None:
    """Returns the decimals that give the largest number of a column four digits; None if its numbers vary too much."""
    sizes = [abs(cell) for cell in column if isinstance(cell, float) and cell and math.isfinite(cell)]
    if not sizes or max(sizes) > 1000 * min(sizes):
        return None
    return max(0, 3 - math.floor(math.log10(max(sizes))))


def _format(cell: Cell, decimals: int | None) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        if decimals is not None:
            return f"{cell:,.{decimals}f}"
        return f"{cell:,.0f}" if 1000 <= abs(cell) < 1e15 else f"{cell:.4g}"
    return cell
