"""Patterns of personal data and secrets, in the order in which they are replaced."""

from __future__ import annotations

import re

from mindllm_jax.corpus.filters import privacy_checks as checks
from mindllm_jax.corpus.filters.privacy_numbers import NUMBERS
from mindllm_jax.corpus.filters.privacy_search import Group, Pattern, matches, words

_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
_plates = matches(rf"[A-HJ-NP-Z](?<=[{_PROVINCES}].)[·•‧・ -]?[A-HJ-NP-Z0-9]{{4}}")
_key_words, _tokens = words("PRIVATE KEY", "AKIA", "sk-", "xox", "AIza", "LTAI"), matches(r"gh[pousr]_")
_wechat, _short_wechat = words("微", "薇", "eChat", "echat"), words("vx", "VX")


def _plate_signs(text: str) -> list[int]:
    return _plates(text) if "车" in text or "牌" in text else []


def _key_signs(text: str) -> list[int]:
    return _key_words(text) + _tokens(text)


def _wechat_signs(text: str) -> list[int]:
    places = _wechat(text)
    return sorted(places + _short_wechat(text)) if "的" in text or "：" in text or "加" in text else places


# Not before a call or a version, as in code: `W@x.transpose()`, `node@v1.lts-alpine`; before "(张三)" or "-Sales".
_ADDRESS = r"[A-Za-z0-9][\w.+'-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,18}(?!\w|-[a-z0-9]|\((?![^\x00-\x7f]))"
_DOT = r"(?:\.| ?[\[({] ?(?:dot|DOT|Dot|点|\.) ?[\])}] ?| (?:dot|DOT) )"

_EMAILS = Group(
    words("@"),
    (
        Pattern(
            "email",
            re.compile(rf"<(?:mailto:)?{_ADDRESS}>|(?<![\w.+-]){_ADDRESS}", re.ASCII),
            checks.is_personal_address,
        ),
    ),
)
_SPELLED_EMAILS = Group(
    words("at)", "at]", " dot ", "DOT"),
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
    _key_signs,
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
    words("assw", "ASSW", "pwd", "密码", "口令"),
    (
        Pattern(
            "password",
            re.compile(
                r"(?:(?i:passw(?:or)?d|pwd)|密码|口令)"
                r"[\"'\]]{0,2} ?(?:=>|:=|[=:：]|是|为|(?i:is)(?= )|(?P<blank>(?= ))) ?(?P<quote>[\"'“`]?)"
                r"(?P<value>[!#-&(-;=?-_a-~]{6,100}?)(?=[\"'”`，。；、)）]|[,;.]?(?:\s|$))",
            ),
            checks.is_password,
        ),
    ),
)
_ADDRESSES = Group(
    matches(r"\.\d{1,3}\.\d", r":(?<=[23][0-9a-fA-F]{3}:)[0-9a-fA-F:]"),
    (
        Pattern(
            "ip",
            re.compile(
                r"\d(?<![\w.-].)(?:\d{0,2}(?:\.\d{1,3}){3}(?![\w-]|\.\w)"
                # Public ones begin with 2 or 3: others with colons are times or hardware addresses.
                r"|(?<=[23])(?<!:.)[0-9a-fA-F]{3}:[0-9a-fA-F:]{1,33}[0-9a-fA-F](?![\w:]))",
                re.ASCII,
            ),
            checks.is_host,
        ),
    ),
)
_PLATES = Group(
    _plate_signs,
    (
        Pattern(
            "plate",
            re.compile(
                rf"[{_PROVINCES}](?!SCP|MTN|PPN|ABN)[A-HJ-NP-Z][·•‧・ -]?"
                r"(?:[A-HJ-NP-Z0-9]{4}(?:[A-HJ-NP-Z0-9]|[挂学警港澳])|[DF][A-HJ-NP-Z0-9]\d{4}|\d{5}[DF])(?![\w-])",
                re.ASCII,
            ),
            checks.is_plate,
        ),
    ),
)
_ENGLISH_PLATES = Group(
    words(" plate"),
    (
        Pattern(
            "plate",
            re.compile(
                r"(?i:licen[cs]e|number|registration) plate(?: (?:number|no\.?))?"
                r"(?:,? (?:is|was|of|reads?|reading|bearing))?[ :\"“]*"
                r"(?P<value>(?=[A-Z0-9 -]*\d)[A-Z0-9]{2,4}[ -]?[A-Z0-9]{2,4})(?![\w-])"
            ),
            checks.is_plate,
        ),
    ),
)
_WECHAT_NAMES = Group(
    _wechat_signs,
    (
        Pattern(
            "account",
            re.compile(
                r"(?:微信|薇信|(?<![A-Za-z])(?:[Ww]e[Cc]hat|VX|vx))"
                r"(?:(?P<name>号|账号|ID| ?(?i:id|account|name))[ :：（(是为]*|[ :：（(是为]+)"
                r"(?P<value>[A-Za-z][A-Za-z0-9_-]{5,19})(?![\w.:/(@-])",
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
    NUMBERS,
    _ADDRESSES,
    _PLATES,
    _ENGLISH_PLATES,
    _WECHAT_NAMES,
)
