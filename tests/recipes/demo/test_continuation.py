"""The continuation task: right answers are right, wrong ones are wrong, and nothing but the text tells them apart."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm_jax.recipes.demo.continuation import items

PARAGRAPHS = [
    f"这是第{n}条规定的前一半内容，一共有{n}个不同的字，其后一半说的是第{n}种情形以及它应当怎样处理。"
    for n in range(40)
]


def test_an_item_is_its_paragraph_and_three_others():
    rows = list(items("laws/甲", "zh", PARAGRAPHS))
    assert 20 < len(rows) == len({row["id"] for row in rows})
    for row in rows:
        right = row["choices"][row["answer"]]
        assert row["context"] + right == PARAGRAPHS[int(row["id"].removeprefix("laws/甲#"))]
        assert len(set(row["choices"])) == 4
        assert all(any(text.endswith(choice) for text in PARAGRAPHS) for choice in row["choices"])
        assert all(1 / 1.5 <= len(choice) / len(right) <= 1.5 for choice in row["choices"])


def test_neither_place_nor_length_tells_the_answer():
    text = [f"{n}" * (40 + n % 150) for n in range(1000, 3000)]
    rows = list(items("a", "zh", text))
    ranks = Counter(sorted(row["choices"], key=len).index(row["choices"][row["answer"]]) for row in rows)
    for counts in (ranks, Counter(row["answer"] for row in rows)):
        assert all(count == pytest.approx(len(rows) / 4, rel=0.2) for count in counts.values()) and len(counts) == 4


def test_it_is_a_function_of_seed_and_document():
    assert list(items("a", "zh", PARAGRAPHS, seed=1)) == list(items("a", "zh", iter(PARAGRAPHS), seed=1))
    assert list(items("a", "zh", PARAGRAPHS, seed=1)) != list(items("a", "zh", PARAGRAPHS, seed=2))


def test_a_continuation_of_two_beginnings_is_not_used():
    shared = "其后一半在两个段落里是一样的，所以不能说哪一个是错的。"
    twice = [f"这一个段落的前一半和其他的段落不相同，这里是第{n}个，" + shared for n in "一二"]
    for row in items("a", "zh", PARAGRAPHS + twice):
        assert not any(choice.endswith(shared) for choice in row["choices"])


def test_english_is_cut_between_words():
    text = [f"Paragraph {n} goes on for quite a while, and its second half takes its time. " * 3 for n in range(99)]
    rows = list(items("a", "en", text))
    assert rows and all(choice.startswith(" ") for row in rows for choice in row["choices"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(alphabet="甲乙丙丁，。", max_size=120)), st.sampled_from(["zh", "en"]))
def test_whatever_the_paragraphs(paragraphs, lang):
    for row in items("a", lang, paragraphs):
        assert row["context"] + row["choices"][row["answer"]] in paragraphs
        assert len(set(row["choices"])) == 4
