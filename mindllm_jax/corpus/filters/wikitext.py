"""Extracts the prose of an article from wiki markup."""

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mwparserfromhell.wikicode import Wikicode

# Sections that list things about the article and have no prose.
_APPENDICES = re.compile(
    r"""(.*\ )?(references|bibliography|footnotes|endnotes|citations|links|further\ reading|see\ also)(\ and\ .*)?
    |notes|sources|gallery|publications|discography|filmography|(list\ of\ |selected\ )?works(\ cited)?""",
    re.IGNORECASE | re.VERBOSE,
)
# Their content is not prose, or (references) interrupts it.
_DROPPED_TAGS = frozenset(
    {"gallery", "hiero", "hr", "imagemap", "ref", "references", "score", "source", "syntaxhighlight", "timeline"}
    | {"table", "td", "th", "tr"}
)
# Templates that render as words inside a sentence, with the parameter that has the words.
_SHOWN_PARAMETER = {
    "abbr": 1, "angbr": 1, "angle bracket": 1, "blockquote": 1, "cquote": 1, "flag": 1, "flagcountry": 1, "ipa": 1,
    "keypress": 1, "lang": 2, "native name": 2, "nihongo": 1, "nobold": 1, "nowrap": 1, "oldstyledate": 1, "quote": 1,
    "rtl-lang": 2, "sc": 1, "script": 2, "sic": 1, "small": 1, "smallcaps": 1, "smaller": 1, "transl": -1, "val": 1,
    "vanchor": 1, "visible anchor": 1, "vr": 1,
}  # fmt: skip
_FIXED = {
    "'": "'", "'s": "'s", "' \"": "' \"", '-"': '"', "·": " · ", "dot": " · ", "c.": "c. ", "circa": "c. ",
    "nbsp": " ", "spaces": " ", "thinsp": " ", "ndash": "–", "mdashb": "—", "snd": " – ", "spaced ndash": " – ",
}  # fmt: skip
_RANGES = frozenset(["-", "–", "to", "and", "by", "x", "or", "to(-)", "and(-)"])
# Templates that a sentence does not need. Every other one leaves a hole.
_SILENT = re.compile(
    r"""cit(e|ation)|harv|sfn|[er]fn|refn|\#tag:ref|rp$|note|ipa|respell|audio|lang-|flagicon|coord|anchor|oclc|issn
    |isbn|\w\w\ icon|page\ needed|better\ source|clarify|whe(n|re)$|who|which|by\ whom|according|vague|dubious
    |dead\ link|failed|unreliable|verify|update|relevance|weasel|qualify|full|inflation-fn|wayback|main|see\ also
    |further|about|redirect|other\ uses|use[ ]|pp-|infobox|clear|div\ col|refimprove|expand|unreferenced|portal
    |commons|wiktionary""",
    re.VERBOSE,
)
# Replaces a formula or an unknown template: a sentence with a hole teaches nothing, so its paragraph is dropped.
_HOLE = "\x00"


@dataclass(frozen=True, slots=True)
class ArticleSection:
    """A heading, "" for the lead of an article, and its paragraphs, which have no line breaks."""

    heading: str
    paragraphs: tuple[str, ...]


def parse_article(markup: str) -> tuple[ArticleSection, ...]:
    """Returns the sections of an article in wiki markup that hold prose, without appendices such as References."""
    import mwparserfromhell
    from mwparserfromhell.nodes import Heading

    sections: list[ArticleSection] = []
    heading, nodes, skipped_level = "", [], 9

    def close() -> None:
        paragraphs = _paragraphs(_text(nodes))
        if paragraphs and skipped_level == 9:
            sections.append(ArticleSection(heading, paragraphs))
        nodes.clear()

    for node in mwparserfromhell.parse(markup, skip_style_tags=True).nodes:
        if not isinstance(node, Heading):
            nodes.append(node)
            continue
        close()
        heading = " ".join(_paragraphs(_text(node.title.nodes)))
        if node.level <= skipped_level:
            skipped_level = node.level if _APPENDICES.fullmatch(heading) else 9
    close()
    return tuple(sections)


