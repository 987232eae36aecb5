"""HTML, wiki markup and dumped records to text."""

import pytest

from mindllm_jax.corpus.filters.markup import Markup, markup_of, record_text, wiki_text

PAGE = """<!-- x --><!DOCTYPE html><html><head><title>T</title><style>p {}</style></head><body>
<nav><a href="/">Home</a> <a href="/b">About us and all that we do</a></nav>
<p>The first &amp; paragraph.</p><p>第二段。</p><ul><li>one</li><li>two</li></ul><script>x = 1</script>
<footer>All rights reserved</footer></body></html>"""


def test_page(applied) -> None:
    reason, document = applied(Markup(), PAGE)
    assert reason is None and "The first & paragraph.\n\n第二段。" in document.text
    assert not any(word in document.text for word in ("Home", "rights", "x = 1", "p {}"))
    assert "one" in document.text and "two" in document.text
    assert document.metadata["density"] == 1


def test_wiki(applied) -> None:
    markup = "'''A''' is a [[letter]] of the [[Latin script|Latin]] [[alphabet]].\n\n== Use ==\nIt is used in words."
    reason, document = applied(Markup(), markup)
    assert reason is None and document.text == "A is a letter of the Latin alphabet.\n\nUse\n\nIt is used in words."
    assert wiki_text("#REDIRECT [[B]]") == wiki_text(" #重定向 [[B]]") == ""
    titled = applied(Markup(), "Prose of it.", format="wiki", title="Alpha")[1].text
    assert titled == "Alpha\n\nProse of it."
    assert applied(Markup(), "{{box}}", format="wiki", title="Alpha")[0] == "no text in markup"
    assert applied(Markup(), "#REDIRECT [[B]]", format="wiki")[0] == "no text in markup"


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ('{"title": "T", "n": 1, "body": "B\\nC"}', "T\n\nB\nC"),
        ("{'title': 'It\\'s', 'n': None}", "It's"),
        ("{'a': ['one', {'b': 'two', 'c': ('one', 3)}], 'd': 'three'}", "one\n\ntwo\n\nthree"),
        ('{"a": "\\ud83d\\ude00", "b": "x\\ud83dy"}', "😀\n\nxy"),
        ("{'a': broken", "{'a': broken"),
        ("{'a': " + "[" * 100_000, "{'a': " + "[" * 100_000),
    ],
    ids=["json", "python", "nested", "surrogates", "broken", "endless"],
)
def test_record(record: str, text: str) -> None:
    assert markup_of(record) == "record"
    assert record_text(record) == text


@pytest.mark.parametrize(
    "text",
    [
        "Plain prose with a <b>tag</b> and 1 < 2.",
        "如何写 HTML：用 <p> 和 </p> 包住一段。",
        "In wiki markup a link is [[written so]], and that is all there is to say of it here.",
        "{1, 2} is a set",
        "# 列表\n\n<div>\n\n写法：\n\n```html\n<ul>\n<li>一</li>\n<li>二</li>\n<li>三</li>\n</ul>\n```\n\n</div>",
        "int main() { return 0; }",
    ],
)
def test_text_passes_as_it_is(applied, text: str) -> None:
    assert applied(Markup(), text)[1].text == text


def test_the_reader_knows_better(applied) -> None:
    assert applied(Markup(), "<p>a</p>", format="html")[1].text == "a"
    assert applied(Markup(), PAGE, format="text")[1].text == PAGE


@pytest.mark.parametrize(
    "piece", ["<", "<!-- -->", "<!--", "<?xml ", "<div>", "<a ", "[[", "{{", "[[a]]", "'", "'''", "=="]
)
def test_time_grows_with_the_text(applied, seconds_for_a_megabyte, piece: str) -> None:
    assert seconds_for_a_megabyte(lambda text: applied(Markup(), text), "", piece) < 4
