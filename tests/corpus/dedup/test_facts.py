"""Facts of documents: names, titles and numbers that tell a copy from another page of the same form."""

import numpy as np
import pytest

from mindllm_jax.corpus.dedup.batches import batch_of
from mindllm_jax.corpus.dedup.facts import NAMES, differ, facts

FORM = {
    "en": "{0}\n\nThe call {0} opens the {1} of the house, and no other call does. A {1} that is open stays open until"
    " somebody shuts it. Each {1} has a number, which {0} takes."
    " It fails if the {1} is missing, and then {0} says so.",
    "zh": "{0}函数\n\n函数{0}返回{1}的数值，其他函数都不返回{1}。"
    "如果没有{1}，{0}就报告错误。{0}由其他函数调用，{1}由用户给出。",
}


def differs(one: str, other: str) -> bool:
    rows = facts(batch_of([one, other]), [one, other])
    assert differ(rows[0], rows[1]) == differ(rows[1], rows[0])
    return differ(rows[0], rows[1])


@pytest.mark.parametrize(
    ("lang", "one", "other"),
    [
        ("en", ("lamp_on", "lamp"), ("door_on", "door")),
        ("en", ("strlen", "string"), ("wcslen", "character")),
        ("zh", ("正弦", "角度"), ("对数", "底数")),
        ("zh", ("CSng", "小数"), ("CDbl", "倍数")),
    ],
)
def test_pages_of_one_form_differ(lang: str, one: tuple[str, str], other: tuple[str, str]) -> None:
    assert differs(FORM[lang].format(*one), FORM[lang].format(*other))


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_edited_copies_do_not_differ(lang: str) -> None:
    words = ("lamp_on", "lamp") if lang == "en" else ("正弦", "角度")
    text = " ".join(FORM[lang].format(*words) for _ in range(3))
    random = np.random.default_rng(0)
    for _ in range(20):
        letters = list(text)
        for place in random.choice(len(letters), len(letters) // 12, replace=False):
            letters[place] = chr(random.integers(97, 123)) if lang == "en" else chr(random.integers(0x4E00, 0x4F00))
        assert not differs(text, "".join(letters))
    assert not differs(text, f"Home\nAbout us\nHome\nHome\n{text}\nHome"), "a frame around one of them"


def test_other_numbers_differ() -> None:
    report = "In {0} the plant made {1} tons, and {2} of them were sold for {3} each; {4} were lost."
    year = report.format(2019, 1200, 1100, 38, 25)
    assert differs(year, report.format(2020, 1350, 1275, 41, 12))
    assert not differs(year, report.format(2019, 1200, 1100, 38, 26))
    assert not differs(year, f"{year} Printed on 2024-11-12 at 10:33, page 118 of 204.")


def test_short_and_empty_texts() -> None:
    assert not differs("", "")
    assert not differs("a", "b")


def test_the_facts_of_a_text_do_not_depend_on_its_batch() -> None:
    words = [chr(97 + n % 26) * 2 + chr(97 + n // 26) for n in range(300)]
    texts = [
        "",
        *(text.format("lamp_on", "lamp") for text in FORM.values()),
        "…",
        "vitamin a a a a",
        f"Words of 2019 and 12\n{' '.join(words * 20)}",  # more names and tokens than are kept
        " ".join(map(str, range(10, 60))),
        *(text.format("正弦", "角度") for text in FORM.values()),
    ]
    together = facts(batch_of(texts), texts)
    for text, row in zip(texts, together, strict=True):
        assert facts(batch_of([text]), [text])[0] == row
    assert (together["counts"][5] > 0).sum() == NAMES
    assert together["size"][6] == 50
