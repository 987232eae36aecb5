"""The selection among near-duplicates."""

import json
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import MinhashDedupBuckets

from mindllm_jax.corpus.dedup.cluster import Cluster
from mindllm_jax.corpus.dedup.minhash import Signatures, stock_config
from mindllm_jax.corpus.settings import MinHash

WORDS = [f"w{number}" for number in range(1000)]


def removed(
    folder: Path, shards: list[list[tuple[str, str]]], config: MinHash, priorities: tuple[str, ...] = ()
) -> set[tuple[int, int]]:
    """Shard and number of the texts that go, of texts with their sources."""
    for rank, shard in enumerate(shards):
        documents = (Document(text, "", metadata={"source": source}) for text, source in shard)
        Signatures(f"{folder}/signatures", config, priorities).run(documents, rank)
    for rank in range(config.buckets):
        buckets = MinhashDedupBuckets(f"{folder}/signatures", f"{folder}/pairs", config=stock_config(config))
        buckets.run(None, rank, config.buckets)
    Cluster(f"{folder}/pairs", f"{folder}/signatures", f"{folder}/removed", config).run()
    return {
        (int(file.stem), int(number))
        for file in (folder / "removed").glob("*.remove")
        for number in np.fromfile(file, "<u4")
    }


def text(first: int, last: int) -> str:
    return " ".join(WORDS[first:last])


def test_the_best_copy_stays(tmp_path: Path) -> None:
    """By the source's priority, then the length, then the place; what is like nothing else stays."""
    shards = [
        [(text(0, 100), "a"), (text(500, 600), "a"), (text(0, 110), "a")],
        [(text(0, 98), "b"), (text(200, 300), "b"), (text(0, 110), "c")],
    ]
    config = MinHash()
    assert removed(tmp_path / "1", shards, config) == {(0, 0), (1, 0), (1, 2)}
    assert removed(tmp_path / "2", shards, config, ("b", "a")) == {(0, 0), (0, 2), (1, 2)}
    counts = json.loads((tmp_path / "1/removed/clusters.json").read_text("utf-8"))
    assert (counts["clusters"], counts["largest"], counts["removed"]) == (1, 4, 3)


def test_the_clean_copy_stays(tmp_path: Path) -> None:
    """A site's frame makes a copy longer, and a second half makes it a better version."""
    article = f"{text(0, 60)}.\n{text(60, 120)}."
    framed = "Home\nAbout us\nShare\nPrint\n" + article + "\nNext\nPrevious\nAll posts"
    assert removed(tmp_path / "1", [[(framed, "a"), (article, "a")]], MinHash()) == {(0, 0)}
    longer = f"Home\nShare\n{article}\n{text(120, 160)}."
    assert removed(tmp_path / "2", [[(article, "a"), (longer, "a")]], MinHash()) == {(0, 0)}
    assert removed(tmp_path / "3", [[(article, "b"), (framed, "a")]], MinHash(), ("a",)) == {(0, 0)}


def test_pages_of_one_form_stay(tmp_path: Path) -> None:
    form = "{0}. " + text(0, 60) + " the {0} " + text(60, 90) + " a {0}, " + text(90, 120) + " {0} and {0}."
    pages = [(form.format(name), "a") for name in ("lamp", "kettle", "door", "clock")]
    assert removed(tmp_path / "1", [pages], MinHash()) == set()
    assert len(removed(tmp_path / "2", [pages], MinHash(compare_facts=False))) == 3


def test_of_a_chain_every_stretch_keeps_one(tmp_path: Path) -> None:
    """Neighbours have three quarters of their words in common, a text and the fourth after it nothing."""
    texts = [text(25 * number, 25 * number + 100) for number in range(12)]
    gone = {number for _, number in removed(tmp_path, [[(x, "a") for x in texts]], MinHash(min_similarity=0.5))}
    assert 4 <= len(gone) <= 8 and 0 not in gone
    assert all({number - 1, number + 1} - gone for number in gone)


def test_pairs_with_others_between_them_are_found(tmp_path: Path) -> None:
    """All texts meet in a bucket of one hash of one word; only the first and the last are alike."""
    texts = ["w0 " * 3 + text(100 * number, 100 * number + 3) for number in range(1, 6)]
    texts.append(texts[0])
    config = MinHash(ngram_words=1, buckets=40, hashes_per_bucket=1, min_similarity=0.9)
    assert removed(tmp_path, [[(x, "a") for x in texts]], config) == {(0, 5)}


def test_no_pairs(tmp_path: Path) -> None:
    assert removed(tmp_path / "1", [[], []], MinHash()) == set()
    assert removed(tmp_path / "2", [[("", "a"), ("…", "a"), ("", "a")]], MinHash()) == set()


def test_of_many_copies_one_stays(tmp_path: Path) -> None:
    """Each has five words of its own, and a bucket pairs it with few of the others."""
    draw = np.random.default_rng(0)
    copies: list[tuple[str, str]] = []
    for _ in range(400):
        words = WORDS[:100]
        for place in draw.integers(0, 100, 5):
            words[place] = f"x{draw.integers(1000)}"
        copies.append((" ".join(words), "a"))
    assert len(removed(tmp_path, [copies], MinHash(compare_facts=False))) == 399
