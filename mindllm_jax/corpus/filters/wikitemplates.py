"""Renders the templates of wiki markup that are words of a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable

# Replaces a formula or an unknown template: a sentence with a hole teaches nothing, so its paragraph is dropped.
HOLE = "\x00"
# An unknown template without words, such as a reader's doubt with its date: a note if it stands behind a word.
NOTE = "\x03"
# In place of what is not shown, so that only the punctuation around it is mended.
DROPPED = "\x04"
# Around a date, which is written in the language of its line, and around a foreign word, which
# English lines do without.
DATE, FOREIGN = "\x01", "\x02"

# Templates that render as words inside a sentence, with the parameter that has the words; the last one if negative.
_SHOWN_PARAMETER = {
    "abbr": 1, "angbr": 1, "angle bracket": 1, "big": 1, "blockquote": 1, "color": 2, "cquote": 1, "date": 1, "flag": 1,
    "flagcountry": 1, "font color": 2, "ipa": 1, "keypress": 1, "lang": 2, "langi": 2, "large": 1, "linktext": 1,
    "mvar": 1, "native name": 2, "nihongo": 1, "nobold": 1, "nobr": 1, "nowrap": 1, "nq": 1, "oldstyledate": 1,
    "polytonic": 1, "quote": 1, "rtl-lang": 2,
    "ruby": 1, "sc": 1, "script": 2, "sic": 1, "small": 1, "smallcaps": 1, "smaller": 1, "sub": 1, "tooltip": 1,
    "unicode": 1, "僻字": 1, "仮リンク": 1,
    "transl": -1, "tsl": -1, "translink": -1, "val": 1, "vanchor": 1, "var": 1, "visible anchor": 1, "vr": 1,
}  # fmt: skip
_FIXED = {
    "'": "'", "'s": "'s", "' \"": "' \"", '-"': '"', "·": " · ", "dot": " · ", "c.": "c. ", "circa": "c. ",
    "nbsp": " ", "spaces": " ", "thinsp": " ", "ndash": "–", "mdashb": "—", "snd": " – ", "spaced ndash": " – ",
}  # fmt: skip
_RANGES = frozenset(["-", "–", "to", "and", "by", "x", "or", "to(-)", "and(-)"])
_CURRENCIES = {
    "us$": "US$", "usd": "US$", "$": "$", "a$": "A$", "aud": "A$", "c$": "C$", "cad": "C$", "hk$": "HK$",
    "hkd": "HK$", "nt$": "NT$", "ntd": "NT$", "twd": "NT$", "s$": "S$", "sgd": "S$", "€": "€", "eur": "€", "euro": "€",
    "£": "£", "gbp": "£", "pound sterling": "£", "¥": "¥", "cny": "¥", "rmb": "¥", "jpy": "¥", "inr": "₹",
    "indian rupee": "₹", "krw": "₩", "₩": "₩", "rub": "₽",
}  # fmt: skip
_DATE = re.compile(
    r"(?:birth|death|start|end)[ -]?date(?: and age| and years ago)?|bda|dda|dob|出生日期|死亡日期|逝世日期"
)
# A link to an article that only another wiki has: the words to show are the third parameter or the first.
_FOREIGN_LINK = re.compile(r"le|lj|link-[a-z-]+|internal link helper/[a-z-]+|ilh/[a-z-]+")
# Templates that a sentence does not need. Every other one leaves a hole.
_SILENT = re.compile(
    r"""cit(e|ation)|harv|sfn|[er]fn|refn|\#tag:ref|rp$|note|ipa|respell|audio|flagicon|coord|anchor|oclc|issn
    |isbn|\w\w\ icon|page\ needed|better\ source|clarify|whe(n|re)$|who|which|by\ whom|according|vague|dubious
    |dead\ link|failed|unreliable|verify|update|relevance|weasel|qualify|full|inflation-fn|wayback|main|see\ also
    |further|about|redirect|other\ uses|use[ ]|pp-|infobox|clear|div\ col|refimprove|expand|unreferenced|portal
    |commons|wiktionary|r$|cn$|fact$|bsn|original\ research|seealso|otheruses|zh$|zh-[a-z]+$|zhh?$|lang-zh
    |来源|來源|需要|可疑|查证|查證|何时|何時|谁$|誰$|请求|請求|页码|頁碼|失效|主条目|主條目|参见|參見|另见|另見|消歧|重定向|公共转换|公共轉換
    |信息框|資訊框|扩充|擴充|注释|註釋|脚注|腳註|小作品""",
    re.VERBOSE,
)


def template_text(name: str, parameters: list[str]) -> str:
    """Returns the words that a template shows: "" for none, `HOLE` if they are not known, `NOTE` if it has none.

    Args:
        name: in lower case, without blanks around it.
        parameters: the rendered values of the parameters without a name.
    """
    if name in _FIXED:
        return _FIXED[name]
    if name.startswith("formatnum:"):
        return name.partition(":")[2].strip()
    if name.startswith("lang-") and not name.startswith("lang-zh"):
        return f"{FOREIGN}{parameters[0]}{FOREIGN}" if parameters else ""
    if not parameters:
        return "" if _SILENT.match(name) else _unknown(name, parameters)
    if name == "langx":
        return f"{FOREIGN}{parameters[min(1, len(parameters) - 1)]}{FOREIGN}"
    if name in _CURRENCIES:
        return _CURRENCIES[name] + parameters[0]
    shown = _SHOWN_PARAMETER.get(name)
    if shown is not None:
        return parameters[-1] if shown < 0 else parameters[min(shown, len(parameters)) - 1]
    for pattern, render in _RENDERED:
        if pattern.fullmatch(name):
            return render(name, parameters)
    return "" if _SILENT.match(name) else _unknown(name, parameters)


def _unknown(name: str, parameters: list[str]) -> str:
    has_words = any(re.search(r"[^\W\d_]", parameter) for parameter in parameters)
    return HOLE if has_words or not re.search(r"[^\W\d_]{2}", name) else NOTE


def _quantity(_: str, parameters: list[str]) -> str:
    if len(parameters) < 2:
        return HOLE
    return " ".join(parameters[: 4 if parameters[1] in _RANGES else 2])


def _fraction(_: str, parameters: list[str]) -> str:
    """Returns a fraction, with its whole number in front if there are three parameters."""
    if len(parameters) == 1:
        return f"1/{parameters[0]}"
    return " ".join([*parameters[:-2], "/".join(parameters[-2:])])


def _date(name: str, parameters: list[str]) -> str:
    """Returns the year, month and day in `DATE`."""
    numbers = parameters[:3]
    if not all(re.fullmatch(r"\d{1,4}", number) for number in numbers):
        return HOLE
    return DATE + "-".join(numbers) + DATE


def _life(_: str, parameters: list[str]) -> str:
    """Returns the dates of a life in a Chinese article: year and day of birth, then of death."""
    born, died = "".join(parameters[:2]), "".join(parameters[2:4])
    return f"（{born}－{died}）" if died else f"（{born}－）"


def _interlanguage_link(_: str, parameters: list[str]) -> str:
    """Returns the words of a link; the language stands before or behind them."""
    return parameters[1 if len(parameters) > 1 and re.fullmatch("[a-z]{2,3}", parameters[0]) else 0]


_RENDERED: tuple[tuple[re.Pattern[str], Callable[[str, list[str]], str]], ...] = (
    (re.compile(r"convert|cvt"), _quantity),
    (re.compile(r"e"), lambda _, parameters: f"×10^{parameters[0]}"),
    (re.compile(r"s?frac|fraction"), _fraction),
    (re.compile(r"chem"), lambda _, parameters: "".join(parameters)),
    (re.compile(r"as of"), lambda _, parameters: f"As of {parameters[0]}"),
    (re.compile(r"sup"), lambda _, parameters: f"^{parameters[0]}"),
    (re.compile(r"bd|生卒"), _life),
    (_DATE, _date),
    (re.compile(r"ill|interlanguage link"), _interlanguage_link),
    (_FOREIGN_LINK, lambda _, parameters: parameters[2 if len(parameters) > 2 else 0]),
)


def write_dates(line: str) -> str:
    """Returns a line with its dates in its language and, if it is Chinese, with the foreign words beside its names.

    An English sentence stands without them, and their parentheses often hold nothing but pronunciations.
    """
    if DATE not in line and FOREIGN not in line:
        return line
    foreign = re.compile(f"{FOREIGN}([^{FOREIGN}]*){FOREIGN}")
    is_chinese = re.search("[\u3400-\u9fff]", foreign.sub("", line)) is not None
    line = foreign.sub(r"\1" if is_chinese else DROPPED, line)
    return re.sub(f"{DATE}([^{DATE}]*){DATE}", lambda match: _written(match[1].split("-"), is_chinese), line)


_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


def _written(numbers: list[str], is_chinese: bool) -> str:
    """Returns a date: 1990年5月4日 or May 4, 1990."""
    if is_chinese:
        return "".join(str(int(number)) + unit for number, unit in zip(numbers, "年月日", strict=False))
    year, *rest = numbers
    month = _MONTHS[int(rest[0]) - 1] if rest and 1 <= int(rest[0]) <= 12 else ""
    return f"{month} {int(rest[1])}, {year}" if len(rest) > 1 and month else f"{month} {year}".strip()
