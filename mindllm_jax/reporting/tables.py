"""Tables for people: the same rows as markdown, CSV, HTML and in the terminal."""

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table as TerminalTable

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Table:
    """Rows under named columns. Numbers are right-aligned; `caption` stands above the table.

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

    def markdown(self) -> str:
        """A GitHub table."""
        numeric = self._numeric()
        lines = [[column.replace("|", r"\|") for column in self.columns]]
        lines.append(["---:" if right else "---" for right in numeric])
        lines += [[_shown(cell).replace("|", r"\|").replace("\n", " ") for cell in row] for row in self.rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{self.caption}\n\n{table}\n" if self.caption else f"{table}\n"

    def csv(self) -> str:
        """Comma-separated, numbers at full precision."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in self.rows)
        return text.getvalue()

    def html(self) -> str:
        """A `<table>` for a page of `reporting.page`."""
        numeric = self._numeric()

        def line(tag: str, cells: Sequence[str]) -> str:
            marked = zip(cells, numeric, strict=True)
            return "".join(
                f"<{tag}{' class=number' if right else ''}>{html.escape(cell)}</{tag}>" for cell, right in marked
            )

        head = f"<thead><tr>{line('th', self.columns)}</tr></thead>"
        body = "".join(f"<tr>{line('td', [_shown(cell) for cell in row])}</tr>" for row in self.rows)
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        return f"<table>{caption}{head}<tbody>{body}</tbody></table>"

    def terminal(self) -> TerminalTable:
        """For `rich.print`."""
        table = TerminalTable(title=self.caption or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for column, right in zip(self.columns, self._numeric(), strict=True):
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*[escape(_shown(cell)) for cell in row])
        return table

    def _numeric(self) -> list[bool]:
        """By column: whether what it holds is numbers."""
        return [
            any(isinstance(cell, int | float) for cell in column)
            and all(cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool)) for cell in column)
            for column in ([row[i] for row in self.rows] for i in range(len(self.columns)))
        ]


def _shown(cell: Cell) -> str:
    """Whole numbers with separators, others with four significant digits."""
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if 1e4 <= abs(cell) < 1e15 else f"{cell:.4g}"
    return cell
