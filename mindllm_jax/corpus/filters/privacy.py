"""Replaces personal data and secrets by typed markers."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from ipaddress import ip_address
from typing import NamedTuple

from datatrove.data import Document

from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.corpus.outcomes import record


class Pattern(NamedTuple):
    """A kind of personal data: matches of `regex` that `check` accepts are replaced by `<marker>`.

    Only texts for which `needs` is true are searched and, if no match spans lines (`lines`), only lines for which it is
    true: it is a necessary condition that is ten times as fast.
    """

    marker: str
    needs: Callable[[str], object]
    regex: re.Pattern[str]
    check: Callable[[str], bool]
    lines: bool = True


def is_identity_number(number: str) -> bool:
    """Whether 18 characters are a resident identity number: a date of birth and a right check digit (GB 11643-1999)."""
    try:
        date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(pow(2, 17 - place, 11) * int(digit) for place, digit in enumerate(number[:17]))
    return "10X98765432"[total % 11] == number[17].upper()


# Prefixes and lengths of the large networks: American Express; Visa, Mastercard, JCB and Discover; UnionPay and debit
# cards of Chinese banks. One number in ten has a right check digit by chance, and most numbers are not cards.
_CARD = re.compile(
    r"3[47]\d{13}|(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|35[2-8]\d|6011|64[4-9]\d|65\d\d)\d{12}|62\d{14,17}|9558\d{15}", re.A
)


def is_bank_card(number: str) -> bool:
    """Whether digits, apart from blanks and hyphens, are a card number with a right Luhn digit (ISO/IEC 7812)."""
    digits = re.sub(r"[ -]", "", number)
    if not _CARD.fullmatch(digits) or len(set(digits)) < 4:
        return False
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


def is_personal_address(address: str) -> bool:
    """Whether an email address may be a person's: no reserved name (RFC 2606), service account or `image@2x.png`."""
    return not re.search(
        r"^(?:git|hg|svn|no-?reply)@"
        r"|@(?:.*\.)?(?:example|test|invalid|localhost)(?:\.(?:com|net|org))?$"
        r"|@\d(?:\.\d+)?x\.\w+$"
        r"|\.(?:service|socket|target|mount|timer|png|jpe?g|gif|svg|webp|js|mjs|css|json|html?|tgz|gz|zip|pub)$",
        address,
        re.I,
    )


