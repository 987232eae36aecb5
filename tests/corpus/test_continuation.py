"""The continuation task: right answers are right, wrong ones are wrong, and nothing but the text tells them apart."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm_jax.corpus.continuation import items

PARAGRAPHS = [
    f"这是第{n}条规定的前一半内容，一共有{n}个不同的字，其后一半说的是第{n}种情形以及它应当怎样处理。"
    for n in range(40)
]


def test_an_item_is_its_paragraph_and_three_others():
    rows = list(items("laws/甲", "zh", PARAGRAPHS))
    assert len(rows) == len({row["id"] for row in rows}) == len(PARAGRAPHS)
    tails = {row["choices"][row["answer"]] for row in rows}
    for row in rows:
        right = row["choices"][row["answer"]]
        assert row["context"] + right == PARAGRAPHS[int(row["id"].removeprefix("laws/甲#"))]
        assert len(set(row["choices"])) == 4
        assert set(row["choices"]) <= tails
        assert all(1 / 1.4 <= len(choice) / len(right) <= 1.4 for choice in row["choices"])
    assert max(Counter(row["answer"] for row in rows).values()) < 20


def test_it_is_a_function_of_seed_and_document():
    assert list(items("a", "zh", PARAGRAPHS, seed=1)) == list(items("a", "zh", iter(PARAGRAPHS), seed=1))
    assert list(items("a", "zh", PARAGRAPHS, seed=1)) != list(items("a", "zh", PARAGRAPHS, seed=2))


def test_a_continuation_of_two_beginnings_is_not_used():
    shared = "其后一半在两个段落里是一样的，所以不能说哪一个是错的。"
    twice = [f"这一个段落的前一半和其他的段落不相同，这里是第{n}个，" + shared for n in "一二"]
    for row in items("a", "zh", PARAGRAPHS + twice):
        assert not any(choice.endswith(shared) for choice in row["choices"])


def test_english_is_cut_between_sentences():
    pair = (
        "The first sentence of paragraph {n} goes on for quite a while."
        " The second of paragraph {n} ends it, and takes its time to do so."
    )
    text = [pair.format(n=n) for n in range(9)]
    rows = list(items("a", "en", text))
    assert len(rows) == 9
    assert all(row["context"].endswith("while.") and row["choices"][0].startswith(" The second") for row in rows)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(alphabet="甲乙丙丁，。", max_size=120)), st.sampled_from(["zh", "en"]))
def test_whatever_the_paragraphs(paragraphs, lang):
    for row in items("a", lang, paragraphs):
        assert row["context"] + row["choices"][row["answer"]] in paragraphs
        assert len(set(row["choices"])) == 4
