"""Writes the superscripts and subscripts of a page as text: `10^170`, `x_i`."""

from __future__ import annotations

import re
from typing import Any

_MAX_CHARS = 12  # longer ones are small print
_MAX_CHILDREN, _MAX_DEPTH = 8, 3
_EXPONENT = re.compile(r"[-−+–]?(?:\d+|[^\W\d_])[-−+]?|[-−+]|[-−+–(\w][-−+–\w./,*()= ]*")
_SIMPLE = re.compile(r"[-−+–]?\w+[-−+]?|[-−+]")
_WORD = re.compile(r"[^\W\d_]{2,}")  # 1st, 3rd, Mlle, TM
_ORDINAL = re.compile("[eoar]", re.I)  # after a digit
_FOOTNOTE = re.compile(r"[\[［(（]\w{1,4}[\]］)）]|[*†‡§¶]+")
_SENTENCE_MARK = tuple(".,;:!?\"”’'。，；：！？、")
# A chemical element, a group of atoms or a large letter: H2O, Na2, (OH)2.
_ELEMENT = re.compile(r"(?:(?<![^\W\d_])[A-Z][a-z]?|[A-Z]|[)\]])$")


def write_superscripts(tree: Any) -> None:
    """Writes a superscript as `^170` or `^(2n+1)` and a subscript as `_i` in a tree; removes marks of footnotes.

    Words, such as in 1st, and the numbers of chemical formulas, such as in H2O, are not changed.
    """
    if not any(len(tree.body.get_elements_by_tag_name(tag)) for tag in ("sup", "sub")):  # sooner than by a selector
        return
    for node in tree.body.query_selector_all("sup, sub").values():
        script, is_link = _text(node)
        before = ((node.prev.text or "")[-3:] if node.prev is not None else "").replace("\n", " ")
        if node.tag == "sup" and (is_link or _is_footnote(script, before)):
            node.decompose()
            continue
        if not 0 < len(script) <= _MAX_CHARS or not _EXPONENT.fullmatch(script):
            continue
        if not (before[-1:].isalnum() or before.endswith((")", "]", "}"))):
            continue
        if node.tag == "sup":
            if _WORD.fullmatch(script) or (before[-1].isdigit() and _ORDINAL.fullmatch(script)):
                continue
            sign = "^"
        elif script.isdigit() and _ELEMENT.search(before):
            continue
        else:
            sign = "_"
        simple = _SIMPLE.fullmatch(script)
        node.insert_before(tree.create_text_node(sign if simple else f"{sign}("), node.first_child)
        if not simple:
            node.append_child(tree.create_text_node(")"))


def _text(node: Any) -> tuple[str, bool]:
    """Returns the text of a small node and whether it has a link; "" for a large one."""
    child, parts, is_link = node.first_child, [], False
    while child is not None:
        leaf = child
        for _ in range(_MAX_DEPTH):
            if leaf.tag == "#text" or leaf.first_child is None or leaf.first_child.next is not None:
                break
            is_link = is_link or leaf.tag == "a"
            leaf = leaf.first_child
        is_link = is_link or leaf.tag == "a"
        if leaf.tag != "#text" or len(parts) == _MAX_CHILDREN:
            return "", is_link
        parts.append(leaf.value)
        child = child.next
    return "".join(parts).strip(), is_link


def _is_footnote(script: str, before: str) -> bool:
    """Returns whether a superscript is a footnote's mark: `[1]`, `*`, or a number behind a sentence or a clause."""
    if not before.strip():
        return False
    return _FOOTNOTE.fullmatch(script) is not None or (script.isdigit() and before.endswith(_SENTENCE_MARK))
