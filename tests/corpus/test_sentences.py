"""Where sentences end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.corpus.sentences import halves, sentences


@pytest.mark.parametrize(
    ("lang", "pieces"),
    [
        ("zh", ["他说：“走吧！”", "众人（都在场。）", "散去？！", "第二天"]),
        (
            "en",
            [
                "J. S. Bach met Dr. Smith in St. Louis, U.S. law aside.",
                ' He said "no."',
                " It cost 3.5 dollars!",
                " (Yes.)",
            ],
        ),
        ("en", ["One sentence etc. and so on"]),
    ],
)
def test_sentences(lang, pieces):
    assert sentences("".join(pieces), lang) == pieces


@given(st.text(alphabet='甲乙，。！？”A b.!?"( 1\n'), st.sampled_from(["zh", "en"]))
def test_nothing_is_lost_or_empty(text, lang):
    pieces = sentences(text, lang)
    assert "".join(pieces) == text
    assert all(pieces)
    assert "".join(halves(text, lang)) == text


def test_halves_are_cut_nearest_to_the_middle():
    assert halves("一二三，四五六七，八。", "zh") == ("一二三，", "四五六七，八。")
    assert halves("Short one. A second sentence that is longer.", "en") == (
        "Short one.",
        " A second sentence that is longer.",
    )
    assert halves("Only one, with a comma.", "en") == ("", "Only one, with a comma.")
