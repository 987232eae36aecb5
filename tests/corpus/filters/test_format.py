"""Format strips boilerplate, normalises characters and keeps paragraphs."""

import pytest
from datatrove.data import Document
from hypothesis import example, given
from hypothesis import strategies as st

from mindllm_jax.corpus.filters.format import Format, characters, fenced, prose, tidy
from mindllm_jax.corpus.outcomes import recorded


def formatted(text: str) -> tuple[str | None, str]:
    document = Document(text=text, id="1", metadata={"source": "s"})
    return Format().apply(document), document.text


MARKS = """<!-- --> [ ](/x) ] ![ ( ) ( a 中 e ／ ［ Ã© Ã © ``` ~~~ --- # \u200b \u0301 \u2028 \r""".split()
LINES = """---|title: x|Title: x|Date: y|From: z|```|```py|~~~|# copyright|// licence|[1]: /x||
*** START OF THE PROJECT GUTENBERG|*** END OF THE PROJECT GUTENBERG""".split("|")
PIECES = st.sampled_from([*MARKS, " \t", "\n", *(f"{line}\n" for line in LINES)])


@given(st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join)))
@example("e\u200b\u0301 [[a](/x)](/y) <!<!-- -->-- x -->")
@example("---\na: b\n---\n---\nc: d\n---\ntext")
@example("Ã\u200b©")
def test_twice_is_once(text: str) -> None:
    reason, once = formatted(text)
    if reason is None:
        assert formatted(once) == (None, once)


def test_endlessly_nested_markup_is_dropped() -> None:
    assert formatted("[" * 40 + "a" + "](/x)" * 40)[0] == "nested markup"
    assert formatted("[" * 3 + "a" + "](/x)" * 3) == (None, "a")


@pytest.mark.parametrize("text", ["", " \n\t\u3000", "\ufeff\u200b", "<!-- nothing -->", "![](x.png)"])
def test_empty(text: str) -> None:
    assert formatted(text) == ("empty", "")


BODY = "The first paragraph.\n\nThe second one,\nwith two lines."


@pytest.mark.parametrize(
    "around",
    [
        "---\nlayout: 'x'\ntags: [a, b]\n---\n\n{}",
        '+++\ndate = "x"\n+++\n{}\n',
        "PEP: 1\nSubject: One\nAuthor: A\n        B\nStatus: Active\n\n{}",
        "/*\n * Copyright 2020 X\n */\n\n{}",
        "# Copyright 2020 X\n# Licensed under Y\n\n{}",
        "// SPDX-License-Identifier: MIT\n{}",
        "Header\n\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n{}\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\nx",
        "<!-- a\n\ncomment -->{}<!-- b -->",
        "[![badge](http://a.b/c.svg)](http://a.b/c)\n\n{}",
        "![picture (1)](a_(1).png)\n{}",
        '{}\n\n[#]: subject: "x"\n[1]: https://a.b/c\n[a b]: <http://x>\n',
        "{}\n\n[3]: data:image/gif;base64,R0lG\n[4]: tmp.Zq1#notes",
        "\r\n{}   \n\n\n\n\n",
    ],
)
def test_boilerplate_is_removed(around: str) -> None:
    assert formatted(around.format(BODY)) == (None, BODY)


@pytest.mark.parametrize(
    "around",
    [
        "---\ntitle: 'A title'\ntags: [a]\n---\n\n{}",
        '+++\ntitle = "A title"\n+++\n{}\n',
        "PEP: 1\nTitle: A title\nAuthor: A\n        B\nStatus: Active\n\n{}",
    ],
)
def test_a_title_becomes_a_heading_where_there_is_none(around: str) -> None:
    assert formatted(around.format(BODY)) == (None, f"# A title\n\n{BODY}")
    assert formatted(around.format(f"# Another\n\n{BODY}")) == (None, f"# Another\n\n{BODY}")
    code = f"```sh\n# a comment\n```\n{BODY}"
    assert formatted(around.format(code)) == (None, f"# A title\n\n{code}")


def test_all_books_of_a_text_stay() -> None:
    licence = "The licence of this ebook.\n\n"
    marks = ("*** START OF THE PROJECT GUTENBERG EBOOK {} ***\n", "*** END OF THE PROJECT GUTENBERG EBOOK {} ***\n")
    books = [f"{licence}{marks[0].format(n)}Book {n}.\n{marks[1].format(n)}{licence}" for n in range(3)]
    assert formatted("".join(books)) == (None, "Book 0.\n\nBook 1.\n\nBook 2.")
    assert formatted("".join(books).removeprefix(licence + marks[0].format(0)))[1].startswith("Book 0.")


