"""Extracts the prose of an article from wiki markup."""

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mindllm_jax.corpus.filters.wikitemplates import DROPPED, HOLE, NOTE, template_text, write_dates
from mindllm_jax.corpus.filters.wikivariants import choose_variants

if TYPE_CHECKING:
    from mwparserfromhell.wikicode import Wikicode

# Sections that list things about the article and have no prose.
_APPENDICES = re.compile(
    r"""(.*\ )?(references|bibliography|footnotes|endnotes|citations|links|further\ reading|see\ also)(\ and\ .*)?
    |notes|sources|gallery|publications|discography|filmography|(list\ of\ |selected\ )?works(\ cited)?
    |((参考|參考|参照|參照)?(文献|文獻|资料|資料|书目|書目|来源|來源)|参考|參考|参照|參照|引用
      |(外部|相关|相關)(链接|鏈接|連結|連接|リンク|资讯|資訊)|(外部|相关|相關|官方|参考|參考)?(网站|網站|网址|網址|网页|網頁)
      |(参见|參見|参看|參看|另见|另見|参阅|參閱)|(相关|相關|関連)(条目|條目|項目)|(延伸|扩展|擴展|进阶|進階)(阅读|閱讀)
      |[注註脚腳][释釋解注註记記脚腳]|[图圖][库庫集]|画廊|畫廊|[和与與及、/ ])+
    |einzelnachweise|weblinks|literatur|siehe\ auch|(notes\ et\ )?références|voir\ aussi|liens\ externes|bibliographie
    |referencias|véase\ también|enlaces\ externos|bibliografía|примечания|ссылки|литература|см\.\ также
    |quellen|referências|ver\ também|ligações\ externas|note|bibliografia|voci\ correlate|altri\ progetti
    |collegamenti\ esterni|bronnen|zie\ ook|externe\ links?|przypisy|linki\ zewnętrzne|zobacz\ też|примітки|посилання
    |література|див\.\ також|각주|참고\ 문헌|외부\ 링크|같이\ 보기""",
    re.IGNORECASE | re.VERBOSE,
)
# Their content is not prose, or (references) interrupts it.
_DROPPED_TAGS = frozenset(
    {"gallery", "hiero", "hr", "imagemap", "ref", "references", "score", "source", "syntaxhighlight", "timeline"}
    | {"table", "td", "th", "tr"}
)
# Links that are not shown: pictures, categories, and the same article in other languages.
_HIDDEN_LINK = re.compile(
    r"""\s*(?:file|image|media|category|文件|檔案|档案|文檔|图像|圖像|媒体|媒體|分类|分類|ファイル|画像|カテゴリ|파일|분류
    |datei|bild|kategorie|fichier|catégorie|archivo|imagen|categoría|файл|изображение|категория)\s*:
    |(?:[a-z]{2,3}|zh-[a-z-]+|simple|be-x-old|roa-[a-z]+|bat-smg|fiu-vro|map-bms|nds-nl|cbk-zam):(?!//)
    |(?!\s*:).*\.(?:jpe?g|png|svg|gif|tiff?|og[gv]|web[mp]|pdf|djvu)\s*$""",
    re.IGNORECASE | re.VERBOSE,
)
# Categories in any language: lines of nothing but links with a name before a colon.
_CATEGORIES = re.compile(r"^[ \t]*+(?:\[\[[^\[\]|:\n]{1,40}:(?!\s)[^\[\]\n]*+\]\][ \t]*+)++$", re.M)
# Markup that a line of prose does not have: what the parser could not read.
_MARKUP = re.compile(r"\{\{|\}\}|\[\[|\]\]|\||^!|</?[a-zA-Z]|__[A-Z]+__")
# Punctuation around what is not shown (@), and what takes its place.
_REMAINS = tuple(
    (re.compile(pattern.replace("@", DROPPED)), replacement)
    for pattern, replacement in (
        (r"（[@；，、：;,:\s]*+）", ""),
        (r"（[@；，、：;,:\s]++", "（"),
        (r"(?<![@；，、：;,:\s])[@；，、：;,:\s]++）", "）"),
        (r"([，、；：])[@\s]*+[，、；：]++", r"\1"),
        (r"(?<!\s)\s*+\([@\s;,:–]*+\)", ""),
        (r"\((?:[@\s;,:–]|or\b)++", "("),
        (r"(?<![@\s;,])[@\s;,]++\)", ")"),
        (r"([,;:])[@ ]*+[,;:]++(?=[\s@]|$)", r"\1"),
        (r"(?<![@ ])[@ ]++([,.;:])(?=[\s@]|$)", r"\1"),
    )
)
# An unknown template that is a note: without words behind a word or a mark, or of any kind behind a sentence.
_NOTES = (
    re.compile(
        rf"(?<=[^\W\d_\u3040-\u9fff\uac00-\ud7af]){NOTE}+(?!\w)|(?<=[.,;:!?)\]»”\"，、；：）」』》”]){NOTE}+(?!\w)"
    ),
    re.compile(rf"(?<=[.!?])[{HOLE}{NOTE}]+(?=\s|$)|(?<=[。！？])[\s{HOLE}{NOTE}]++$"),
)


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

    for node in mwparserfromhell.parse(_CATEGORIES.sub("", choose_variants(markup)), skip_style_tags=True).nodes:
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
        text = ""
        if isinstance(node, kinds.Text):
            text = str(node)
        elif isinstance(node, kinds.Wikilink):
            text = _link(node)
        elif isinstance(node, kinds.Tag):
            text = _tag(node)
        elif isinstance(node, kinds.Template):
            starts_line = next((text[-1] == "\n" for text in reversed(shown) if text != DROPPED), True)
            text = _template(node, starts_line=starts_line)
            if shown and shown[-1][-1:].isdigit() and text[:1].isdigit():
                text = " " + text  # 2{{frac|1|2}} is 2 1/2
        elif isinstance(node, kinds.ExternalLink):
            text = _inner(node.title)
        elif isinstance(node, kinds.HTMLEntity):
            text = node.normalize()
        shown.append(text or DROPPED)
    return "".join(shown)


