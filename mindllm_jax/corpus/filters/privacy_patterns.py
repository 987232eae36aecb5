"""Patterns of personal data and secrets, in the order in which they are replaced."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from mindllm_jax.corpus.filters import privacy_checks as checks


class Pattern(NamedTuple):
    """A kind of personal data: matches of `regex` that `check` accepts are replaced by `<marker>`.

    If `regex` has a group `value`, with which it ends, only the group is replaced. `sign` is a substring, one of which
    a line must have; it saves most searches.
    """

    marker: str
    regex: re.Pattern[str]
    check: Callable[[re.Match[str]], bool]
    signs: tuple[str, ...] = ()


class Group(NamedTuple):
    """Patterns that share a necessary condition, which is ten times as fast as the search.

    Only texts for which `needs` is true are searched and, if no match spans lines (`lines`), only lines for which it is
    true.
    """

    needs: Callable[[str], object]
    patterns: tuple[Pattern, ...]
    lines: bool = True


def _has(*signs: str) -> Callable[[str], bool]:
    def has(text: str) -> bool:
        for sign in signs:
            if sign in text:
                return True
        return False

    return has


# These begin with a literal or one class of characters, so that a search skips to the next of them.
_NUMBER = re.compile(
    r"[0-9)）](?:(?<=[0-9])(?:\d{5}|[ —–-][(（]?\d{2,6}[)）]?[ —–-]\d|\.\d{3,4}\.\d{4}|·\d{4}·\d{4})"
    r"|(?<=[)）])[ -]?\d{2})",
    re.A,
).search
_DOTS = re.compile(r"\.\d{1,3}\.\d", re.A).search
_COLON = re.compile(r":(?<=[23][0-9a-fA-F]{3}:)[0-9a-fA-F:]").search
_TOKEN = re.compile(r"gh[pousr]_").search
_KEY = _has("-----BEGIN", "AKIA", "sk-", "xox", "AIza", "LTAI")
_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
_PLATE = re.compile(rf"[A-HJ-NP-Z](?<=[{_PROVINCES}].)[·•‧・ -]?[A-HJ-NP-Z0-9]{{4}}").search
_WECHAT = _has("微信", "薇信", "eChat", "echat", "VX", "vx")


def _has_key(text: str) -> object:
    return _KEY(text) or _TOKEN(text)


def _has_address(text: str) -> object:
    return _DOTS(text) or _COLON(text)


def _has_plate(text: str) -> object:
    return not text.isascii() and _PLATE(text)


def _has_wechat(text: str) -> bool:
    return not text.isascii() and _WECHAT(text) or "WeChat" in text


_ADDRESS = r"[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,18}(?![\w(-])"
_DOT = r"(?:\.| ?[\[({] ?(?:dot|DOT|Dot|点|\.) ?[\])}] ?| (?:dot|DOT) )"
_AREA = "(?:10|2\\d|[3-9]\\d\\d)"  # of China, without the 0 before it
_LOCAL = "[2-9]\\d{2,3}[ —–-]?\\d{4}"
_SAID = r"[ .:：#=（(]*(?:是|为|(?i:is|at|on)(?= ))?[ :：]*"

_EMAILS = Group(
    _has("@"),
    (
        Pattern(
            "email",
            re.compile(rf"<(?:mailto:)?{_ADDRESS}>|(?<![\w.+-]){_ADDRESS}", re.ASCII),
            checks.is_personal_address,
        ),
    ),
)
_SPELLED_EMAILS = Group(
    _has("at)", "at]", "AT)", "AT]", " dot ", " DOT "),
    (
        Pattern(
            "email",
            re.compile(
                r"(?<![\w.+-])(?P<local>[A-Za-z0-9][\w.+-]{0,63}(?: (?:dot|DOT) [\w+-]{1,30}){0,2})"
                r"(?:(?P<bracket> ?[\[({] ?(?:at|AT|At|@) ?[\])}] ?)| (?:at|AT) (?=[\w-]{1,63} (?:dot|DOT) ))"
                rf"(?P<domain>(?:[A-Za-z0-9-]{{1,63}}{_DOT}){{1,4}}[A-Za-z]{{2,18}})(?![\w-])",
                re.ASCII,
            ),
            checks.is_spelled_address,
        ),
    ),
)
_KEYS = Group(
    _has_key,
    (
        Pattern(
            "key",
            re.compile(
                # Only up to the next five hyphens: a search for a missing end takes quadratic time.
                r"-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY-----(?:(?!-----).)*+-----END (?:[A-Z]+ ){0,3}PRIVATE KEY-----"
                r"|(?<![A-Za-z0-9])(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|sk-[A-Za-z0-9_-]{32,200}"
                r"|xox[abprs]-[A-Za-z0-9-]{20,200}|AIza[A-Za-z0-9_-]{35}|LTAI[A-Za-z0-9]{12,20})(?![A-Za-z0-9])",
                re.DOTALL,
            ),
            checks.is_secret,
        ),
    ),
    lines=False,
)
_PASSWORDS = Group(
    _has("assw", "ASSW", "密码", "口令", "pwd", "PWD", "ecret", "SECRET"),
    (
        Pattern(
            "password",
            re.compile(
                r"(?:(?i:passw(?:or)?d|pwd|secret(?:_?access)?(?:_?key)?)|密码|口令)"
                r"[\"'\]]{0,2} ?(?:=>|:=|[=:：]|是|为|(?i:is)(?= )) ?(?P<quote>[\"'“]?)"
                r"(?P<value>(?(quote)[^\s\"'“”<>]|[^\s\"'“”<>,;，。；、()（）]){6,100})(?=[\"'”\s,;，。；、)）]|$)",
            ),
            checks.is_password,
        ),
    ),
)
_NUMBERS = Group(
    _NUMBER,
    (
        Pattern(
            "id_number",
            re.compile(r"(?<![\w.])[1-8](?:[ -]?\d){16}[ -]?[\dXx](?!\w|\.\d)", re.ASCII),
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
                r"(?<![\w./#-])(?:\d{4}([ -]?)\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?|\d{4}([ -]?)\d{6}\2\d{5})(?![\w/-]|\.\d)",
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
                r"(?<![\w./+-])(?:(?:[(（]?(?:\+|00)?86[)）]?[ -]?)?"
                r"(?:1[3-9]\d(—{1,2}|[ .·–-]?)\d{4}\1\d{4}|1[3-9]\d\d([ -])\d{3}\2\d{4})"
                rf"|(?:(?:(?:\+|00)?86[ -]?)?(?:[(（]0{_AREA}[)）][ -]?|0{_AREA}(?:—{{1,2}}| ?[–-] ?| ))"
                rf"|(?:(?:\+|00)86[ -]?(?:\(0\))?[(（]?{_AREA}[)）]?[ -]?|86-{_AREA}-)){_LOCAL}(?:(?: ?转 ?|-)\d{{2,5}})?"
                r"|09\d\d-\d{3}-\d{3}|[(（]0[2-8][)）] ?\d{4}[ -]\d{4}|0[2-8]-(?!20[0-3]\d)[2-9]\d{3}-\d{4}"
                r"|07\d{3} (?:\d{6}|\d{3} \d{3})"
                r"|(?P<american>(?:1[ .-])?(?:\([2-9]\d\d\) ?[2-9]\d\d[ .-]\d{4}|[2-9]\d\d([.-])[2-9]\d\d\4\d{4}))"
                r"|(?<![])])(?P<foreign>\+(?!86)(?:[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]\d{2,4}){1,5}"
                r"|[1-9]\d{9,13}(?!\*))"
                r"|00(?!86)[1-9]\d{0,2}[ -]\(?\d{1,4}\)?(?:[ -]\d{2,4}){1,4})"
                r")(?!\w|-\d|\.\d)",
                re.ASCII,
            ),
            checks.is_phone,
        ),
        Pattern(
            "phone",
            re.compile(
                r"(?:电话|電話|手机|手機|座机|传真|傳真|(?<![A-Za-z])(?i:tel|telephone|phone|fax|mobile|cell|call(?= )))"
                rf"(?:号码?|(?i: (?:no\.?|number)))*{_SAID}"
                r"(?P<value>0(?:10|2\d)\d{8}|0[3-9]\d{9,10}|[2-9]\d{6,7}|[2-9]\d\d ?[2-9]\d\d ?\d{4})(?!\w|-\d|\.\d)",
                re.ASCII,
            ),
            checks.is_listed_phone,
            ("电话", "電話", "手", "座机", "传真", "傳真", "el", "hone", "EL", "HONE", "ax", "AX", "obile", "all"),
        ),
    ),
)
_ADDRESSES = Group(
    _has_address,
    (
        Pattern(
            "ip",
            re.compile(
                r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\w)"
                # Public ones begin with 2 or 3: others with colons are times or hardware addresses.
                r"|(?<![\w.:-])[23][0-9a-f]{3}:[0-9a-f:]{1,33}[0-9a-f](?![\w:])",
                re.ASCII | re.IGNORECASE,
            ),
            checks.is_host,
        ),
    ),
)
_PLATES = Group(
    _has_plate,
    (
        Pattern(
            "plate",
            re.compile(
                rf"[{_PROVINCES}][A-HJ-NP-Z][·•‧・ -]?"
                r"(?:[A-HJ-NP-Z0-9]{4}(?:[A-HJ-NP-Z0-9]|[挂学警港澳])|[DF][A-HJ-NP-Z0-9]\d{4}|\d{5}[DF])(?![\w-])",
                re.ASCII,
            ),
            checks.is_plate,
        ),
    ),
)
_ENGLISH_PLATES = Group(
    _has("plate"),
    (
        Pattern(
            "plate",
            re.compile(
                r"(?i:licen[cs]e|number|registration) plate(?: (?:number|no\.?))?(?:,? (?:is|was|of|reads?))?[ :\"“]*"
                r"(?P<value>(?=[A-Z0-9 -]*\d)[A-Z0-9]{2,4}[ -]?[A-Z0-9]{2,4})(?![\w-])"
            ),
            checks.is_plate,
            (" plate",),
        ),
    ),
)
_WECHAT_NAMES = Group(
    _has_wechat,
    (
        Pattern(
            "account",
            re.compile(
                r"(?:微信|薇信|(?<![A-Za-z])(?:[Ww]e[Cc]hat|VX|vx))(?P<name>号|账号|ID| ?(?i:id|account|name))?"
                r"[ :：（(是为]+(?P<value>[A-Za-z][A-Za-z0-9_-]{5,19})(?![\w.:/(@-])",
                re.ASCII,
            ),
            checks.is_wechat_name,
        ),
    ),
)

GROUPS = (
    _EMAILS,
    _SPELLED_EMAILS,
    _KEYS,
    _PASSWORDS,
    _NUMBERS,
    _ADDRESSES,
    _PLATES,
    _ENGLISH_PLATES,
    _WECHAT_NAMES,
)
