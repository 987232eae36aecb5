"""Counts which paragraphs of wiki dumps survive the filter `Markup`, by another reading of the markup.

    python benchmarks/foreign_wiki.py --lost 20

`foreign.py` puts the table into docs/results/foreign.md. A paragraph is a line of prose outside lists, tables,
templates, footnotes and captions of pictures, with an end of a sentence and at least 40 letters, a Chinese character
counted as two. It is *whole* if one line of the text has all its letters and digits in order, templates in it aside;
*altered* if a line has at least half of them; *lost* otherwise. Paragraphs with a formula or an unknown template are
dropped by design, so the lost ones are split into those with a formula, those with a template and those of neither.
`--lost` prints as many of the altered and lost ones.
"""

from __future__ import annotations

import argparse
import html
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from datatrove.data import Document
from foreign_packages import Package, unpacked

from mindllm_jax.corpus.filters.markup import Markup
from mindllm_jax.corpus.reading.mediawiki import read_wiki
from mindllm_jax.corpus.reading.records import Bad, BadFile
from mindllm_jax.corpus.reading.streams import unpacked as decompressed
from mindllm_jax.corpus.reading.streams import utf16_as_utf8
from mindllm_jax.recipes.demo.downloads import fetch
from mindllm_jax.recipes.demo.sources import WIKIPEDIA
from mindllm_jax.reporting.tables import Table

WIKICLEAN = Package("git", "lintool/wikiclean", "2f713b3a9000bb1d4b976d80e096cfadee849f70", "")
BULGARIAN = replace(WIKIPEDIA, member="gensim/test/test_data/bgwiki-latest-pages-articles-shortened.xml.bz2")

# In place of a formula, and of a template or a variant of Chinese, whose words this script does not know.
_FORMULA, _TEMPLATE = "\0", "\1"
_ELEMENTS = re.compile(
    r"<!--.*?-->|<ref\b[^<>]*/>|<(ref|gallery|timeline|imagemap|references|syntaxhighlight|source|score|poem)\b[^<>]*>"
    r".*?</\1\s*>",
    re.S | re.I,
)
_MATH = re.compile(r"<(math|chem)\b[^<>]*>.*?</\1\s*>", re.S | re.I)
_SENTENCE_END = re.compile(r"[。！？]|[.!?](?=\s|$|[\"”)])")
_MIN_LETTERS = 40
_PIECE = 16  # letters and digits that are looked for as one


FATES = ("whole", "altered", "lost: formula", "lost: template", "lost: neither")


class Article(NamedTuple):
    """An article's title and its markup."""

    title: str
    markup: str


def articles(content: bytes) -> Iterator[Article]:
    """Yields the articles of a dump, which may be packed."""
    packed = io.BytesIO(content)
    stream = decompressed(packed, packed.read(16))
    if stream.peek().startswith((b"\xff\xfe", b"\xfe\xff")):
        stream = utf16_as_utf8(stream)
    try:
        for record in read_wiki(stream, longest=32 << 20):
            if not isinstance(record, Bad):
                yield Article(str(record.metadata["title"]), record.text)
    except BadFile:
        return  # a test dump may be cut behind a page


def pages_of(*names: str) -> Callable[[Path], Iterator[Article]]:
    """Returns a reader of test pages of wikiclean, which are pages of dumps."""

    def read(files: Path) -> Iterator[Article]:
        folder = unpacked(WIKICLEAN, files) / "src/test/resources"
        for name in names:
            for file in sorted(folder.glob(f"{name}wiki-*.xml")):
                yield from articles(b"<mediawiki>" + file.read_bytes() + b"</mediawiki>")

    return read


def english(files: Path) -> Iterator[Article]:
    """Yields the articles of the English dump in gensim's test data."""
    yield from articles(fetch(WIKIPEDIA, files).read_bytes())


def bulgarian(files: Path) -> Iterator[Article]:
    """Yields the articles of the Bulgarian dump in gensim's test data, which ends within a page."""
    yield from articles(fetch(BULGARIAN, files).read_bytes())


_OTHERS = ("br", "ca", "de", "el", "eo", "es", "fr", "gl", "it", "kn", "nl", "pl", "pt", "ru", "simple", "uk")
KINDS: dict[str, Callable[[Path], Iterator[Article]]] = {
    "Chinese: the page 数学 of a dump of 2015 (GitHub lintool/wikiclean)": pages_of("zh"),
    "English: dump (PyPI gensim)": english,
    "English: pages of a dump of 2012 (GitHub lintool/wikiclean)": pages_of("en"),
    "Bulgarian: dump (PyPI gensim)": bulgarian,
    f"{len(_OTHERS)} other wikis: pages of dumps (GitHub lintool/wikiclean)": pages_of(*_OTHERS),
}


