"""The claim ledger: testable sentences of the paper, and what the suites say about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mindllm_jax.files import read_json, write_text
from mindllm_jax.reporting.tables import Cell, Table

_CLAIMS = Path(__file__).with_name("claims.json")
VERDICTS = "verdicts.json"
"""File of the suites' verdicts in their folder of results."""

_PREFACE = """# Claims of the paper

Testable sentences of MindLLM (arXiv 2310.15777); `python launch/ablate.py --gin configs/ablations/NAME.gin --tables`
rebuilds this page from the records. Certainty is that of our reading ([paper.md](paper.md)): the paper was not at
hand; `stated` means that a source says so, `inferred` and `remembered` that none does. A verdict is that of the scale
beside it, never the paper's.

"""


class Claim(NamedTuple):
    """A sentence of the paper.

    Attributes:
        sentence: the claim.
        certainty: of our reading: stated, inferred or remembered.
        suites: the gin files of `configs/ablations` that test it, without the ending; none where none can.
        note: what a small scale cannot say about it, or where it is tested instead.
    """

    sentence: str
    certainty: str
    suites: list[str]
    note: str


def read_claims() -> dict[str, Claim]:
    """Returns the claims by id."""
    return {name: Claim(**fields) for name, fields in read_json(_CLAIMS).items()}


def read_verdicts(results: Path) -> dict[str, dict[str, list[str]]]:
    """Returns the recorded verdicts, as lines by suite with scale and by claim id; none without a file.

    Raises ValueError where the file holds anything else.
    """
    path = results / VERDICTS
    verdicts = read_json(path) if path.exists() else {}
    for key, of_suite in verdicts.items():
        lines = [line for found in of_suite.values() for line in found] if _are_lists(of_suite) else [None]
        if not all(isinstance(line, str) for line in lines):
            raise ValueError(f"{path}: damaged: {key!r} holds no lists of lines by claim; `--tables` writes it again")
    return verdicts


def _are_lists(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(found, list) for found in value.values())


def write_verdicts(results: Path, verdicts: Mapping[str, Mapping[str, list[str]]]) -> None:
    """Writes the verdicts of all suites."""
    write_text(results / VERDICTS, json.dumps(verdicts, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def ledger(claims: Mapping[str, Claim], verdicts: Mapping[str, Mapping[str, list[str]]]) -> str:
    """Returns the ledger as Markdown: each claim with its verdicts, which are as from `read_verdicts`."""
    rows: list[list[Cell]] = []
    for name, claim in claims.items():
        found = [f"{line} [{key}]" for key, of_suite in sorted(verdicts.items()) for line in of_suite.get(name, [])]
        ran = {key.rpartition(", ")[0] for key in verdicts}
        found += [f"not run [{suite}]" for suite in claim.suites if suite not in ran]
        rows.append([
            claim.sentence,
            claim.certainty,
            ", ".join(f"`{suite}`" for suite in claim.suites) or "none",
            "; ".join(found) or "not tested",
            claim.note,
        ])  # fmt: skip
    columns = ("claim", "certainty", "suites", "verdict, difference [suite, scale]", "what it cannot say, where else")
    return _PREFACE + Table(columns, rows).markdown()
