"""Replaces personal data and secrets by typed markers."""

from __future__ import annotations

import re

from datatrove.data import Document

from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.corpus.filters.privacy_patterns import GROUPS, Pattern
from mindllm_jax.corpus.outcomes import record


class Privacy(CleaningFilter):
    """Replaces personal data and secrets by typed markers.

    The markers are `<email>`, `<phone>`, `<id_number>`, `<passport>`, `<plate>`, `<account>` (WeChat, QQ),
    `<bank_card>`, `<ip>`, `<key>`, `<password>`. Numbers with a check digit are replaced if it is right, IP addresses
    if they are public. Digits inside longer numbers, words and paths are not replaced, as in hashes, identifiers and
    prices. It records an outcome `changed` per kind of data that a document had.
    """

    name = "Privacy"

    def apply(self, document: Document) -> str | None:
        """Cleans the document in place; returns a drop reason or None."""
        document.text, replaced = without_personal_data(document.text)
        for marker, matches in replaced.items():
            size = sum(len(match.encode()) for match in matches)
            record(self, document.metadata["source"], "changed", marker, bytes=size)
        return None


def without_personal_data(text: str) -> tuple[str, dict[str, list[str]]]:
    """Returns the text with markers, and by marker what they replace."""
    replaced: dict[str, list[str]] = {}
    for group in GROUPS:
        if not group.needs(text):
            continue
        if group.lines:
            lines = text.split("\n")
            for number, line in enumerate(lines):
                if group.needs(line):
                    lines[number] = _replace(line, group.patterns, replaced)
            text = "\n".join(lines)
        else:
            text = _replace(text, group.patterns, replaced)
    return text, replaced


def _replace(text: str, patterns: tuple[Pattern, ...], replaced: dict[str, list[str]]) -> str:
    """Replaces the matches of all patterns in a text; adds them to `replaced`."""
    for pattern in patterns:
        if pattern.signs and not any(sign in text for sign in pattern.signs):
            continue

        def replace(match: re.Match[str], pattern: Pattern = pattern) -> str:
            if not pattern.check(match):
                return match[0]
            value = match["value"] if "value" in pattern.regex.groupindex else match[0]
            replaced.setdefault(pattern.marker, []).append(value)
            return f"{match[0].removesuffix(value)}<{pattern.marker}>"

        text = pattern.regex.sub(replace, text)
    return text
