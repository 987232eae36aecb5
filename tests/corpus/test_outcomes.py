"""Outcomes survive their encoding in datatrove's statistics, for sources and reasons of any name."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from datatrove.data import Document
from datatrove.executor.local import LocalPipelineExecutor
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.corpus.filters.privacy import Privacy
from mindllm_jax.corpus.outcomes import Kind, Outcome, outcomes, record, recorded
from mindllm_jax.corpus.report.card import decisions, write_card
from mindllm_jax.corpus.report.collect import collect
from mindllm_jax.corpus.report.summary import Summary

NAMES = st.one_of(st.text(), st.sampled_from(["lines", "found", "bad", "replaced", "a|b", "kept", "outcome ", '"]']))


@given(st.dictionaries(st.tuples(NAMES, st.sampled_from(get_args(Kind)), NAMES), st.lists(st.integers(0, 9))))
def test_round_trip(sizes: dict[tuple[str, Kind, str], list[int]]) -> None:
    step = Privacy()
    step.stat_update("total", "doc_len", "dropped_outcome")
    for (source, kind, reason), each in sizes.items():
        for size in each:
            record(step, source, kind, reason, bytes=size)
    expected = [Outcome("Privacy", *key, len(each), sum(each)) for key, each in sizes.items() if each]
    assert recorded(step) == expected


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind 'lost'"):
        list(outcomes("Privacy", {'outcome ["s", "lost", "", "documents"]': 1}))


class Shouting(CleaningFilter):
    """A filter that nothing else knows."""

    name = "Shouting"

    def apply(self, document: Document) -> str | None:
        if "!" not in document.text:
            return None
        record(self, document.metadata["source"], "changed", "shouts", bytes=1, parts=3, example=document.text)
        return "shouting"


@pytest.mark.parametrize("source", ["lines", "found", "bad", "replaced", "a|b"])
def test_a_new_filter_appears_in_the_card(tmp_path: Path, source: str) -> None:
    texts = ["Quiet.", "Loud!", "", "Very loud!"]
    documents = [Document(text, str(n), metadata={"source": source, "lang": "en"}) for n, text in enumerate(texts)]
    steps: list[Any] = [documents, Shouting(), Summary(str(tmp_path / "summary"))]
    LocalPipelineExecutor(steps, logging_dir=str(tmp_path / "logs/00_one_stage")).run()
    clusters = tmp_path / "work/clusters/clusters.json"
    clusters.parent.mkdir(parents=True)
    clusters.write_text('{"clusters": 0, "largest": 0, "removed": 0}')
    page = write_card(tmp_path, collect(tmp_path)).read_text("utf-8")
    assert "shouting" in page and "shouts" in page and source in page
    card = json.loads((tmp_path / "card.json").read_text("utf-8"))
    assert decisions(card) == {source: {"kept": 2, "shouting": 2}}
    more = {"parts": 0, "examples": []}
    assert card["outcomes"] == [
        {"filter": "Shouting", "source": source, "kind": "kept", "reason": "", "documents": 2, "bytes": 6} | more,
        {"filter": "Shouting", "source": source, "kind": "changed", "reason": "shouts", "documents": 2, "bytes": 2}
        | {"parts": 6, "examples": ["Loud!", "Very loud!"]},
        {"filter": "Shouting", "source": source, "kind": "dropped", "reason": "shouting", "documents": 2, "bytes": 15}
        | more,
    ]
    assert {(row["stage"], row["step"]) for row in card["seconds"]} == {
        ("one stage", "Shouting"),
        ("one stage", "Summary"),
    }
