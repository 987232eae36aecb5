"""Exact copies: their definition, and the kept copy."""

from pathlib import Path

import pytest
from datatrove.data import Document
from datatrove.pipeline.dedup.exact_dedup import ExactDedupFilter, ExactDedupSignature, ExactFindDedups

from mindllm_jax.corpus.dedup.exact import exact_config


def left(folder: Path, shards: list[list[tuple[str, str]]], *sources: tuple[str, ...]) -> list[list[str]]:
    """By shard, what stays of texts with their sources."""
    config = exact_config(*sources)

    def documents(shard: list[tuple[str, str]]) -> list[Document]:
        return [Document(text, "", metadata={"source": source}) for text, source in shard]

    for rank, shard in enumerate(shards):
        ExactDedupSignature(f"{folder}/signatures", config=config).run(documents(shard), rank, len(shards))
    ExactFindDedups(f"{folder}/signatures", f"{folder}/found", config=config).run()
    drop = ExactDedupFilter(f"{folder}/found", config=config)
    return [
        [document.text for document in drop.run(documents(shard), rank, len(shards))]
        for rank, shard in enumerate(shards)
    ]


def test_blanks_do_not_count_and_the_first_stays(tmp_path: Path) -> None:
    shards = [[("one two", "a"), ("three", "a"), ("one  two\n", "a")], [("\tone\ntwo", "a"), ("onetwo", "a")]]
    assert left(tmp_path, shards) == [["one two", "three"], ["onetwo"]]


@pytest.mark.parametrize(("priorities", "shard"), [(("b", "a"), 1), (("a", "b"), 0), (("b",), 1)])
def test_the_wanted_source_stays(tmp_path: Path, priorities: tuple[str, ...], shard: int) -> None:
    kept = left(tmp_path, [[("same", "a")], [("same", "b")]], priorities)
    assert kept[shard] == ["same"] and kept[1 - shard] == []


@pytest.mark.parametrize(("priorities", "shard"), [((), 1), (("a",), 0), (("a", "poems"), 0)])
def test_a_copy_that_quality_would_keep_stays(tmp_path: Path, priorities: tuple[str, ...], shard: int) -> None:
    kept = left(tmp_path, [[("a poem", "a")], [("other", "b"), ("a poem", "poems")]], priorities, ("poems",))
    assert "a poem" in kept[shard] and "a poem" not in kept[1 - shard]