def _inner(code: "Wikicode | None") -> str:
    return _text(code.nodes) if code is not None else ""


def _link(node: Any) -> str:
    title = str(node.title)
    if ":" in title and _HIDDEN_LINK.match(title):
        return ""
    if node.text is not None:
        return _inner(node.text)
    # A leading colon and the name of a sister project or of a language are not shown.
    if ":" not in title:
        return title
    return re.sub(r"^(?::[a-z-]{2,12}|:?(?:wikt|wiktionary|s|w|q|b)):", "", title).removeprefix(":")


def _tag(node: Any) -> str:
    tag = str(node.tag).strip().lower()
    if tag in ("math", "chem"):
        return HOLE
    if tag in _DROPPED_TAGS:
        return ""
    if tag == "br":
        return " "
    if tag in ("li", "dd", "dt") and node.wiki_markup:
        return str(node.wiki_markup)
    inner = _inner(node.contents)
    return f"^{inner}" if tag == "sup" and re.fullmatch(r"[-−+]?\d+", inner) else inner


def _template(node: Any, *, starts_line: bool) -> str:
    parameters = [_inner(p.value).replace(DROPPED, "").strip() for p in node.params if not p.showkey]
    text = template_text(str(node.name).strip().lower(), parameters)
    # A template of several lines in front of a paragraph is a box beside it.
    return "" if text in (HOLE, NOTE) and starts_line and "\n" in str(node) else text


def _paragraphs(text: str) -> tuple[str, ...]:
    """Returns the lines of prose without markup."""
    kept = []
    # Bold and italics: unbalanced quotes are common, so they are removed as text and not parsed.
    text = re.sub(r"(?<!')'{2,}+(?=s\b)", "'", text)
    text = re.sub(r"'{2,}", "", text)
    for line in html.unescape(text).splitlines():
        line = re.sub(rf"^[\s{DROPPED}]+", "", line)
        line = re.sub(r"^(?:[*#:;]\s*)+", lambda marks: "- " if marks[0][0] in "*#" else "", line)
        line = write_dates(line)
        for note in _NOTES:
            line = note.sub(DROPPED, line)
        if DROPPED in line:
            line = _without_remains(line)
        line = " ".join(line.replace("\u200b", "").replace("（；", "（").split())
        broken = HOLE in line or NOTE in line or _MARKUP.search(line)
        if not broken and re.search(r"[^\W\d_]{2}", line):
            kept.append(line)
    return tuple(kept)


def _without_remains(line: str) -> str:
    """Returns a line without the marks of what is not shown and without the punctuation that it leaves."""
    for pattern, replacement in _REMAINS:
        line = pattern.sub(lambda match, new=replacement: match.expand(new) if DROPPED in match[0] else match[0], line)
    return line.replace(DROPPED, "")