def _text(nodes: Iterable[Any]) -> str:
    """Returns the rendered text of nodes, with the line breaks of the markup."""
    from mwparserfromhell import nodes as kinds

    shown: list[str] = []
    for node in nodes:
        if isinstance(node, kinds.Text):
            shown.append(str(node))
        elif isinstance(node, kinds.Wikilink):
            shown.append(_link(node))
        elif isinstance(node, kinds.Tag):
            shown.append(_tag(node))
        elif isinstance(node, kinds.Template):
            shown.append(_template(node))
        elif isinstance(node, kinds.ExternalLink):
            shown.append(_inner(node.title))
        elif isinstance(node, kinds.HTMLEntity):
            shown.append(node.normalize())
    return "".join(shown)


def _inner(code: "Wikicode | None") -> str:
    return _text(code.nodes) if code is not None else ""


def _link(node: Any) -> str:
    title = str(node.title)
    if title.lower().startswith(("file:", "image:", "media:", "category:")):
        return ""
    if node.text is not None:
        return _inner(node.text)
    # A leading colon and a sister project's name are not shown.
    return re.sub(r"^:?(wikt|wiktionary|s|w|q|b):", "", title.removeprefix(":"))


def _tag(node: Any) -> str:
    tag = str(node.tag).strip().lower()
    if tag in ("math", "chem"):
        return _HOLE
    if tag in _DROPPED_TAGS:
        return ""
    if tag == "br":
        return " "
    if tag in ("li", "dd", "dt") and node.wiki_markup:
        return str(node.wiki_markup)
    inner = _inner(node.contents)
    return f"^{inner}" if tag == "sup" and re.fullmatch(r"[-−+]?\d+", inner) else inner


def _template(node: Any) -> str:
    name = str(node.name).strip().lower()
    if name in _FIXED:
        return _FIXED[name]
    values = [_inner(p.value).strip() for p in node.params if not p.showkey]
    if name in ("convert", "cvt") and len(values) >= 2:
        return " ".join(values[: 4 if values[1] in _RANGES else 2])
    if name in ("frac", "fraction"):
        return "/".join(values[-2:])
    if name == "chem":
        return "".join(values)
    if name == "as of" and values:
        return f"As of {values[0]}"
    shown = _SHOWN_PARAMETER.get(name)
    if shown is not None and values:
        return values[-1] if shown < 0 else values[min(shown, len(values)) - 1]
    return "" if _SILENT.match(name) else _HOLE


def _paragraphs(text: str) -> tuple[str, ...]:
    """Returns the lines of prose, without the punctuation that dropped markup leaves."""
    kept = []
    # Bold and italics: unbalanced quotes are common, so they are removed as text and not parsed.
    text = re.sub(r"'{2,}(?=s\b)", "'", text)
    text = re.sub(r"'{2,}", "", text)
    for line in html.unescape(text).splitlines():
        line = re.sub(r"^(?:[*#:;]\s*)+", lambda marks: "- " if marks[0][0] in "*#" else "", line.strip())
        line = " ".join(line.replace("\u200b", "").split())
        line = re.sub(r"\(\s*(?:[;,:–]\s*|or )*", "(", line)
        line = re.sub(r"[\s;,](?<![\s;,].)[\s;,]*+\)", ")", line)
        line = re.sub(r"\s*\(\s*\)", "", line)
        line = re.sub(r" +([,.;:])(?=\s|$)", r"\1", line)
        line = re.sub(r"([,;:])[,;:]+(?=\s|$)", r"\1", line)
        broken = _HOLE in line or re.search(r"\{\{|\}\}|\[\[|\]\]|\||^!|</?\w+|__[A-Z]+__", line)
        if not broken and re.search(r"[^\W\d_]{2}", line):
            kept.append(line)
    return tuple(kept)
