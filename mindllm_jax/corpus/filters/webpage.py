"""Extracts the text of an HTML page without the navigation, headers, footers and forms around it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mindllm_jax.corpus.filters.main_content import LINK, SENTENCE_END, article_lines, text_density
from mindllm_jax.corpus.filters.superscripts import write_superscripts

# Parts of a page around its text. dedup.lines removes what a site repeats elsewhere.
_SURROUNDINGS = (
    "nav, header, footer, aside, form, button, select, dialog, [role=dialog], [role=navigation], [aria-hidden=true],"
    " div.navheader, div.navfooter"  # of DocBook
)
_INVISIBLE = ("script", "style", "noscript", "template")
_HEADINGS = "h1, h2, h3, h4, h5, h6"
_NO_MENU = 0.99  # the density of a page without a menu, which the main-content heuristics cannot improve
_ARTICLE_SHARE = 2 / 3  # of the sentences of a page: a part that holds more of them is not around the article
# Bounds on the time for a hostile page: times its length, and parts. Other parts are removed without a look into them.
_MAX_EXAMINED, _MAX_PARTS = 8, 2000
_MAX_GLANCE = 20_000  # characters of the parts of a page
# Of elements. The time of the main-content heuristics grows with the square of the depth.
_MAX_DEPTH = 400
# On bytes in lower case, which takes half of the time that a pattern for any case takes on text.
_NESTED = re.compile(
    rb"<(/?)(?!(?:p|li|d[dt]|t[rdh]|option|br|img|input|hr|meta|link|wbr|area|col)(?![\w\x80-\xff]))[a-z]"
)


def page_text(page: str) -> tuple[str, float]:
    """Returns the text of a page with its paragraphs and lists, and its text density, 0 to 1.

    Navigation, headers, footers and forms are removed by their elements, and menus without such elements by
    resiliparse's main-content heuristics; see `article_lines`. The density is measured on the text that is left; see
    `text_density`.
    """
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(page.replace(LINK, ""))
    body = tree.body
    if body is None:
        return "", 0.0
    _remove_surroundings(body)
    write_superscripts(tree)
    _mark_links(body)
    text = extract_plain_text(tree, alt_texts=False)
    density = text_density(text)
    if density < _NO_MENU and not _is_deep(page):
        text = article_lines(text, extract_plain_text(tree, alt_texts=False, main_content=True))
        density = text_density(text)
    return text.replace(LINK, ""), density


def _remove_surroundings(body: Any) -> None:
    """Removes the parts around the article; one that holds the article, such as an unclosed `<nav>`, stays."""
    for tag in _INVISIBLE:
        for node in body.get_elements_by_tag_name(tag).values():
            node.decompose()
    parts = body.query_selector_all(_SURROUNDINGS).values()
    if not parts:
        return
    sentences = budget = 0
    if _have_sentences(parts):  # else none holds the article, and the text of the page is not needed
        text = body.text
        sentences = len(SENTENCE_END.findall(text))
        budget = _MAX_EXAMINED * len(text)
    skipped = 0  # parts inside of the removed one, which follow it
    for number, part in enumerate(parts):
        if skipped:
            skipped -= 1
            continue
        if number < _MAX_PARTS and _is_title(part):
            if part.tag == "button":  # resiliparse takes no text from it
                while (child := part.first_child) is not None:
                    part.parent.insert_before(child, part)
            continue
        if part.tag not in ("button", "select") and number < _MAX_PARTS and budget > 0:
            inner = part.text
            budget -= len(inner)
            if len(SENTENCE_END.findall(inner)) > _ARTICLE_SHARE * sentences:
                continue
        heading = _page_heading(body, part) if part.tag == "header" else None
        if heading is not None:
            part.parent.insert_before(heading, part)
        # A selector takes longer than a look at the next part.
        is_last = number + 1 == len(parts) or (number < _MAX_PARTS and not part.contains(parts[number + 1]))
        skipped = 0 if is_last and heading is None else len(part.query_selector_all(_SURROUNDINGS))
        part.decompose()


def _have_sentences(parts: Sequence[Any]) -> bool:
    """Returns whether one of the parts of a page has a sentence, True if they are too long to tell soon."""
    left = _MAX_GLANCE
    for part in parts:
        if part.tag not in ("button", "select"):
            inner = part.text
            left -= len(inner) + _MAX_GLANCE // 100  # so at most 100 parts, which may be nested
            if left < 0 or SENTENCE_END.search(inner):
                return True
    return False


def _is_title(part: Any) -> bool:
    """Returns whether a part is the header of an article or a button of a heading."""
    if part.tag == "header":
        return part.closest("article, main, [role=main]") is not None
    if part.tag == "button":
        return part.closest(_HEADINGS) is not None or part.query_selector(_HEADINGS) is not None
    return False


def _page_heading(body: Any, header: Any) -> Any | None:
    """Returns the `<h1>` of a page's header if it is the title of the page and not the site's name, which is a link."""
    heading = header.query_selector("h1")
    if heading is None or heading.query_selector("a") is not None or heading.closest("a") is not None:
        return None
    return heading if len(body.query_selector_all("h1")) == 1 else None


def _mark_links(body: Any) -> None:
    """Puts `LINK` around the words of links that are not part of a sentence, as in menus and lists of headlines."""
    after = None
    for link in body.query_selector_all("a[href]").values():
        if _has_letter(link.prev):
            continue
        after = link.next  # kept: the next link may have the same node before it, and a new object takes time
        if _has_letter(after):
            continue
        node = link.first_child
        while node is not None and (child := node.first_child) is not None:
            node = child
        if node is not None and node.tag == "#text" and (words := node.value.strip()):
            node.value = node.value.replace(words, f"{LINK}{words}{LINK}", 1)


def _is_deep(page: str) -> bool:
    """Returns whether the elements of a page may be nested too deeply for the main-content heuristics."""
    return page.count("<") - page.count("</") > _MAX_DEPTH and _depth(page) > _MAX_DEPTH


def _depth(page: str) -> int:
    """Returns how deeply the elements of a page are nested at most, as if each that must be closed were."""
    depth = most = 0
    for closing in _NESTED.findall(page.encode().lower()):
        if not closing:
            depth += 1
            most = max(most, depth)
        elif depth:  # a closing tag without an element is ignored
            depth -= 1
    return most


def _has_letter(node: Any | None) -> bool:
    """Returns whether a node is text with a letter."""
    return node is not None and node.tag == "#text" and any(map(str.isalpha, node.value))
