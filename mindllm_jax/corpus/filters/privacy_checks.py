"""Checks of a match of a privacy pattern: check digits, reserved names, and the words around a number."""

from __future__ import annotations

import re
from datetime import date
from ipaddress import ip_address


def is_date(digits: str) -> bool:
    """Whether digits are a date, YYYYMMDD."""
    try:
        return 1900 <= date(int(digits[:4]), int(digits[4:6]), int(digits[6:])).year < 2100
    except ValueError:
        return False


def is_identity_number(number: str) -> bool:
    """Whether 18 characters are a resident identity number: a date of birth and a right check digit (GB 11643-1999)."""
    try:
        date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(pow(2, 17 - place, 11) * int(digit) for place, digit in enumerate(number[:17]))
    return "10X98765432"[total % 11] == number[17].upper()


def is_identity_match(match: re.Match[str]) -> bool:
    """Whether a match, apart from blanks and hyphens, is an identity number of someone born after 1899."""
    number = re.sub(r"[ -]", "", match[0])
    return number[6:8] in ("19", "20") and is_identity_number(number)


def is_old_identity_match(match: re.Match[str]) -> bool:
    """Whether 15 digits after the words "identity card" have a date of birth, as numbers issued before 1999."""
    return is_date("19" + match["value"][6:12])


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


_IMPERSONAL_ADDRESS = re.compile(
    r"^(?:git|hg|svn|no-?reply)@"
    r"|@(?:.*\.)?(?:example|test|invalid|localhost)(?:\.(?:com|net|org))?$"
    r"|@(?:(?:your|my|some)-?(?:domain|company|host|mail|name|server|site)|domain|host(?:name)?)\.\w+$"
    r"|@\d(?:\.\d+)?x\.\w+$"
    r"|\.(?:service|socket|target|mount|timer|png|jpe?g|gif|svg|webp|js|mjs|css|json|html?|tgz|gz|zip|pub)$",
    re.I,
)


def is_personal_address(match: re.Match[str]) -> bool:
    """Whether an email address may be a person's: no reserved name (RFC 2606), service account or `image@2x.png`."""
    return not _IMPERSONAL_ADDRESS.search(match[0].strip("<>").removeprefix("mailto:"))


def is_spelled_address(match: re.Match[str]) -> bool:
    """Whether an address with words for its signs may be a person's.

    "look at shop dot com" is a sentence: without brackets a name of one word is none, unless AT is in capitals.
    """
    if not (match["bracket"] or " AT " in match[0] or re.search(r"[._\d]| dot ", match["local"])):
        return False
    address = f"{match['local']}@{match['domain']}"
    return not _IMPERSONAL_ADDRESS.search(re.sub(r"[ \[({]*(?:dot|点|\.)[ \])}]*", ".", address, flags=re.I))


# Numbers of other kinds by the word or sign before them, and amounts by the unit after them.
_OTHER_NUMBER = re.compile(
    r"(?:[¥￥$€£]|(?i:RMB|CNY|USD|EUR)"
    r"|(?<![机话线系信账])号|(?:单|流水|序列)号码|编码|条形?码|总额|金额|合计|总计"
    r"|(?i:(?<![a-z])(?:order|invoice|serial|ticket|tracking|isbn|ean|upc|sku|pmid|patent|part|model|bug|issue|id)))"
    r"(?i:[ .]*(?:no\.?|numbers?|id))?[ :：#=（(]*$"
)
_UNIT = re.compile(
    r" {0,2}(?:[美日港欧]?元|圆整?|亿|[毫微纳]?秒|字节|比特|[公千]?克|公斤|吨|公里|[平立]方米?|[毫厘千]米"
    r"|股|票|人?次|[%％‰]"
    r"|(?:[munµ]?s|secs?|seconds|milliseconds|[munck]?m|kg|[kMGT]?Hz|[kKMGT]i?B|bytes?|bits|rows|users|people|items|times"
    r"|USD|EUR|RMB|CNY|dollars|euros|yuan|pounds|percent)(?![A-Za-z]))"
)
_PIECES = re.compile(r" ?[部户台门个次]")
_COUNTRY = re.compile(
    r"7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[124]|9[0-58]|(?:2[1-689]|3[578]|42|5[09]|6[789]|8[58]|9[679])\d", re.A
)


def is_quantity(match: re.Match[str]) -> bool:
    """Whether a number is an amount, a measure, or of another kind, by the words and signs around it."""
    text, start = match.string, match.start()
    return bool(_UNIT.match(text, match.end()) or _OTHER_NUMBER.search(text[max(0, start - 24) : start]))


def is_phone(match: re.Match[str]) -> bool:
    """Whether a match is a telephone number: as many digits as those have, a known country, and no quantity."""
    groups = re.findall(r"\d+", match[0])
    digits = "".join(groups)
    if not 10 <= len(digits) <= 20 or is_quantity(match) or digits.endswith("00000"):
        return False
    if match["american"]:
        # North America has no area N00, and N11 is a service.
        return digits.removeprefix("1")[1:3] not in ("00", "11")
    if not match["foreign"]:
        return True
    digits = digits.removeprefix("00")
    if digits.startswith("1"):
        return re.fullmatch(r"1[2-9](?!00|11)\d\d[2-9]\d{6}", digits) is not None
    # Years and thousands in a row of a table are no groups of a telephone number.
    table = all(re.fullmatch(r"(?:19|20)\d\d", group) for group in groups[1:]) or "000" in groups
    return not (table and len(groups) > 1) and _COUNTRY.match(digits) is not None


