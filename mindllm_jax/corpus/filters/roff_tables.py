"""Removes the formats of tables (tbl) from the text of a manual page, and joins the lines of a cell."""

import re

_OPTIONS = r"(?:(?:allbox|box|doublebox|center|expand|tab\(.\))[ ,\t]*+)++;\n"
_COLUMN = r"(?:[lcrnas^][biwx\d]*+|[|_])"
_COLUMNS = rf"{_COLUMN}(?:[ \t|]++{_COLUMN})*+"
# Options and formats of columns, such as "allbox;", "lb lb" and "l l."; without options only above a row.
_FORMAT = re.compile(
    rf"^{_OPTIONS}(?:{_COLUMNS}\n)*{_COLUMNS}\.\n|^(?:{_COLUMNS}\n){{0,3}}{_COLUMNS}\.\n(?=[^\n]*\t|T\{{\n)", re.M
)
_CELL = re.compile(r"(?:^|(?<=\t))T\{\n((?:(?!^T[{}]).)*+)^T\}", re.M | re.S)


def without_table_formats(text: str) -> str:
    """Returns a text with the rows of its tables, one a line, their cells between tabs."""
    return _CELL.sub(lambda cell: " ".join(cell[1].split()), _FORMAT.sub("", text))
