"""Ids and languages of sources over all shards."""

from pathlib import Path

import pytest
from datatrove.data import Document

from mindllm_jax.corpus.filters.base import rules_source
from mindllm_jax.corpus.outcomes import recorded
from mindllm_jax.corpus.reading.names import ApplyNames, CollectNames, ResolveNames

FILES = ["a.jsonl", "b.jsonl", "c.jsonl"]


def resolved(folder: Path, shards: list[list[tuple[str, str, str]]]) -> list[list[Document]]:
    """Returns the documents of shards of (source, lang, id) after the three steps."""
    collected = []
    for rank, rows in enumerate(shards):
        documents = [Document("x", id, metadata={"source": source, "lang": lang}) for source, lang, id in rows]
        collected.append(list(CollectNames(str(folder)).run(iter(documents), rank, len(shards))))
    ResolveNames(str(folder), FILES[: len(shards)]).run()
    step = ApplyNames(str(folder), FILES)
    return [list(step.run(documents, rank, len(shards))) for rank, documents in enumerate(collected)]


def test_ids_that_restart_per_file(tmp_path: Path) -> None:
    shards = resolved(
        tmp_path, [[("web", "zh", "0"), ("web", "zh", "1")]] * 2 + [[("web", "zh", "1"), ("x", "zh", "1")]]
    )
    assert [[d.id for d in documents] for documents in shards] == [
        ["0", "1"], ["0@b.jsonl", "1@b.jsonl"], ["1@c.jsonl", "1"],
    ]  # fmt: skip


def test_ids_that_repeat_in_a_file(tmp_path: Path) -> None:
    step = CollectNames(str(tmp_path))
    documents = [Document("x", id, metadata={"source": "s", "lang": "zh"}) for id in ("a", "a", "a#2", "a")]
    assert [d.id for d in step.run(iter(documents))] == ["a", "a#1", "a#2", "a#3"]
    assert [(o.kind, o.reason, o.documents) for o in recorded(step)] == [("changed", "id made unique", 2)]


def test_the_smaller_language_of_a_source_moves_out(tmp_path: Path) -> None:
    zh, en = ("crawl", "zh"), ("crawl", "en")
    first, second = resolved(tmp_path, [[(*en, "1")], [(*zh, "2"), (*zh, "3"), (*en, "4"), ("other", "en", "5")]])
    moved = [(d.id, d.metadata["source"], rules_source(d)) for d in first + second]
    assert moved == [
        ("1", "stray_en_crawl", "crawl"), ("2", "crawl", "crawl"), ("3", "crawl", "crawl"),
        ("4", "stray_en_crawl", "crawl"), ("5", "other", "other"),
    ]  # fmt: skip


def test_names_that_differ_by_case_are_reported(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"'News' \(in a\.jsonl\) and 'news' \(in b\.jsonl\) differ by upper and lower"
    ):
        resolved(tmp_path, [[("News", "zh", "1")], [("news", "zh", "2")]])


def test_a_shard_without_documents(tmp_path: Path) -> None:
    assert resolved(tmp_path, [[], [("s", "zh", "1")]])[0] == []