def is_listed_phone(match: re.Match[str]) -> bool:
    """Whether digits after a word for telephone are a number and no date or count."""
    digits = re.sub(r"\D", "", match["value"])
    if re.match(r"[A-Za-z]{2}", match.string[max(0, match.start() - 1) : match.start() + 1]):
        return False  # as iPhone
    return not is_date(digits) and not _PIECES.match(match.string, match.end()) and not is_quantity(match)


def is_account(match: re.Match[str]) -> bool:
    """Whether digits after the name of a service are a user's number and no date or count."""
    return not is_date(match["value"]) and not is_quantity(match)


def is_wechat_name(match: re.Match[str]) -> bool:
    """Whether a word after the name of the service is a user's: it has a digit or sign, or is announced as a name."""
    return re.search(r"[\d_]", match["value"]) is not None or (
        match["name"] is not None and re.search("[:：是为]", match[0]) is not None
    )


def is_passport(match: re.Match[str]) -> bool:
    """Whether letters and digits after the word for passport are its number and no date."""
    return not is_date(match["value"])


def is_plate(match: re.Match[str]) -> bool:
    """Whether letters and digits are a registration plate: Chinese ones have three digits at least, others two."""
    return sum(map(str.isdigit, match[0])) >= (3 if match[0][0] > "\u3400" else 2)


def is_secret(match: re.Match[str]) -> bool:
    """Whether a match is a key: a name of words and hyphens is none."""
    return any(map(str.isdigit, match[0])) or match[0].startswith("-----")


_PLACEHOLDER = re.compile(
    r"pass|pwd|secret|your|example|change|string|dummy|x{3}|123456|abc123|^(?:[./~\\$%#]|https?:)|[$@%]?[{*[(]|://",
    re.I,
)


def is_password(match: re.Match[str]) -> bool:
    """Whether a value is a password: letters with digits or signs, or six digits in Chinese; no path or placeholder."""
    value = match["value"]
    if _PLACEHOLDER.search(value) or len(set(value)) < 4:
        return False
    if not match["quote"] and re.search(r"^\w+[.:]\w|[a-z][A-Z][a-z]+\d?$", value):
        return False  # an expression of a program
    if match["blank"] is not None and not re.search(r"^(?=\S*\d)(?=\S*[A-Za-z])\S*[!@#^&+=?~]", value):
        return False  # only digits and signs tell a password after a blank from a word
    if re.fullmatch(r"[A-Z]{2,5}[-_]?\d{1,4}", value):
        return False  # an algorithm, as AES256
    letters, others = re.search("[A-Za-z]", value), re.search(r"[\d!@#^&+=?~]", value)
    return others is not None and (letters is not None or (match[0][0] > "\u3400" and value.isdigit()))


_IP_WORD = re.compile(
    r"(?:IP|(?<![A-Za-z])(?i:ips?|ipv4|a|address(?:es)?|hosts?|hostname|servers?|nameserver|dns|ping|ssh|scp|telnet|curl|wget"
    r"|gateway|proxy|from|clients?|peer|source|destination|src|dst|remote|via|route|resolves?|connect(?:ed|ing)?|login"
    r"|visitor|inet[46]?|addr)|地址|服务器|主机|网关|代理|来自|访问|登录|登陆|客户端|域名|节点|解析|连接)"
    r"(?i: to| of| is| was| at| by| for| address)*[^\w\n]{0,4}[是为到于自]?[ :：]*$|[/@\[]$"
)
_PORT = re.compile(r":\d{2,5}(?!\d)|/\w| - ")
_SECTION = re.compile(r" ?(?:[条款节章版]|版本|固件)")
_VERSION_WORD = re.compile(
    r"(?:(?<![A-Za-z])(?i:v|ver|versions?|release|build|firmware|driver|player|update|upgrade|section|clause|chapter"
    r"|sec\.|rule|table|figure|fig\.|annex|rev(?:ision)?)"
    r"|[第版号章节条款图表§]|版本|固件|驱动|升级到?|更新到?)[ :：.为是至到]*$"
)


def is_public_address(address: str) -> bool:
    """Whether an IP address is public, and no network (45.20.0.0) or four small numbers (8.8.8.8)."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if ip.version == 4 and (max(ip.packed) < 32 or ip.packed[3] == 0):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def is_host(match: re.Match[str]) -> bool:
    """Whether an IP address is public and no version or section.

    Four numbers are an address after a word for one or before a port. Otherwise they are more likely a version if the
    second is 0 or fewer than two are at least 64 (95 of 100 addresses have two); one alone in a line is enough, one
    more is needed after a first below 32.
    """
    address, text = match[0], match.string
    if not is_public_address(address):
        return False
    if ":" in address:
        return True
    before = text[max(0, match.start() - 32) : match.start()]
    if _VERSION_WORD.search(before) or _SECTION.match(text, match.end()):
        return False
    if _IP_WORD.search(before) or _PORT.match(text, match.end()):
        return True
    numbers = [int(number) for number in address.split(".")]
    large = (1 if len(text) < 80 and text.strip() == address else 2) + (numbers[0] < 32)
    return numbers[1] != 0 and sum(number >= 64 for number in numbers) >= large
