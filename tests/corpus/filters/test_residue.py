"""Format removes the configured residue of sources from their text, and from no code."""

import json
import time
from pathlib import Path

import pytest
from datatrove.data import Document

from mindllm_jax.corpus.filters.format import Format
from mindllm_jax.corpus.settings import CleanCorpus

RESIDUE = [
    ("libreoffice_help_zh", "正文。\n\nHelp content debug info:\n\nThis page is: /x.xhp\nTitle is: 标题", "正文。"),
    ("gnome_help_en", "Li Wu\n  li@gnome.org\n 2017\n\nA B\nb@c.de\n\nStart here: x@y.", "Start here: x@y."),
    (
        "gnome_help_zh",
        "打开灯。\n\n Li Wu\n li@gnome.org\n 2011, 2012\n\n 灯\n\n 按一下。",
        "打开灯。\n\n 灯\n\n 按一下。",
    ),
    ("debian_docs_en", "PrevA.6. Grml\nText.\nNextA.8. Kali\nNext we go¶", "Text.\nNext we go"),
    (
        "react_vue_docs_en",
        "## State {/*state*/}\n<Intro>\nUse {x}.\n</Intro>\n::: tip\nOf <b>it</b>. {#of}",
        "## State\n\nUse {x}.\n\nOf <b>it</b>.",
    ),
    ("d2l_en", "See :numref:`fig_x` and :cite:t:`y`.\n:label:`sec_z`", "See `fig_x` and `y`."),
    (
        "lctt_tech_articles",
        f"### 结语\n\n作者的话：就这样。\n\n{'-' * 80}\n\nvia: https://a.b/c\n\n作者：Li\n译者：[Wu](https://a.b/wu)"
        "\n\n本文由 [LCTT](https://a.b/t) 原创编译，[Linux中国](https://a.b/) 荣誉推出\n",
        "### 结语\n\n作者的话：就这样。",
    ),
    ("freecodecamp_news_zh", "> -   原文地址：[A](https://a.b/c)\n> -   校对者：\n\n> - 引文。", "> - 引文。"),
    (
        "progit2_en",
        "=== Git (((Git, use)))\n[[_x]]\nimage::a.png[b]\ninclude::c.asc[]\n[source,console]\n----\n$ git (a)\n----",
        "=== Git\n\n----\n$ git (a)\n----",
    ),
]


@pytest.fixture(scope="module")
def configured() -> Format:
    """Format as configs/data/real_bilingual.gin has it."""
    golden = Path(__file__).parents[2] / "configuration/golden/data/real_bilingual.json"
    return Format(residue=json.loads(golden.read_text("utf-8"))["CleanCorpus"]["residue"])


@pytest.mark.parametrize(("source", "text", "expected"), RESIDUE)
def test_residue_of_the_configured_sources(configured: Format, source: str, text: str, expected: str) -> None:
    document = Document(text=text, id="1", metadata={"source": source})
    assert configured.apply(document) is None and document.text == expected


@pytest.mark.parametrize("source", [source for source, _, _ in RESIDUE])
@pytest.mark.parametrize(
    "unit", ["@", "a@", "x\na@b\n", " ", "\n", "<A", "<Aa ", "{/*", "{#a", "(", "(((a", "[[", "Prev", ":cite:"]
)
def test_residue_takes_no_longer_than_the_text_is(configured: Format, source: str, unit: str) -> None:
    document = Document(text="x " + unit * (300_000 // len(unit)), id="1", metadata={"source": source})
    start = time.process_time()
    configured.apply(document)
    assert time.process_time() - start < 3


def test_residue_of_a_source() -> None:
    text = "Title is: x\nThe text.{#anchor}\n```\nTitle is: y\n```"
    document = Document(text=text, id="1", metadata={"source": "s"})
    Format(residue=[(("s", "t"), r"^Title is:.*\n?"), (("s",), r"\{#[\w-]+\}"), (("t",), "text")]).apply(document)
    assert document.text == "The text.\n```\nTitle is: y\n```"
    with pytest.raises(ValueError, match=r"CleanCorpus\.residue: '\(' is not a regular expression \(missing"):
        CleanCorpus(residue=((("s",), "("),))
