"""Boundaries of sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.text.sentences import sentences


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
