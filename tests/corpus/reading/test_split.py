"""Long texts in parts."""

import pytest
from datatrove.data import Document
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.corpus.reading.split import Split, split
from mindllm_jax.text.documents import held_out


def test_parts_end_at_paragraphs_and_are_of_about_one_length() -> None:
    paragraphs = [f"第{n}段，" + "河水从桥下流过。" * (n % 7 + 5) for n in range(300)]
    parts = split("\n\n".join(paragraphs), 2000)
    assert [paragraph for part in parts for paragraph in part.split("\n\n")] == paragraphs
    assert all(1000 < len(part) <= 2000 for part in parts)


def test_without_paragraphs_parts_end_at_lines_then_at_sentences() -> None:
    lines = ["a line of words " * 5 for _ in range(100)]
    assert "\n".join(split("\n".join(lines), 1000)) == "\n".join(lines)
    sentences = split("The river runs under the bridge. " * 200, 1000)
    assert all(part.strip().endswith(".") for part in sentences)
    assert [len(part) for part in split("x" * 2500, 1000)] == [938, 878, 684]


def test_code_in_fences_stays_in_one_part() -> None:
    text = "\n\n".join(["words of prose " * 20] * 9 + ["```\n" + "a = 1\n\n" * 40 + "```"] + ["more words " * 20] * 9)
    assert all(part.count("```") % 2 == 0 for part in split(text, 1500))


@given(st.text(st.sampled_from("ab。.\n `"), max_size=400), st.integers(8, 50))
def test_no_character_goes(text: str, max_chars: int) -> None:
    parts = split(text, max_chars)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(len(part) <= max_chars for part in parts)


@pytest.mark.parametrize("length", [100, 1001])
def test_documents(length: int) -> None:
    document = Document("x" * length, "book", metadata={"source": "s"})
    parts = list(Split(1000)(iter([document])))
    assert [part.id for part in parts] == (["book"] if length == 100 else ["book/part1", "book/part2"])
    assert all(part.metadata == {"source": "s"} for part in parts)


def test_a_book_is_held_out_whole() -> None:
    texts = "x" * 20_000
    sides = []
    for number in range(100):
        parts = Split(1000)(iter([Document(texts, f"book {number}", metadata={"source": "s"})]))
        sides.append({held_out(part.id, 0.3) for part in parts})
    assert {True} in sides and {False} in sides and all(len(side) == 1 for side in sides)
