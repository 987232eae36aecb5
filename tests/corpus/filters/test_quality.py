"""Each quality rule at its threshold, and prose that passes all rules."""

from collections.abc import Iterable

import pytest
from datatrove.data import Document

from mindllm_jax.corpus.filters.chinese import chinese_features
from mindllm_jax.corpus.filters.english import english_features
from mindllm_jax.corpus.filters.quality import Quality, QualityRules, bounds

ENGLISH = """The committee met on Tuesday to discuss the new rules, and most of its members said they were for them.
Some had doubts: the costs were not known, nor was it clear who should bear them.

"We have to be careful with public money," one of them said after the meeting. "But to do nothing would be worse."
A decision is expected in the spring, when the report of the experts will have been read by all."""
CHINESE = """今年以来，各地认真贯彻落实中央的决策部署，经济运行总体平稳，就业形势保持稳定，人民生活继续改善。
专家认为，下一步应当继续扩大国内需求，支持中小企业发展，同时防范金融风险。

记者在采访中了解到，不少企业正在加快技术改造。一位负责人说：“我们对未来充满信心。”
目前，有关部门正在研究制定具体的实施办法，预计年底以前向社会公布。"""


def document(text: str, lang: str, **metadata: object) -> Document:
    return Document(text=text, id="1", metadata={"source": "s", "lang": lang, **metadata})


def reason_for(text: str, lang: str, **metadata: object) -> str | None:
    return Quality(QualityRules(short_sources=("short",))).apply(document(text, lang, **metadata))


@pytest.mark.parametrize(("text", "lang"), [(ENGLISH, "en"), (CHINESE, "zh")])
def test_ordinary_prose_passes(text: str, lang: str) -> None:
    found = list(bounds(document(text, lang, density=0.9), QualityRules()))
    assert all(bound.kept for bound in found), [bound for bound in found if not bound.kept]
    assert reason_for(text, lang) is None


def test_density() -> None:
    assert reason_for(ENGLISH, "en", density=0.75) is None
    assert reason_for(ENGLISH, "en", density=0.749) == "low text density"


def numbered(line: str, numbers: Iterable[int]) -> str:
    return "\n".join(line.format(n) for n in numbers)


SIXTY = " ".join(f"the of x{n}" for n in range(20))
SAME = "企业技术发展经济社会。"
ZH = {
    "too few Han characters": (CHINESE.replace("\n", "")[:112] + "。", CHINESE[:80] + "。"),
    "unterminated lines": (f"{CHINESE}\n{'企业' * 300}", f"{CHINESE}\n{'企业' * 700}"),
    "low share of Han characters": (f"{CHINESE}{'abc ' * 380}。", f"{CHINESE}{'abc ' * 900}。"),
    "share of punctuation": (CHINESE + "，" * 50, CHINESE + "，" * 160),
    "too many symbols": (CHINESE + "★" * 40, CHINESE + "★" * 120),
    "too few dictionary words": (CHINESE + "齉龘。" * 5, "齉爨龘麤。" * 40),
    "duplicate lines": (f"{CHINESE}\n{CHINESE.splitlines()[0]}", f"{CHINESE}\n{CHINESE}"),
    "duplicate n-grams": (f"{CHINESE}{CHINESE[60:110]}", f"{CHINESE}{CHINESE}".replace("\n", "")),
    "dominant n-gram": (
        CHINESE + "".join(f"{SAME}{x}" for x in "一二三四"),
        "".join(f"经济社会{x}。" for x in CHINESE),
    ),
}
EN = {
    "too few words": (" ".join(ENGLISH.split()[:60]) + ".", " ".join(ENGLISH.split()[:49]) + "."),
    "too few stop words": ("the " + "small words are of " * 1 + "one. " * 50, "small words are not here. " * 20),
    "unterminated lines": (f"{ENGLISH}\n\n{'more words ' * 100}", f"{ENGLISH}\n\n{'more words ' * 400}"),
    "average word length": (ENGLISH, "the of a b c d e f. " * 10),
    "too many bullet lines": (
        f"{ENGLISH}\n- one of it.",
        "\n".join(f"- {line}" for line in ENGLISH.split("\n") if line),
    ),
    "too many ellipsis lines": (f"{ENGLISH}\nand so on...", "\n".join(f"{line}..." for line in ENGLISH.split("\n"))),
    "placeholder text": (f"{ENGLISH} {ENGLISH[:200]} Lorem ipsum.", f"{ENGLISH[:300]} Please enable JavaScript."),
    "too few alphabetic words": (ENGLISH + " 12" * 30, ENGLISH + " 123456" * 50),
    "too many symbols": (ENGLISH + " #" * 7, ENGLISH + " #" * 15),
    "duplicate lines": (f"{ENGLISH}\n{ENGLISH.splitlines()[1]}", f"{ENGLISH}\n{ENGLISH}"),
    "duplicate n-grams": (f"{ENGLISH} {ENGLISH[:130]}", f"{ENGLISH} {ENGLISH}".replace("\n", " ")),
    "dominant n-gram": (
        ENGLISH + " As they say." * 3,
        " ".join(f"as they say {word}." for word in ENGLISH.split()),
    ),
}


