"""Lines and paragraphs that repeat."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from datatrove.data import Document

from mindllm_jax.corpus.dedup.lines import CountLines, DropRepeats, FindRepeats, site_of
from mindllm_jax.corpus.settings import Repeats

LONG = "A paragraph that is long enough to be looked for in all of the documents. " * 4


def left(folder: Path, shards: Sequence[Sequence[str]], source: str = "a", **settings: Any) -> list[list[str]]:
    """By shard, what stays of texts of one source."""
    config = Repeats(**{"min_site_documents": 3, **settings})

    def documents(shard: Sequence[str]) -> list[Document]:
        return [Document(text, "", metadata={"source": source}) for text in shard]

    for rank, shard in enumerate(shards):
        CountLines(f"{folder}/counted", config).run(documents(shard), rank)
    for part in range(config.partitions):
        FindRepeats(f"{folder}/counted", f"{folder}/found", config).run(None, part)
    return [
        [document.text for document in DropRepeats(f"{folder}/found", config).run(documents(shard), rank)]
        for rank, shard in enumerate(shards)
    ]


def test_runs_of_boilerplate_go_and_short_single_lines_stay(tmp_path: Path) -> None:
    texts = [f"Home\n\nAbout us\nThe own text of {name}.\nHome\nMore of {name}." for name in "pqr"]
    assert left(tmp_path, [texts])[0] == [f"The own text of {name}.\nHome\nMore of {name}." for name in "pqr"]


def test_a_single_line_goes_if_it_is_long(tmp_path: Path) -> None:
    line = "Subscribe to our newsletter and never miss a post."
    texts = [f"{line}\nText of {name}.\nYes" for name in "pqr"]
    assert left(tmp_path, [texts])[0] == [f"Text of {name}.\nYes" for name in "pqr"]
    assert left(tmp_path / "2", [texts], min_lone_chars=len(line) + 1)[0] == texts


def test_numbers_in_boilerplate_do_not_count(tmp_path: Path) -> None:
    texts = [f"Page {n} of 30\nPrinted on 2020-01-{n:02d}\nText of {name}." for n, name in enumerate("pqr", 1)]
    assert left(tmp_path, [texts])[0] == [f"Text of {name}." for name in "pqr"]


def test_sites_are_counted_apart_and_by_share(tmp_path: Path) -> None:
    def page(site: str, name: str) -> Document:
        return Document("", "", metadata={"source": "web", "url": f"https://www.{site}:80/{name}"})

    assert site_of(page("Example.org", "x")) == "example.org"
    texts = [f"Home\nAbout\nText {name}." for name in "pqr"] + [f"Other text {name}." for name in "abcdefghijklmnopq"]
    assert left(tmp_path, [texts], min_site_share=0.15)[0][0] == "Text p."
    assert left(tmp_path / "2", [texts], min_site_share=0.16)[0] == texts


def test_a_paragraph_stays_in_the_first_document_only(tmp_path: Path) -> None:
    own = "Words that no other document has, so many that what is copied is not most of it. " * 6
    shards = [["First.", f"Second.\n{LONG}\nIts end."], [f"Third.\n{LONG}\n{own}", f"Fourth.\n{LONG}", LONG[:100]]]
    expected = [shards[0], [f"Third.\n{own}".strip(), LONG[:100]]]
    assert left(tmp_path, shards, min_site_documents=9) == expected, "of the fourth nothing would be left but a word"
    everything = left(tmp_path / "2", shards, min_site_documents=9, max_copied_share=1.0)
    assert everything == [shards[0], [expected[1][0], "Fourth.", LONG[:100]]]
    assert left(tmp_path / "3", shards, min_site_documents=9, min_paragraph_chars=0) == shards


def test_a_paragraph_twice_in_the_first_document_stays_there(tmp_path: Path) -> None:
    shards = [[f"{LONG}\nOnce more.\n  {LONG}", f"Another.\n{LONG}"]]
    assert left(tmp_path, shards, min_site_documents=9, max_copied_share=1.0) == [[shards[0][0], "Another."]]


def test_code_is_no_boilerplate(tmp_path: Path) -> None:
    """Lines of code are in many documents. A fence without its mark would make code of the prose behind it."""
    code = "```sql\nSELECT a\n\n\nFROM t;\n}\n```"
    texts = [f"Text of {name}.\n{code}\nHome\nAbout\n{code}\nMore of {name}." for name in "pqr"]
    assert left(tmp_path, [texts])[0] == [text.replace("Home\nAbout\n", "") for text in texts]
    long = f"```\n{LONG}\n```"
    assert left(tmp_path / "2", [[f"{name}\n{long}" for name in "pqr"]], min_paragraph_chars=100)[0] == [
        f"{name}\n{long}" for name in "pqr"
    ]


def test_headings_and_rules_are_no_boilerplate_by_themselves(tmp_path: Path) -> None:
    texts = [
        f"# Release 1.{n}\n\n## Summary\n----\nText of {name}.\n\nAbstract\n=====\nIt is {name}."
        for n, name in enumerate("pqr")
    ]
    assert left(tmp_path, [texts])[0] == texts
    end = "## Motivation\nBecause of"
    around = [f"{text}\n----\nHome\n}}\nAbout us\n}}\n{end} {name}." for text, name in zip(texts, "pqr", strict=True)]
    expected = [f"{text}\n{end} {name}." for text, name in zip(texts, "pqr", strict=True)]
    assert left(tmp_path / "2", [around])[0] == expected, "a rule between two lines of a menu goes with them"


def test_first_words_of_a_sentence_in_the_next_line_stay(tmp_path: Path) -> None:
    texts = [f"Home\nAbout\nThe\nfunction{name} () is new." for name in "pqr"]
    assert left(tmp_path, [texts])[0] == [f"The\nfunction{name} () is new." for name in "pqr"]
    small = [f"home\nabout\ncontact\nthe text of {name}" for name in "pqr"]
    assert left(tmp_path / "2", [small])[0] == [f"contact\nthe text of {name}" for name in "pqr"]


def test_sources_that_are_kept(tmp_path: Path) -> None:
    texts = [f"Refrain\nRefrain again\n{LONG}\nVerse {name}" for name in "pqr"]
    assert left(tmp_path, [texts], keep_sources=("a",))[0] == texts
    assert left(tmp_path / "2", [texts], keep_sources=("b",))[0] != texts


def test_the_number_of_partitions_does_not_matter(tmp_path: Path) -> None:
    shards = [[f"Home\nAbout\nText {name}.\n{LONG}" for name in half] for half in ("pq", "rst")]
    one, many = (
        left(tmp_path / str(parts), shards, partitions=parts, min_lone_chars=1000, max_copied_share=1.0)
        for parts in (1, 5)
    )
    assert one == many == [[f"Text p.\n{LONG}".strip(), "Text q."], ["Text r.", "Text s.", "Text t."]]


def test_invalid_settings_raise() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        Repeats(min_run_lines=1)
    with pytest.raises(ValueError, match="partitions"):
        Repeats(partitions=0)