def is_public_address(address: str) -> bool:
    """Whether an IP address is public.

    Four small numbers are more often a section, a version (`version 1.2.3.4`) or a well-known server (8.8.8.8).
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if ip.version == 4 and (max(ip.packed) < 32 or ip.packed[3] == 0):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _has_phone_digits(number: str) -> bool:
    return 10 <= sum(map(str.isdigit, number)) <= 15


def _is_secret(key: str) -> bool:
    # A name of words and hyphens is not a secret.
    return any(map(str.isdigit, key)) or key.startswith("-----")


# These begin with a literal or one class of characters, so that a search skips to the next of them.
_DIGITS = re.compile(r"[0-9)](?:(?<=[0-9])(?:\d{6}|[ -]\(?\d{2,6}\)?[ -]\d)|(?<=\))[ -]?\d{2})", re.A).search
_DOTS = re.compile(r"\.\d{1,3}\.\d", re.A).search
_COLON = re.compile(r":(?<=[23][0-9a-fA-F]{3}:)[0-9a-fA-F:]").search
_KEYS = ("-----BEGIN", "AKIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "sk-", "xox", "AIza", "LTAI")


def _has_key(text: str) -> bool:
    return any(sign in text for sign in _KEYS)


def _has_address(text: str) -> object:
    return _DOTS(text) or _COLON(text)


PATTERNS = (
    Pattern(
        "email",
        lambda text: "@" in text,
        re.compile(
            r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,18}(?![\w-])", re.ASCII
        ),
        is_personal_address,
    ),
    Pattern(
        "key",
        _has_key,
        re.compile(
            # Only up to the next five hyphens: a search for a missing end takes quadratic time.
            r"-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY-----(?:(?!-----).)*+-----END (?:[A-Z]+ ){0,3}PRIVATE KEY-----"
            r"|(?<![A-Za-z0-9])(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|sk-[A-Za-z0-9_-]{32,200}"
            r"|xox[abprs]-[A-Za-z0-9-]{20,200}|AIza[A-Za-z0-9_-]{35}|LTAI[A-Za-z0-9]{12,20})(?![A-Za-z0-9])",
            re.DOTALL,
        ),
        _is_secret,
        lines=False,
    ),
    Pattern(
        "id_number",
        _DIGITS,
        re.compile(r"(?<![\w.])[1-8]\d{5}(?:19|20)\d{9}[\dXx](?!\w|\.\d)", re.ASCII),
        is_identity_number,
    ),
    Pattern(
        "bank_card",
        _DIGITS,
        # Not in a path, a hexadecimal number or a name: identifiers and times in them often pass the check digit.
        re.compile(
            r"(?<![\w./#-])(?:\d{4}([ -]?)\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?|\d{4}([ -]?)\d{6}\2\d{5})(?![\w/-]|\.\d)",
            re.ASCII,
        ),
        is_bank_card,
    ),
    Pattern(
        "phone",
        _DIGITS,
        re.compile(
            # Chinese mobiles; Chinese landlines with their area; international numbers; North American ones.
            r"(?<![\w./+-])(?:(?:(?:\+|00)?86[ -]?)?1[3-9]\d([ -]?)\d{4}\1\d{4}"
            r"|(?:\+86[ -]?)?(?:\(0(?:10|2\d|[3-9]\d\d)\) ?|0(?:10|2\d|[3-9]\d\d)[ -])[2-9]\d{2,3}[ -]?\d{4}"
            r"|(?<![])])\+(?:[1-9]\d{0,2}[ -]?(?:\(\d{1,4}\)[ -]?)?\d{1,4}(?:[ -]\d{2,4}){1,5}|[1-9]\d{9,13}(?!\*))"
            r"|\([2-9]\d{2}\) ?[2-9]\d{2}-\d{4}|[2-9]\d{2}-[2-9]\d{2}-\d{4})(?!\w|-\d|\.\d)",
            re.ASCII,
        ),
        _has_phone_digits,
    ),
    Pattern(
        "ip",
        _has_address,
        re.compile(
            r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\w)"
            # Public ones begin with 2 or 3: others with colons are times or hardware addresses.
            r"|(?<![\w.:-])[23][0-9a-f]{3}:[0-9a-f:]{1,33}[0-9a-f](?![\w:])",
            re.ASCII | re.IGNORECASE,
        ),
        is_public_address,
    ),
)


class Privacy(CleaningFilter):
    """Replaces personal data and secrets by `<email>`, `<phone>`, `<id_number>`, `<bank_card>`, `<ip>`, `<key>`.

    Numbers with a check digit are replaced if it is right, IP addresses if they are public. Digits inside longer
    numbers, words and paths are not replaced, as in hashes, identifiers and prices. It records an outcome `changed` per
    kind of data that a document had.
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
    possible = {needs: needs(text) for needs in {pattern.needs for pattern in PATTERNS}}
    for pattern in PATTERNS:
        if not possible[pattern.needs]:
            continue

        def replace(match: re.Match[str], pattern: Pattern = pattern) -> str:
            if not pattern.check(match[0]):
                return match[0]
            replaced.setdefault(pattern.marker, []).append(match[0])
            return f"<{pattern.marker}>"

        if pattern.lines:
            lines = text.split("\n")
            text = "\n".join(pattern.regex.sub(replace, line) if pattern.needs(line) else line for line in lines)
        else:
            text = pattern.regex.sub(replace, text)
    return text, replaced
