"""The parts of the data card about changes inside documents, unreadable input and the command."""

from typing import Any

from mindllm_jax.corpus.report.card_changes import changes, made, unreadable
from mindllm_jax.reporting.page import Paragraph, Sample
from mindllm_jax.reporting.tables import Table


def outcome(source: str, kind: str, reason: str, **values: Any) -> dict[str, Any]:
    return {
        "filter": "Drop repeats",
        "source": source,
        "kind": kind,
        "reason": reason,
        "documents": 2,
        "bytes": 500,
    } | {
        "parts": 3,
        "examples": [],
        **values,
    }


def test_changes_by_source_and_rule_with_examples() -> None:
    parts = changes(
        [
            outcome("news", "changed", "repeated lines, foot", examples=["Share\nPrint", "All rights"]),
            outcome("blogs", "changed", "repeated lines, foot", examples=["Subscribe"]),
            outcome("news", "damaged", "heading"),
            outcome("news", "kept", ""),
        ]
    )
    tables = [part for part in parts if isinstance(part, Table)]
    assert tables[0].rows == [["Drop repeats", "repeated lines, foot", 4, 6, 1.0, "news 2, blogs 2"]]
    assert tables[1].rows == [["news", "heading", 2]]
    assert [row[0] for row in tables[2].rows] == ["blogs", "news"]
    assert [part.text for part in parts if isinstance(part, Sample)] == ["Share\nPrint", "Subscribe", "All rights"]


def test_without_damage_the_card_says_so() -> None:
    texts = [part.text for part in changes([outcome("a", "changed", "x")]) if isinstance(part, Paragraph)]
    assert any("No removal" in text for text in texts)
    assert changes([]) and not unreadable([])


def test_unreadable_input() -> None:
    (table,) = unreadable([outcome("a", "unreadable", "not JSON"), outcome("b", "unreadable", "not JSON")])
    assert table.rows == [["Drop repeats", "not JSON", 4, 0.001, "a 2, b 2"]]


def test_how_it_was_made() -> None:
    record = {"date": "2026-01-02", "command": "clean_corpus.py --x", "commit": "abc", "versions": {"numpy": "2.0"}}
    command, inputs, _ = made({"made": record, "settings": {"lang": "en", "files": [["a.jsonl", 2_000_000]]}})
    assert isinstance(command, Table) and ["command", "clean_corpus.py --x"] in command.rows
    assert isinstance(inputs, Table) and inputs.rows == [["a.jsonl", 2.0]]
