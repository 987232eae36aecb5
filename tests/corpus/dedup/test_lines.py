"""Lines and paragraphs that repeat."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from datatrove.data import Document

from mindllm_jax.corpus.dedup.boilerplate import split_lines
from mindllm_jax.corpus.dedup.lines import CountLines, DropRepeats, FindRepeats, line_hashes, site_of
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


@pytest.mark.parametrize("numbers", [("7", "10", "1205"), ("７", "１０", "12０5"), ("7年", "10年", "123年")])
def test_a_number_of_any_length_and_script_is_a_number(numbers: Sequence[str]) -> None:
    texts = [f"Page {number} of 200" for number in (*numbers, "x")]
    one, two, three, words = (line_hashes("site", text, split_lines(text)) for text in texts)
    assert one == two == three != words


def test_sites_are_counted_apart_and_by_share(tmp_path: Path) -> None:
    def page(site: str, name: str) -> Document:
        return Document("", "", metadata={"source": "web", "url": f"https://www.{site}:80/{name}"})

    assert site_of(page("Example.org", "x")) == "example.org"
    texts = [f"Home\nAbout\nText {name}." for name in "pqr"] + [f"Other text {name}." for name in "abcdefghijklmnopq"]
    assert left(tmp_path, [texts], min_site_share=0.15)[0][0] == "Text p."
    assert left(tmp_path / "2", [texts], min_site_share=0.16)[0] == texts


def test_a_document_of_copied_paragraphs_goes_and_a_quotation_stays(tmp_path: Path) -> None:
    own = "Words that no other document has, so many that what is copied is not most of it. " * 6
    shards = [["First.", f"Second.\n{LONG}\nIts end."], [f"Third.\n{LONG}\n{own}", f"Fourth.\n{LONG}", LONG[:100]]]
    expected = [shards[0], [f"Third.\n{LONG}\n{own}", LONG[:100]]]
    assert left(tmp_path, shards, min_site_documents=9) == expected, "the fourth is a copy but for a word"
    assert left(tmp_path / "2", shards, min_site_documents=9, max_copied_share=1.0) == shards
    assert left(tmp_path / "3", shards, min_site_documents=9, min_paragraph_chars=0) == shards


def test_the_copy_of_the_first_source_in_the_priorities_stays(tmp_path: Path) -> None:
    config = Repeats(min_site_documents=9)
    copies = [Document(f"{name}.\n{LONG}", "", metadata={"source": name}) for name in ("page", "book")]
    CountLines(f"{tmp_path}/counted", config, ("book",)).run(copies, 0)
    for part in range(config.partitions):
        FindRepeats(f"{tmp_path}/counted", f"{tmp_path}/found", config).run(None, part)
    kept = DropRepeats(f"{tmp_path}/found", config).run(copies, 0)
    assert [document.metadata["source"] for document in kept] == ["book"]


def test_a_paragraph_twice_in_the_first_document_stays_there(tmp_path: Path) -> None:
    shards = [[f"{LONG}\nOnce more.\n  {LONG}", f"Another.\n{LONG}"]]
    assert left(tmp_path, shards, min_site_documents=9) == [[shards[0][0]]]


def test_code_is_no_boilerplate(tmp_path: Path) -> None:
    """Lines of code are in many documents. A fence without its mark would make code of the prose behind it."""
    fenced = "```sql\nSELECT a\n\n\nFROM t;\n}\n```"
    plain = (
        "int main(void)\n{\n    run();\n    exit(EXIT_SUCCESS);\n}",
        "Sub Main\nDim lamp As Object\nlamp.Open()\nEnd Sub",
        "def main():\n    run()\n\nif __name__ == '__main__':\n    main()",
        "$ make\n$ make install",
    )
    for number, code in enumerate((fenced, *plain)):
        texts = [f"Text of {name}.\n\n{code}\n\nMore of {name}.\n\n{code}" for name in "pqr"]
        assert left(tmp_path / str(number), [texts])[0] == texts
    frame = [f"Text of {name}.\n{fenced}\n\nHome\nAbout\n\n{fenced}\nMore of {name}." for name in "pqr"]
    assert left(tmp_path / "frame", [frame])[0] == [text.replace("Home\nAbout\n\n", "") for text in frame]


@pytest.mark.parametrize("heading", ["## Specification", "SYNOPSIS", "规范\n====", "== Usage", "RETURN VALUE"])
def test_headings_stay_above_their_text(tmp_path: Path, heading: str) -> None:
    texts = [f"{name} is the name.\n\n{heading}\n\nText of {name}.\n\nERRORS\n\nIt fails for {name}." for name in "pqr"]
    assert left(tmp_path, [texts])[0] == texts
    same = [f"{name}.\n\n{heading}\n\nOn success it gives 0.\nOr 1.\n\nNOTES\n\nOf {name}." for name in "pqr"]
    assert left(tmp_path / "2", [same])[0] == same, "the text under a heading is not taken from it"
    menu = [f"# {name}\n\nHome\nAbout us\n\n{heading}\n\nText of {name}." for name in "pqr"]
    assert left(tmp_path / "3", [menu])[0] == [text.replace("Home\nAbout us\n\n", "") for text in menu]


def test_the_same_section_at_the_foot_goes_with_its_heading(tmp_path: Path) -> None:
    foot = "## Copyright\n\nCopyright and related rights are waived.\n----\nBack to the top"
    texts = [f"# {name}\n\nText of {name}.\n\n{foot}" for name in "pqr"]
    assert left(tmp_path, [texts])[0] == [f"# {name}\n\nText of {name}." for name in "pqr"]
    labelled = [f"Text of {name}.\n\n作者：{name}\n选题：小王\n校对：小李" for name in "pqr"]
    assert left(tmp_path / "2", [labelled])[0] == [f"Text of {name}.\n\n作者：{name}" for name in "pqr"]


@pytest.mark.parametrize(
    "end",
    [
        "On failure, it gives -1, and\nerrno\nis set to tell the cause.",
        "For more about them see\nthe manual of the system.\nIt is long.",
    ],
)
def test_the_end_of_a_sentence_stays(tmp_path: Path, end: str) -> None:
    texts = [f"The call {name} needs a lamp.\n{name}: {end}\n\nA lamp {name} is lit." for name in "pqr"]
    assert left(tmp_path, [texts])[0] == texts
    at_the_foot = [f"The call {name} needs a lamp.\n{name}: {end}" for name in "pqr"]
    kept = left(tmp_path / "2", [at_the_foot])[0]
    assert all(
        text.startswith(before.removesuffix("\nIt is long.")) for text, before in zip(kept, at_the_foot, strict=True)
    )


def test_a_line_with_other_neighbours_is_no_boilerplate(tmp_path: Path) -> None:
    line = "The following options are those of every program of this family."
    texts = [f"Text of {name}.\n\n{line}\n\nMore of {name}." for name in "pqr"]
    assert left(tmp_path, [texts])[0] == texts


def test_first_words_of_a_sentence_in_the_next_line_stay(tmp_path: Path) -> None:
    texts = [f"Home\nAbout\nThe\nfunction{name} () is new." for name in "pqr"]
    assert left(tmp_path, [texts])[0] == [f"The\nfunction{name} () is new." for name in "pqr"]
    small = [f"home\nabout\ncontact\nthe text of {name}" for name in "pqr"]
    assert left(tmp_path / "2", [small])[0] == [f"contact\nthe text of {name}" for name in "pqr"]


def test_sources_that_are_kept(tmp_path: Path) -> None:
    texts = [f"Refrain\nRefrain again\n{LONG}\nVerse {name}" for name in "pqr"]
    assert left(tmp_path, [texts], keep_sources=("a",))[0] == texts
    assert left(tmp_path / "2", [texts], keep_sources=("b",))[0] != texts


def test_kept_sources_among_others(tmp_path: Path) -> None:
    """Each document is judged by its own lines, whatever stands before it in the shard."""
    config = Repeats(min_site_documents=3, keep_sources=("kept",))

    def documents() -> list[Document]:
        texts = {"p": "a", "K": "kept", "q": "a", "L": "kept", "r": "a"}
        return [Document(f"Home\nAbout us\nText {n}.", "", metadata={"source": s}) for n, s in texts.items()]

    CountLines(f"{tmp_path}/counted", config).run(documents())
    for part in range(config.partitions):
        FindRepeats(f"{tmp_path}/counted", f"{tmp_path}/found", config).run(None, part)
    rest = list(DropRepeats(f"{tmp_path}/found", config).run(documents()))
    assert [len(x.text.splitlines()) for x in rest] == [1, 3, 1, 3, 1]


def test_the_number_of_partitions_does_not_matter(tmp_path: Path) -> None:
    shards = [[f"Home\nAbout\nText {name}.\n{LONG}" for name in half] for half in ("pq", "rst")]
    one, many = (left(tmp_path / str(parts), shards, partitions=parts, min_lone_chars=1000) for parts in (1, 5))
    assert one == many == [[f"Text p.\n{LONG}".strip()], []]


def test_invalid_settings_raise() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        Repeats(min_run_lines=1)
    with pytest.raises(ValueError, match="partitions"):
        Repeats(partitions=0)