@pytest.mark.parametrize(("lang", "reason"), [("zh", x) for x in ZH] + [("en", x) for x in EN])
def test_either_side_of_a_bound(lang: str, reason: str) -> None:
    kept, dropped = (ZH if lang == "zh" else EN)[reason]
    value = {bound.reason: bound for bound in bounds(document(kept, lang), QualityRules())}
    assert value[reason].kept, value[reason]
    failed = [bound.reason for bound in bounds(document(dropped, lang), QualityRules()) if not bound.kept]
    assert reason in failed
    assert reason_for(dropped, lang) == failed[0]


def test_a_rule_is_its_setting() -> None:
    """The value itself is still kept, the next on the wrong side is not."""
    (words,) = (b for b in bounds(document(ENGLISH, "en"), QualityRules()) if b.reason == "too few words")
    for least, reason in ((words.value, None), (words.value + 1, "too few words")):
        assert Quality(QualityRules(en_min_words=int(least))).apply(document(ENGLISH, "en")) == reason
    (share,) = (b for b in bounds(document(CHINESE, "zh"), QualityRules()) if b.reason == "share of punctuation")
    for most, reason in ((share.value, None), (share.value - 1e-9, "share of punctuation")):
        assert Quality(QualityRules(zh_max_punctuation_share=most)).apply(document(CHINESE, "zh")) == reason


def test_short_sources() -> None:
    poem = "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。"
    assert reason_for(poem, "zh") == "too few Han characters"
    assert reason_for(poem, "zh", source="short") is None
    assert reason_for("好。", "zh", source="short") == "too short"
    assert reason_for("A rose is a rose.", "en", source="short") is None
    assert reason_for("“学而时习之，不亦说乎？”\n　　——《论语》", "zh", source="short") is None
    assert reason_for("That's no moon...\nIt's...\na space station...", "en", source="short") is None
    refrain = "彼黍离离，彼稷之苗。\n悠悠苍天，此何人哉！\n彼黍离离，彼稷之穗。\n悠悠苍天，此何人哉！"
    assert reason_for(refrain, "zh", source="short") is None


def test_headings_are_neither_symbols_nor_words() -> None:
    headed = "\n\n".join(f"#### Part {number}\n{sentence}." for number, sentence in enumerate(ENGLISH.split(". ")))
    assert reason_for(headed, "en") is None
    assert english_features(headed).hash_word_ratio == 0 < english_features("a # b #c").hash_word_ratio


def test_bars_and_rules_of_a_table_are_no_words() -> None:
    table = "| name | use |\n| :-- | ---: |\n" + "| it | fine |\n" * 9
    assert english_features(table).alphabetic_share == 1
    assert english_features("a | 1 2 -- x").alphabetic_share == 2 / 5


def test_items_of_a_list_say_something_without_a_full_stop() -> None:
    items = [
        f"- 修复了在某些情况下第{number}个查询返回错误结果的问题，以及统计信息没有更新的问题" for number in range(9)
    ]
    assert reason_for("\n".join(items), "zh") != "unterminated lines"
    assert reason_for("\n".join(item.removeprefix("- ") for item in items), "zh") == "unterminated lines"
    assert chinese_features("- 首页\n- 关于我们\n- 联系方式").terminated_share == 0
