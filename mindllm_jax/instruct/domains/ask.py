"""The settings of `launch/rationales.py`, and the table of what it got."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mindllm_jax.instruct.domains.prepare import PrepareInstructions
from mindllm_jax.instruct.domains.rationales import Rationales
from mindllm_jax.reporting.tables import Table


@dataclass(frozen=True)
class AskRationales:
    """The domain whose records are asked about, and how."""

    domain: PrepareInstructions
    rationales: Rationales = field(default_factory=Rationales)

    def __post_init__(self) -> None:
        if not self.domain.rationales:
            raise ValueError("PrepareInstructions.rationales is empty: name the file that is written")


def rationales_table(counts: Mapping[str, int], left_out: Mapping[str, int]) -> Table:
    """Tabulates the replies; "without a rationale" are asked again by the same command."""
    rows = [*sorted(counts.items()), *((f"record left out: {kind}", count) for kind, count in sorted(left_out.items()))]
    return Table(("rationales", "count"), rows)