def paragraphs(markup: str) -> Iterator[str]:
    """Yields the paragraphs of an article in order."""
    text = _MATH.sub(_FORMULA, _ELEMENTS.sub("", markup))
    text = _nested(_nested(text, "{|", "|}", ""), "{{", "}}", _TEMPLATE)
    text = re.sub(r"-\{.*?\}-", _TEMPLATE, text, flags=re.S)
    text = re.sub(r"\[\[((?:[^\[\]]|\[\[[^\[\]]*\]\])*)\]\]", _link, text)
    text = re.sub(r"\[(?:https?:|ftp:)?//[^\s\]]+ ?([^\]]*)\]", r"\1", text)
    text = html.unescape(re.sub(r"</?[a-zA-Z][^<>]*>", "", text))
    for line in re.sub("''+", "", text).splitlines():
        letters = re.findall(r"[^\W\d_]", line)
        wide = sum("\u3400" <= letter <= "\u9fff" for letter in letters)
        if not re.match(r"[*#:;=|!{ ]", line) and len(letters) + wide >= _MIN_LETTERS and _SENTENCE_END.search(line):
            yield line


def _nested(text: str, opening: str, closing: str, shown: str) -> str:
    """Returns a text with every outermost pair of marks replaced."""
    kept, depth, end = [], 0, 0
    for mark in re.finditer(re.escape(opening) + "|" + re.escape(closing), text):
        if mark[0] == opening:
            if not depth:
                kept.append(text[end : mark.start()])
            depth += 1
        elif depth:
            depth -= 1
            if not depth:
                kept.append(shown)
                end = mark.end()
    return "".join(kept) + text[end:] if not depth else "".join(kept)


def _link(match: re.Match[str]) -> str:
    """Returns what a link shows: nothing for a picture, a category and the same article in another language."""
    target, bar, shown = match[1].partition("|")
    picture = re.search(r"\.(jpe?g|png|svg|gif|tiff?|og[gv]|web[mp]|pdf|djvu)\s*$", target, re.I)
    if picture or re.match(r"[a-z]{2,3}:|[\w-]+:(?! )(?!.*\|)", match[1]):
        return ""
    return shown if bar else re.sub("^:([a-z]+:)?", "", target)


def _signs(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).lower()


def fate(paragraph: str, lines: list[str]) -> str:
    """Returns what became of a paragraph in the lines of the text, which are letters and digits."""
    pieces = [
        signs[start : start + _PIECE]
        for part in re.split(f"[{_FORMULA}{_TEMPLATE}]", paragraph)
        for signs in [_signs(part)]
        for start in range(0, len(signs), _PIECE)
    ]
    most = 0
    for line in lines:
        place = present = 0
        for piece in pieces:
            if (at := line.find(piece, place)) >= 0:
                place, present = at + len(piece), present + len(piece)
        most = max(most, present)
    if most == sum(map(len, pieces)):
        return "whole"
    if 2 * most >= sum(map(len, pieces)):
        return "altered"
    return "lost: formula" if _FORMULA in paragraph else "lost: template" if _TEMPLATE in paragraph else "lost: neither"


def measure(read: Iterator[Article], show: int) -> tuple[int, Counter[str]]:
    """Returns the number of articles and of paragraphs of every fate; prints the first `show` that are not whole."""
    markup, count, fates = Markup(), 0, Counter[str]()
    for article in read:
        count += 1
        metadata = {"source": "wiki", "lang": "en", "format": "wiki", "title": article.title}
        document = Document(article.markup, "1", metadata=metadata)
        markup.apply(document)
        lines = [_signs(line) for line in document.text.splitlines()]
        for paragraph in paragraphs(article.markup):
            fates[became := fate(paragraph, lines)] += 1
            if became != "whole" and show > 0:
                show -= 1
                shown = re.sub(f"[{_FORMULA}{_TEMPLATE}]", "{…}", paragraph)
                print(f"{became}: {article.title}: {shown}")
    return count, fates


def measured(files: Path, show: int = 0) -> dict[str, dict[str, int]]:
    """Returns the articles, the paragraphs and their fates of every kind of dump that could be fetched."""
    counts: dict[str, dict[str, int]] = {}
    for kind, read in KINDS.items():
        try:
            count, fates = measure(read(files), show)
        except ConnectionError as error:
            print(f"{kind}: not measured: {error}")
            continue
        counts[kind] = {"articles": count, "paragraphs": sum(fates.values()), **{name: fates[name] for name in FATES}}
    return counts


def table(after: dict[str, dict[str, int]], before: dict[str, dict[str, int]]) -> Table:
    """Returns the table of all dumps; a figure that differs from the one before stands behind it."""
    columns = ("articles", "paragraphs", *FATES)
    rows = [
        [
            kind,
            *(
                " → ".join(dict.fromkeys(f"{side[name]:,}" for side in (before.get(kind, row), row)))
                for name in columns
            ),
        ]
        for kind, row in after.items()
    ]
    return Table(["wiki markup", *columns], rows)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, default=Path("runs/foreign"), help="where the packages are kept")
    parser.add_argument("--lost", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    print(table(measured(arguments.files, arguments.lost), {}).markdown())


if __name__ == "__main__":
    main()