def test_what_stood_around_a_text_is_recorded() -> None:
    step = Format()
    fields = "From: a@b.org\nSubject: It\nDate: Monday\n"
    (document,) = step.run([Document(text=f"{fields}\n{BODY}", id="1", metadata={"source": "s"})])
    assert document.text == BODY
    (changed,) = (outcome for outcome in recorded(step) if outcome.kind == "changed")
    assert changed[3:] == ("header fields", 1, len(fields), 1, (fields.strip().replace("a@b.org", "<email>"),))


def test_personal_data_at_the_end_of_an_example_is_masked() -> None:
    """Before the cut, after which half of an address would not be known as one."""
    step, fields = Format(), f"From: Li\nSubject: {'x' * 165}\nTo: zhang.wei@mail.org\n"
    list(step.run([Document(f"{fields}\n{BODY}", "1", metadata={"source": "s"})]))
    (changed,) = (outcome for outcome in recorded(step) if outcome.kind == "changed")
    (example,) = changed[-1]
    assert example.endswith("To: <email>") and "zhang" not in example


def test_references_become_their_words() -> None:
    text = (
        "See [the guide][1] and [Rust][], ![a picture][p1] and [![badge][p1]][1], [the\nbook][Rust], [rust].\n\n"
        "参见[指南][1]。\n\n```\nm[i][1]\n```\n[1]: https://a.b/c\n[rust]: ch13-02-x.html\n[P1]: ../p.png\n"
    )
    expected = "See the guide and Rust,  and , the\nbook, rust.\n\n参见指南。\n\n```\nm[i][1]\n```"
    assert formatted(text) == (None, expected)


@pytest.mark.parametrize(
    "text",
    [
        "m[i][1] is [x][y].",
        "[1]: https://a.b/c\nThe list `a[0][1]`, m[i][1], f(x)[a][1] and note [1] stay.",
        '[#]: subject: "x"\nint[][] m;',
        "The [data]: 5 GB, and [tmp.x] is a file.\n[5]: data of 1990",
        "It was a hit.[^1]\n\n[^1]: #1 in the charts of 1984.",
    ],
)
def test_lookalikes_of_references_stay(text: str) -> None:
    kept = text.split("\n", 1)[1] if text.startswith(("[1]", "[#]")) else text
    assert formatted(text) == (None, kept)


def test_entities_without_their_ampersand() -> None:
    text = 'It #39;s here, quot;he said quot;. &lt;A HREF="x"&gt;F.N&lt;/A&gt;'
    assert formatted(text) == (None, 'It\'s here,"he said". F.N')
    for other in ("See issue#39; or a quote;", "Write &lt;b&gt; and &#39; in HTML.", "&amp;quot;hi&amp;quot;"):
        assert formatted(other) == (None, other)


def test_entities_in_code_stay() -> None:
    text = "It #39;s so.\n```\nvector<int> x = quot;a;\n```"
    assert formatted(text) == (None, "It's so.\n```\nvector<int> x = quot;a;\n```")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a\n```x```\nb\n```\nc\n```\nd", ["```\nc\n```"]),
        ("````\n```\na\n```\n````\nb", ["````\n```\na\n```\n````"]),
        ("~~~ sh `x`\na\n~~~", ["~~~ sh `x`\na\n~~~"]),
        ("```py\na\n```py\nb\n`````\nc", ["```py\na\n```py\nb\n`````"]),
        ("```\nwithout an end", []),
    ],
)
def test_code_fences(text: str, code: list[str]) -> None:
    parts = list(fenced(text))
    assert [part for part, is_code in parts if is_code] == code and "".join(part for part, _ in parts) == text


@pytest.mark.parametrize(
    "text",
    [
        BODY,
        "Write it so:\n\n<div>\n<p>\n</div>",
        "# Pages\n\nWrite `<div>` or\n<div>words</div> or\n    <div>\nfor it.\n\n```\n<div>\n```",
        "---\n\nA rule above a paragraph.\n\n---\n\nAnother.",
        "A: Good morning.\nB: Good morning.\nA: How are you?\n\nThey went on for a while.",
        "Alice: Good morning.\nBob: Hello.\nAlice: Well?\n\nThey went.",
        "Question: Which planet is the largest?\nChoices: Mars, Jupiter\nAnswer: Jupiter\n\nIt is a gas giant.",
        "Romeo: But soft, what light!\nJuliet: Romeo!\nNurse: Madam!\n\nExeunt.",
        "Title: Soup\nIngredients: water, salt\nMethod: boil\nServes: four\n\nEnjoy.",
        "Name: Li\nAge: 30\nCity: Jinan\n\nName: Wu\nAge: 40\nCity: Wuhan\n\nEnd.",
        "# Copyright law\n\nIt protects authors.",
        "# 许可\n## 版权\n正文。",
        "[^1]: A note at the foot.",
        "[记者]: 您好。\n[专家]: 您好。",
        "a <!-- without an end",
        "f(x)[0](y) and [a](b c) and a[i](j)",
        "他说：“好！”（笑）；是吗？～",
        "👨‍👩‍👧 𠮷野家 è",
    ],
)
def test_text_stays(text: str) -> None:
    assert formatted(text) == (None, text)


