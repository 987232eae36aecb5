"""Chinese numerals in a text, such as a prison term, to digits."""

import re

_DIGITS = {digit: number for number, digit in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "亿": 100_000_000}
_FORMAL = str.maketrans("壹贰叁肆伍陆柒捌玖拾佰仟", "一二三四五六七八九十百千")
_NUMERAL = re.compile(f"[{''.join(_DIGITS)}{''.join(_UNITS)}廿]+")
# Some are surnames: formal digits are a number where a measure follows.
_FORMAL_NUMERAL = re.compile("[壹贰叁肆伍陆柒捌玖拾佰仟零万亿]+(?=[年个月日天条款项元圆])")
_NO_NUMBER = re.compile(
    "[百千]|[万亿]+|.*[一二三四五六七八九两]{2}[十百千万亿].*|.*[十百千万亿][一二三四五六七八九两]{2}.*"
)


def to_digits(text: str) -> str:
    """Returns a text with its whole Chinese numbers in digits: `三年六个月` becomes `3年6个月`.

    A unit alone, but for 十, is not a number: 万某 is a name, 百色市 a town. Two digits beside a unit are none either,
    as in 两三百, about two or three hundred. Digits without units are read one by one: 两三年 becomes `23年`, as in
    LawBench.
    """
    text = _FORMAL_NUMERAL.sub(lambda found: found[0].translate(_FORMAL), text)
    return _NUMERAL.sub(lambda found: found[0] if _NO_NUMBER.fullmatch(found[0]) else str(_value(found[0])), text)


def _value(numeral: str) -> int:
    """Returns the value of a numeral, read by its units or, without any, digit by digit."""
    numeral = numeral.replace("廿", "二十")
    if not any(character in _UNITS for character in numeral):
        return int("".join(str(_DIGITS[character]) for character in numeral))
    total = ten_thousands = section = digit = 0
    for character in numeral:
        if character in _DIGITS:
            digit = _DIGITS[character]
            continue
        unit = _UNITS[character]
        if unit < 10_000:
            section += (digit or 1) * unit
        elif unit == 10_000:  # of what came since the last 亿 alone
            ten_thousands, section = (ten_thousands + section + digit) * unit, 0
        else:
            total, ten_thousands, section = (total + ten_thousands + section + digit) * unit, 0, 0
        digit = 0
    return total + ten_thousands + section + digit
