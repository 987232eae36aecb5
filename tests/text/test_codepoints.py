"""Tables of code points: equivalent characters and separators of words."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.text.codepoints import (
    HAN,
    SEPARATOR,
    WORD,
    canonical,
    classes,
    codepoints,
    han,
    simplified,
    text_of,
    traditional,
)


@given(st.text())
def test_text_survives(text: str) -> None:
    assert text_of(codepoints(text)) == text
    assert len(codepoints(text)) == len(text)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        codepoints("a\ud800")


@pytest.mark.parametrize(
    ("written", "compared"),
    [("A", "a"), ("Ａ", "a"), ("１", "1"), ("é", "é"), ("É", "é"), ("漢", "汉"), ("汉", "汉"), ("ß", "s"), ("ﬁ", "f")],
)
def test_one_character_stands_for_its_variants(written: str, compared: str) -> None:
    assert chr(canonical()[ord(written)]) == compared


@pytest.mark.parametrize("variants", ["著着", "衞衛卫", "綫線线", "説說说", "裡裏里", "麼麽么", "薴苧苎"])
def test_variants_of_all_regions_are_compared_as_one(variants: str) -> None:
    assert len(set(canonical()[codepoints(variants)].tolist())) == 1


@pytest.mark.parametrize("character", [*" \t\n,.!。，、“”（）-_@#%^&*+=|\\/<>​　", "😀", "\U0010fffd", "\U000e0041"])
def test_separators_are_zero(character: str) -> None:
    assert canonical()[ord(character)] == 0


@given(st.characters(categories=("L", "Nd")))
def test_comparing_twice_is_comparing_once(character: str) -> None:
    once = canonical()[ord(character)]
    assert canonical()[once] == once
    assert once == 0 or chr(once).isalnum()


def test_classes() -> None:
    assert [classes()[ord(x)] for x in "汉a1é"] == [HAN, WORD, WORD, WORD]
    assert classes()[0] == SEPARATOR
    assert classes()[ord("〇")] == HAN and classes()[0x20000] == HAN


def test_han_is_what_unicode_names_so() -> None:
    ideographs = ("CJK UNIFIED IDEOGRAPH", "CJK COMPATIBILITY IDEOGRAPH")
    for point in range(0x2E80, 0x10000):
        assert han()[point] or not unicodedata.name(chr(point), "").startswith(ideographs)


def test_scripts() -> None:
    pairs = [("漢", "汉"), ("國", "国"), ("學", "学"), ("體", "体")]
    assert all(chr(simplified()[ord(a)]) == b and chr(traditional()[ord(b)]) == a for a, b in pairs)
    assert all(simplified()[ord(x)] == traditional()[ord(x)] == ord(x) for x in "人山a1。著")
