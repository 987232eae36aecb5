"""Chooses among the variants of Chinese in wiki markup, such as `-{zh-hans:石头;zh-hant:石頭}-`."""

from __future__ import annotations

import re

_INNERMOST = re.compile(r"-\{(?!\{)([^{}]*)\}-(?!\})")
_RULE = re.compile(r"\s*(zh-?[a-z]*)\s*[:：]\s*(.*)", re.S)
_FLAGS = re.compile(r"\s*[A-Z;a-z\s-]*")
_SIMPLIFIED = "这国个们来时为会对发学后说过还没开关东车门问间长见书马鸟语"
_TRADITIONAL = "這國個們來時為會對發學後說過還沒開關東車門問間長見書馬鳥語"
_ORDER = {
    False: ("zh-hans", "zh-cn", "zh-sg", "zh-my", "zh", "zh-hant", "zh-tw", "zh-hk", "zh-mo"),
    True: ("zh-hant", "zh-tw", "zh-hk", "zh-mo", "zh", "zh-hans", "zh-cn", "zh-sg", "zh-my"),
}
_MAX_DEPTH = 4


def choose_variants(markup: str) -> str:
    """Returns markup with the variant of every `-{…}-` that has the characters of the article, traditional or not."""
    if "-{" not in markup:
        return markup
    traditional = sum(map(markup.count, _TRADITIONAL)) > sum(map(markup.count, _SIMPLIFIED))
    for _ in range(_MAX_DEPTH):
        markup, replaced = _INNERMOST.subn(lambda match: _chosen(match[1], _ORDER[traditional]), markup)
        if not replaced:
            break
    return markup


def _chosen(content: str, order: tuple[str, ...]) -> str:
    """Returns the shown text of the content of one `-{…}-`."""
    flags, bar, rules = content.partition("|")
    if bar and _FLAGS.fullmatch(flags):
        # T sets the title, H adds a rule and shows nothing, - removes one.
        if set(flags.replace(" ", "").split(";")) & {"T", "H", "-"}:
            return ""
        content = rules
    variants: dict[str, str] = {}
    for rule in content.split(";"):
        if (match := _RULE.fullmatch(rule)) or (match := re.fullmatch(r"[^:;]*=>\s*(zh-?[a-z]*)\s*[:：]\s*(.*)", rule)):
            variants[match[1].lower()] = match[2].strip()
    return next((variants[name] for name in order if name in variants), content)