def test_listings_of_asciidoc_are_code() -> None:
    listing = "----\n# <td>\n<td>\n--------\nx[1](/y)\n----"
    text = f"== Use\n\nTurn it on:\n\n{listing}\n\n....\n</td>\n....\n\nOff."
    assert formatted(text) == (None, text)
    assert prose(text) == "== Use\n\nTurn it on:\n\n\n\n\n\nOff."
    rules = "== Use ==\n\n----\n\nTurn it [on](/y).\n\n----\n\nOff."
    assert formatted(rules) == (None, rules.replace("[on](/y)", "on"))


def test_lines_of_tags_in_markdown_are_removed() -> None:
    text = (
        '# Use\n\n<div class="a">\n\nTurn it on.\n\n</div><br/>\n<a id="b"></a>\n<img src="c.png">\n\n## More\n\nOff.'
    )
    assert formatted(text) == (None, "# Use\n\nTurn it on.\n\n## More\n\nOff.")


HAN = "先安装服务，再打开设置文件，把端口改成八千零八十，保存以后重新启动。" * 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See:\n```\nx = 1\n```\nDone.", "See:\n\nDone."),
        ("```\nx = 1\n```", "```\nx = 1\n```"),
        (f"{HAN}\n\n    $ make install\n\t$ reboot\n    重启。\n{HAN}", f"{HAN}\n\n    重启。\n{HAN}"),
        (f"{HAN}\n\n    ┌──┐\n    │make│\n    └──┘\n", f"{HAN}\n\n    ┌──┐\n    │make│\n    └──┘\n"),
        ("    The whole text is\n    indented.\n", "    The whole text is\n    indented.\n"),
        ("A word: 好\n\n    The rest is not Chinese.", "A word: 好\n\n    The rest is not Chinese."),
    ],
)
def test_prose(text: str, expected: str) -> None:
    assert prose(text) == expected


def test_link_leaves_its_words() -> None:
    assert formatted('See [the page](https://a.b/c_(d) "title") or [this](#x).') == (None, "See the page or this.")


def test_code_stays_as_it_is() -> None:
    code = "```python\nx = a[0](b)  \n\n\n\n<!-- ![x](y) -->\n[1]: /x\n```"
    assert formatted(f"Text [a](/b)   \n\n{code}\n\n\n\nmore") == (None, f"Text a\n\n{code}\n\nmore")
    assert formatted("~~~\n[a](/b)\n```\n~~~ \n[a](/b)") == (None, "~~~\n[a](/b)\n```\n~~~ \na")
    assert formatted("```\n[a](/b)") == (None, "```\na")


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("ＡＢＣ１２３％，。（）！", "ABC123%，。（）！"),
        ("cafÃ© donâ€™t", "café don’t"),
        ("a\u200bb\ufeffc\x00d\ufffd", "abcd"),
        ("a\r\nb\rc\u2028d\x85e", "a\nb\nc\nd\ne"),
        ("e\u0301 e\u200b\u0301", "é é"),
        ("\u3000段落\xa0x", " 段落 x"),
    ],
)
def test_characters(broken: str, whole: str) -> None:
    assert characters(broken) == whole


@given(st.lists(st.text(st.sampled_from("ab中。 "), min_size=1).filter(str.strip), min_size=1))
def test_paragraphs_are_kept(paragraphs: list[str]) -> None:
    written = [part.strip() for part in paragraphs]
    assert tidy("\n\n".join(written)).split("\n\n") == written


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        *(("", mark) for mark in "[ ( ![ [a]( [a](/ ]( <!-- # /* e\u0301".split()),
        *(
            ("", f"{line}\n")
            for line in ["---", "+++", "Key: value", "Key: value\n  more", "# a", "", " ", "```a", "```"]
        ),
        *(
            ("", piece)
            for piece in [
                "// x\n",
                "[a]: \n",
                " ",
                " " * 1000 + "x",
                "*** START OF ",
                "*** END OF THE PROJECT GUTENBERG\n",
            ]
        ),
        *[("== x\n", "----\n"), ("== x\n", "-"), ("# x\n", "<br>"), ("# x\n", "<br> "), ("# x\n", "<a ")],
        *[("---\na: b\n", "x\n"), ("![](", "()"), ("A: b\n" * 3, "\t\n")],
    ],
    ids=repr,
)
def test_time_grows_with_the_text(seconds_for_a_megabyte, beginning: str, piece: str) -> None:
    assert seconds_for_a_megabyte(formatted, beginning, piece) < 4
