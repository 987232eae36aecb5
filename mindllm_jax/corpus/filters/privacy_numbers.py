"""Patterns of personal numbers: identity numbers, bank cards, passports, QQ accounts, telephones."""

from __future__ import annotations

import re

from mindllm_jax.corpus.filters import privacy_checks as checks
from mindllm_jax.corpus.filters.privacy_search import Group, Pattern, matches

_AREA = "(?:10|2\\d|[3-9]\\d\\d)"  # of China, without the 0 before it
_LOCAL = "[2-9]\\d{2,3}[ —–-]?\\d{4}"
_SAID = r"[ .:：#=（(]*(?:是|为|(?i:is|at|on)(?= ))?[ :：]*"

NUMBERS = Group(
    matches(
        r"[0-9)）](?:(?<=[0-9])(?:\d{5}|\d{2,3}[ -]\d{4}(?!\d)|[ —–-][(（]?\d{2,6}[)）]?[ —–-]\d"
        r"|\.\d{3,4}\.\d{4}|·\d{4}·\d{4})|(?<=[)）])[ -]?\d{2})"
    ),
    (
        Pattern(
            "id_number",
            re.compile(r"[1-8](?<![\w.].)(?:[ -]?\d){16}[ -]?[\dXx](?!\w|\.\d)", re.ASCII),
            checks.is_identity_match,
        ),
        Pattern(
            "id_number",
            re.compile(r"身份证(?:件?号码?|件)?[^\w\n]{0,3}(?P<value>[1-8]\d{14})(?!\w)", re.ASCII),
            checks.is_old_identity_match,
            ("身份证",),
        ),
        Pattern(
            "id_number",
            re.compile(
                rf"(?<![A-Za-z])(?i:ssn|social security)(?i: (?:number|no\.?|#))?{_SAID}"
                r"(?P<value>(?!000|666|9)\d{3}[ -](?!00)\d\d[ -](?!0000)\d{4})(?!\w|-\d)",
                re.ASCII,
            ),
            lambda match: True,
            ("SSN", "ssn", "ecurity"),
        ),
        Pattern(
            "bank_card",
            # Not in a path, a hexadecimal number or a name: identifiers and times in them often pass the check digit.
            re.compile(
                r"\d(?<![\w./#-].)\d{3}(?:([ -]?)\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?|([ -]?)\d{6}\2\d{5})(?![\w/-]|\.\d)",
                re.ASCII,
            ),
            lambda match: checks.is_bank_card(match[0]),
        ),
        Pattern(
            "passport",
            re.compile(
                r"(?:护照|通行证|回乡证|台胞证|(?i:passport))(?:号码?|编号|(?i: (?:no\.?|number|num\.?|id)))*"
                rf"{_SAID}(?P<value>[A-Z]{{1,2}}\d{{6,8}}|\d{{8,9}})(?!\w)",
                re.ASCII,
            ),
            checks.is_passport,
            ("护照", "证", "assport", "ASSPORT"),
        ),
        Pattern(
            "passport",
            re.compile(r"[A-Z](?<![A-Za-z0-9].)(?:\d{8}|[A-Z]\d{7})(?= ?号?(?:普通|因私|因公)?(?:护照|通行证))"),
            lambda match: True,
            ("护照", "通行证"),
        ),
        Pattern(
            "account",
            re.compile(
                r"(?<![A-Za-z])(?:QQ|qq|扣扣)(?:号码?|账号|[交流讨论]*群号?|(?i: (?:group|number|no\.?|id)))*"
                rf"{_SAID}(?P<value>[1-9]\d{{5,10}})(?!\w|\.\d)",
                re.ASCII,
            ),
            checks.is_account,
            ("QQ", "qq", "扣扣"),
        ),
        Pattern(
            "phone",
            # Chinese mobiles; Chinese landlines with their area; Taiwan; Britain; North America; international numbers.
            re.compile(
                r"(?=[0-9(（+])(?<![\w./+-])(?:(?:[(（]?(?:\+|00)?86[)）]?[ -]?)?"
                r"(?:1[3-9]\d(—{1,2}|[ .·–-]?)\d{4}\1\d{4}|1[3-9]\d\d([ -])\d{3}\2\d{4})"
                rf"|(?:(?:(?:\+|00)?86[ -]?)?(?:[(（]?0{_AREA}[)）][ -]?|0{_AREA}(?:—{{1,2}}| ?[–-] ?| ))"
                rf"|(?:(?:\+|00)86[ -]?(?:\(0\))?[(（]?0?{_AREA}[)）]?[ -]?|86-{_AREA}-)){_LOCAL}"
                r"(?:(?: ?转 ?|-)\d{2,5})?"
                r"|09\d\d-\d{3}-\d{3}|[(（]0[2-8][)）] ?\d{4}[ -]\d{4}|0[2-8]-(?!20[0-3]\d)[2-9]\d{3}-\d{4}"
                r"|0[17]\d{3} (?:\d{6}|\d{3} \d{3})|01\d\d \d{3} \d{4}"
                r"|(?P<american>(?:1[ .-])?(?:\([2-9]\d\d\) ?[2-9]\d\d[ .-]\d{4}|[2-9]\d\d([.-])[2-9]\d\d\4\d{4})"
                r"(?:,? (?:ext\.?|x) ?\d{1,5})?)"
                r"|(?<![])])(?P<foreign>\+(?!86)(?:"
                r"[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]\d{2,5}){0,4}[ .-]\d{2,8}|[1-9]\d{9,13}(?!\*))"
                r"|00(?!86)[1-9]\d{0,2}[ -]\(?\d{1,4}\)?(?:[ -]\d{2,4}){0,3}[ -]\d{2,8})"
                r")(?!\w|-\d|\.\d)",
                re.ASCII,
            ),
            checks.is_phone,
        ),
        Pattern(
            "phone",
            re.compile(
                r"(?:电话|電話|手机|手機|座机|传真|傳真|Tel|tel|TEL|Telephone|telephone|Phone|phone|PHONE|Fax|fax|FAX"
                r"|Mobile|mobile|Cell|cell|Call|call)"
                rf"(?:号码?|(?i: (?:no\.?|number)))*{_SAID}"
                r"(?P<value>0(?:10|2\d)\d{8}|0[3-9]\d{9,10}|[2-9]\d{2,3}[ -]?\d{4}"
                r"|(?![48]00)[2-9]\d\d ?[2-9]\d\d ?\d{4})(?!\w|-\d|\.\d)",
                re.ASCII,
            ),
            checks.is_listed_phone,
            ("电话", "電話", "手", "座机", "传真", "傳真", "el", "TEL", "hone", "HONE", "ax", "AX", "obile", "all "),
        ),
    ),
)
