"""Benchmark items in long documents, in any spelling."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindllm_jax.corpus.contamination.filter import Decontaminate, contamination
from mindllm_jax.corpus.contamination.index import WriteIndex, build_index, read_index
from mindllm_jax.corpus.outcomes import Outcome, recorded
from mindllm_jax.corpus.settings import Decontamination

ENGLISH = (
    "A train leaves the station at noon and travels at sixty miles an hour for three hours before it stops; how far has"
    " it gone by then?"
)
CHINESE = "根据我国宪法的规定，下列哪一项权利属于公民的基本权利，并且受到国家法律的特别保护？"
LINES = [f"第{n}行是和题目没有关系的正文，它讲的是另外一件事情，编号是{n * 37}。" for n in range(60)]
PROSE = [
    f"Line {n} of the text is about something else that has nothing to do with it, number {n * 37}." for n in range(60)
]


@pytest.fixture
def config(tmp_path: Path) -> Decontamination:
    folder = tmp_path / "raw"
    (folder / "exam").mkdir(parents=True)
    rows = [{"question": CHINESE, "A": "选举权", "B": "驾驶权"}, {"question": "太短"}]
    (folder / "exam/test.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    (folder / "trains.csv").write_text(f'question,answer\n"{ENGLISH}",180\n', "utf-8")
    return Decontamination(benchmarks=str(folder))


@pytest.fixture
def folder(config: Decontamination, tmp_path: Path) -> str:
    WriteIndex(str(tmp_path / "index"), config).run()
    return str(tmp_path / "index")


def with_item(lines: list[str], item: str) -> str:
    return "\n".join([*lines[:30], item, *lines[30:]])


@pytest.mark.parametrize(
    ("lines", "item", "name"),
    [
        (PROSE, ENGLISH, "trains"),
        (PROSE, ENGLISH.upper().replace(" ", "  ").replace(";", " --"), "trains"),
        (PROSE, "".join(chr(ord(x) + 0xFEE0) if "!" <= x <= "~" else x for x in ENGLISH), "trains"),
        (LINES, CHINESE, "exam"),
        (LINES, " ".join(CHINESE.replace("，", ",")), "exam"),
        (LINES, "根據我國憲法的規定下列哪一項權利屬於公民的基本權利並且受到國家法律的特別保護", "exam"),
        (LINES, f"12. {CHINESE} A. 选举权 B. 驾驶权", "exam"),
    ],
    ids=["English", "case and spaces", "width", "Chinese", "spaced", "traditional", "with letters"],
)
def test_an_item_is_found_and_its_line_cut(applied, folder, config, lines: list[str], item: str, name: str) -> None:
    step = Decontaminate(folder, config)
    reason, document = applied(step, with_item(lines, item))
    assert reason is None and document.metadata["benchmarks"] == [name]
    assert document.text == "\n".join(lines)
    size = len(with_item(lines, item).encode())
    assert Outcome("Decontaminate", "s", "benchmark item", name, 1, size) in recorded(step)


def test_an_item_over_lines(applied, folder, config) -> None:
    broken = ENGLISH.replace(" for", "\nfor")
    assert applied(Decontaminate(folder, config), with_item(PROSE, broken))[1].text == "\n".join(PROSE)


def test_dropped(applied, folder, config) -> None:
    drop = Decontamination(benchmarks=config.benchmarks, action="drop")
    assert applied(Decontaminate(folder, drop), with_item(LINES, CHINESE))[0] == "benchmark item"
    assert applied(Decontaminate(folder, config), CHINESE)[0] == "benchmark item"


@pytest.mark.parametrize("text", ["\n".join(LINES), " \n" + "\n".join(PROSE) + "\n\n", "", "😀", CHINESE[:12], "太短"])
def test_a_text_without_an_item_is_unchanged(applied, folder, config, text: str) -> None:
    reason, document = applied(Decontaminate(folder, config), text)
    assert (reason, document.text) == (None, text) and "benchmarks" not in document.metadata


def test_index_read_back_and_counts(config, folder) -> None:
    index, counts = build_index(config)
    again = read_index(folder)
    assert read_index(folder) is again, "a process reads it once"
    for one, other in zip(index, again, strict=True):
        assert np.array_equal(one, other) and getattr(one, "dtype", None) == getattr(other, "dtype", None)
    assert json.loads((Path(folder) / "benchmarks.json").read_text()) == counts
    assert counts == {
        "exam": {"items": 2, "passages": 1, "too short": 1},
        "trains": {"items": 2, "passages": 1, "too short": 1},
    }
    assert (np.diff(index.ngrams.astype(object)) > 0).all() and index.first[-1] == len(index.passages)


def test_n_may_be_the_same_for_words_and_characters(config: Decontamination, tmp_path: Path) -> None:
    config = replace(config, ngram_words=10, ngram_chars=10)
    WriteIndex(str(tmp_path / "index"), config).run()
    for item, name in ((ENGLISH, "trains"), (CHINESE, "exam")):
        names, _ = contamination(with_item(PROSE, item), read_index(str(tmp_path / "index")), config)
        assert names == [name]


def test_share_at_its_boundary(tmp_path: Path) -> None:
    """Of 20 words there are 8 13-grams; a text with the first 16 words has 4 of them."""
    words = [f"word{n}" for n in range(20)]
    (tmp_path / "x.txt").write_text(" ".join(words))
    for held, share, found in [(16, 0.5, True), (15, 0.5, False), (16, 0.51, False), (20, 1.0, True), (19, 1.0, False)]:
        config = Decontamination(benchmarks=str(tmp_path), min_ngram_share=share)
        text = "before it " + " ".join(words[:held]) + " and after"
        assert bool(contamination(text, build_index(config)[0], config)[0]) == found, (held, share)


@pytest.mark.parametrize(
    ("text", "passages"),
    [
        ("1 0 " * 20, 0),
        ("ha " * 30, 0),
        ("row " * 12 + "your boat", 0),
        (" ".join(map(str, range(40))), 0),
        ("的" * 40, 0),
        ("Table " + " ".join(map(str, range(20))), 0),
        ("la " * 30 + ENGLISH, 1),
        (CHINESE, 1),
    ],
)
def test_ngrams_of_few_different_tokens_are_not_indexed(tmp_path: Path, text: str, passages: int) -> None:
    (tmp_path / "x.txt").write_text(text, "utf-8")
    config = Decontamination(benchmarks=str(tmp_path))
    index, counts = build_index(config)
    assert counts["x"]["passages"] == passages and counts["x"]["too short"] == 1 - passages
    around = "This is the line before the item.\n{}\nThis is the line after it."
    assert contamination(around.format(text), index, config)[0] == ["x"] * passages
    assert contamination(around.format("|la|" * 30 + "ha " * 30 + "的" * 40), index, config)[0] == []


def test_items_with_a_repeated_text_are_indexed_as_one(tmp_path: Path) -> None:
    """The question is too short for an n-gram and the input has none that counts: together they have."""
    row = {"input": "1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "question": "In this list of bits, how many are set, my friend?"}
    (tmp_path / "x.jsonl").write_text(json.dumps(row), "utf-8")
    config = Decontamination(benchmarks=str(tmp_path))
    index, counts = build_index(config)
    assert counts["x"]["passages"] == 1
    assert contamination("|" + "1|" * 40, index, config)[0] == []
    assert contamination("\n".join(row.values()), index, config)[0] == ["x"]


def test_all_too_short(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("too short")
    config = Decontamination(benchmarks=str(tmp_path))
    index, counts = build_index(config)
    assert counts["x"] == {"items": 1, "passages": 0, "too short": 1}
    assert contamination(ENGLISH, index, config) == ([], set())


def test_invalid_settings_raise() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        Decontamination(ngram_words=1)
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"above 0 and at most 1, not"):
            Decontamination(min_ngram_share=share)
    with pytest.raises(ValueError, match="must be 'cut' or 'drop', not 'mark'"):
        Decontamination(action="mark")  # pyright: ignore[reportArgumentType]
