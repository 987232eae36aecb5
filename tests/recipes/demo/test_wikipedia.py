"""Wiki markup as prose."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm_jax.corpus.filters.wikitext import parse_article
from mindllm_jax.recipes.demo.wikipedia import read_articles

MARKUP = """{{Infobox thing|name=X}}
'''Alpha''' ({{lang-el|άλφα}}; {{IPAc-en|a}}) is a ''first'' [[Greek alphabet|letter]]<ref>A book.</ref>: [[Beta]].
[[File:alpha.png|thumb|An [[image]].]]

It is {{convert|5|km|mi}} long, {{convert|5|to|7|m2}} wide and weighs 10<sup>6</sup> kg&nbsp;net{{citation needed}}.

The formula <math>x^2</math> leaves a hole.

An {{unheard-of|template}} leaves one too.
{| class="wikitext"
| cell || other
|}
== History of ''Alpha'' ==
* One ''item''.
** Another.
<!-- a comment -->
Unbalanced ''italics and [http://example.org a site] end.

== Empty ==
== See also ==
* [[Gamma]]
=== Below ===
Dropped with its section.
== After ==
Kept.
[[Category:Letters]]"""


def sections(markup: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(section.heading, section.paragraphs) for section in parse_article(markup)]


def test_prose_without_markup():
    assert sections(MARKUP) == [
        (
            "",
            (
                "Alpha is a first letter: Beta.",
                "It is 5 km long, 5 to 7 m2 wide and weighs 10^6 kg net.",
            ),
        ),
        ("History of Alpha", ("- One item.", "- Another.", "Unbalanced italics and a site end.")),
        ("After", ("Kept.",)),
    ]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("{{As of|2011}}, ''Animal Farm'''s {{nowrap|a b}} and {{frac|1|2}}", "As of 2011, Animal Farm's a b and 1/2"),
        ("{{chem|H|2|O}} of {{lang|fr|eau}} {{transl|ja|mizu}}", "H2O of eau mizu"),
        ("[[wikt:word]] and [[:Category:Letters]]", "word and Category:Letters"),
        ("see (; also {{IPA|[a]}}, ) here {{!}}", None),
        ("left [[open and {{cut", None),
    ],
)
def test_templates_and_links(markup, text):
    assert sections(markup) == ([("", (text,))] if text else [])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["{{", "}}", "[[", "]]", "''", "|", "==", "\n", "a b", "<ref>", "</ref>", "{|", "|}", "*"])
    )
)
def test_no_markup_survives_whatever_is_unbalanced(pieces):
    for heading, paragraphs in sections("".join(pieces)):
        for line in (heading, *paragraphs):
            assert not any(mark in line for mark in ("{{", "}}", "[[", "]]", "''", "|", "<ref", "\n", "  "))


def test_pages_of_a_dump(tmp_path, dump):
    disambiguation = "'''Alpha''' may be\n* [[A]]\n{{disambiguation}}"
    path = dump(
        tmp_path / "d.bz2", {"Alpha": MARKUP, "Alfa": "#REDIRECT [[Alpha]]", "Alpha (disambiguation)": disambiguation}
    )
    (page,) = read_articles(path)
    assert (page.id, page.revision) == ("wikipedia_en/Alpha@701", 701)
    assert page.document().text.startswith("Alpha\n\nAlpha is a first letter: Beta.\n\nIt is")
    assert page.document().text.endswith("After\n\nKept.")
    assert list(read_articles(dump(tmp_path / "talk.bz2", {"Talk:Alpha": MARKUP}, namespace=1))) == []


def test_a_damaged_dump_raises(tmp_path, dump):
    path = dump(tmp_path / "d.bz2", {"Alpha": MARKUP})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"d\.bz2 is damaged .*fetch it again"):
        list(read_articles(path))
