"""Personal data and secrets become typed markers."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from ipaddress import ip_address
from typing import NamedTuple

from datatrove.data import Document

from mindllm_jax.corpus.blocks.block import Block


class Pattern(NamedTuple):
    """What is replaced by `<marker>`: matches of `regex` that `check` accepts, in texts that hold `needs`."""

    marker: str
    needs: Callable[[str], object]
    regex: re.Pattern[str]
    check: Callable[[str], bool]


def is_identity_number(number: str) -> bool:
    """Whether 18 characters are a resident identity number: a date of birth and a right check digit (GB 11643-1999)."""
    try:
        date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(pow(2, 17 - place, 11) * int(digit) for place, digit in enumerate(number[:17]))
    return "10X98765432"[total % 11] == number[17].upper()


def is_bank_card(number: str) -> bool:
    """Whether 13 to 19 digits, blanks and hyphens aside, are a card's, with a right Luhn digit (ISO/IEC 7812)."""
    digits = re.sub(r"\D", "", number)
    if not 13 <= len(digits) <= 19 or digits[0] not in "3456" or len(set(digits)) < 4:
        return False
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


def _is_public(address: str) -> bool:
    try:
        return ip_address(address).is_global
    except ValueError:
        return False


def _is_personal(address: str) -> bool:
    """Not one of the names that stand for no one (RFC 2606), nor a name at no place, as git@ or root@."""
    return not re.search(r"@(?:.*\.)?(?:example|test|invalid|localhost)(?:\.(?:com|net|org))?$", address, re.I)


def _always(_: str) -> bool:
    return True


# Patterns begin with what they match and look behind it, not before: so the search can skip to such a character.
_DIGITS = re.compile(r"\d(?:\d{6}|[ -]\d{3,4}[ -]\d)").search
_DOTS = re.compile(r"\.\d{1,3}\.\d").search
_COLONS = re.compile(r":[0-9a-fA-F]{0,4}:").search


def _has_address(text: str) -> bool:
    return bool(_DOTS(text) or _COLONS(text))


PATTERNS = (
    Pattern(
        "email",
        lambda text: "@" in text,
        re.compile(
            r"[A-Za-z0-9](?<![\w.+-].)[\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,18}(?![\w-])", re.ASCII
        ),
        _is_personal,
    ),
    Pattern(
        "key",
        re.compile(r"-----BEGIN|AKIA|gh[pousr]_|sk-|xox|AIza|LTAI").search,
        re.compile(
            r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----.*?-----END (?:[A-Z]+ )*PRIVATE KEY-----"
            r"|(?<![A-Za-z0-9])(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|sk-[A-Za-z0-9_-]{32,}"
            r"|xox[abprs]-[A-Za-z0-9-]{20,}|AIza[\w-]{35}|LTAI[A-Za-z0-9]{12,20})(?![A-Za-z0-9])",
            re.DOTALL,
        ),
        _always,
    ),
    Pattern("id_number", _DIGITS, re.compile(r"[1-9](?<![\dA-Za-z].)\d{16}[\dXx](?![\dA-Za-z])"), is_identity_number),
    Pattern(
        "bank_card", _DIGITS, re.compile(r"[3-6](?<![\d.-].)\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?![\d.-])"), is_bank_card
    ),
    Pattern(
        "phone",
        _DIGITS,
        re.compile(
            # Chinese mobiles; Chinese landlines with their area; North American and international numbers.
            r"(?<![\dA-Za-z./_-])(?:(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}"
            r"|0\d{2,3}-[2-9]\d{6,7}|\(0\d{2,3}\) ?[2-9]\d{6,7}|\+\d{1,3}[ -]\d{2,4}[ -]\d{3,4}[ -]?\d{3,4}"
            r"|\(\d{3}\) ?\d{3}-\d{4}|[2-9]\d{2}-[2-9]\d{2}-\d{4})(?![\dA-Za-z]|-\d)"
        ),
        _always,
    ),
    Pattern(
        "ip",
        _has_address,
        re.compile(
            r"(?<![\w.:-])(?:\d{1,3}(?:\.\d{1,3}){3}(?![\w.-]|\.\d)|(?:[0-9a-fA-F]{1,4}:){2,7}(?::?[0-9a-fA-F]{1,4}){1,6}(?![\w:]))"
        ),
        _is_public,
    ),
)


class Privacy(Block):
    """Replaces personal data and secrets by `<email>`, `<phone>`, `<id_number>`, `<bank_card>`, `<ip>`, `<key>`.

    Numbers with a check digit are replaced where it is right, addresses where they are public: what cannot be a
    person's stays. How many of each were replaced is counted as `replaced|MARKER`.
    """

    name = "Privacy"

    def judge(self, document: Document) -> str | None:
        """See `Block`."""
        document.text, counts = without_personal_data(document.text)
        for marker, count in counts.items():
            self.stat_update(f"replaced|{marker}", value=count, unit="doc")
        return None


def without_personal_data(text: str) -> tuple[str, dict[str, int]]:
    """The text with markers, and how many of each."""
    counts: dict[str, int] = {}
    # A search for a sure sign first: most texts hold nothing, and it is ten times as fast.
    there = {needs: needs(text) for needs in {pattern.needs: None for pattern in PATTERNS}}
    for pattern in PATTERNS:
        if not there[pattern.needs]:
            continue

        def replaced(match: re.Match[str], pattern: Pattern = pattern) -> str:
            if not pattern.check(match[0]):
                return match[0]
            counts[pattern.marker] = counts.get(pattern.marker, 0) + 1
            return f"<{pattern.marker}>"

        text = pattern.regex.sub(replaced, text)
    return text, counts
