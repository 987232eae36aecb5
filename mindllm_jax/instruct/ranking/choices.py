"""People's choices between answers, of a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from mindllm_jax.checks import suggestion
from mindllm_jax.instruct.ranking.comparisons import OTHER, Judgement

HEADER = ["id", "first", "second", "winner"]


def read_choices(path: Path, ids: Collection[str], names: Collection[str]) -> list[Judgement]:
    """Reads the choices; several of the same pair count each.

    Raises OSError where there is no file, ValueError that names the line and field which is wrong.
    """
    found: list[Judgement] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            if (header := next(reader, [])) != HEADER:
                raise ValueError(f"{path}, line 1: the header is {','.join(header)!r}: it has to be {','.join(HEADER)}")
            for row in reader:
                if row:
                    found.append(_choice(f"{path}, line {reader.line_num}", row, ids, names))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}: not UTF-8 at byte {error.start} of what follows line {reader.line_num}"
            ) from None
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}; repair the line") from None
    if not found:
        raise ValueError(f"{path} holds no choice: it needs lines such as p1,{','.join(list(names)[:2])},tie")
    return found


def _choice(where: str, row: list[str], ids: Collection[str], names: Collection[str]) -> Judgement:
    if len(row) != len(HEADER):
        raise ValueError(f"{where}: {len(row)} fields: it has to have {len(HEADER)}, {','.join(HEADER)}")
    id, first, second, winner = (field.strip() for field in row)
    if id not in ids:
        raise ValueError(f"{where}: id = {id!r}: there is no such prompt{suggestion(id, ids)}")
    for field, name in (("first", first), ("second", second)):
        if name not in names:
            raise ValueError(f"{where}: {field} = {name!r}: there is no such model; there are {', '.join(names)}")
    if first == second:
        raise ValueError(f"{where}: first and second are both {first!r}: a choice is between two models")
    for possible in OTHER:
        if winner == possible:
            return Judgement(id, first, second, possible)
    raise ValueError(f"{where}: winner = {winner!r}: it has to be {', '.join(OTHER)}")
