"""Chinese numerals in a text, such as a prison term, to digits."""

import re

_DIGITS = {digit: number for number, digit in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "亿": 100_000_000}
_NUMERAL = re.compile(f"[{''.join(_DIGITS)}{''.join(_UNITS)}]+")


def to_digits(text: str) -> str:
    """Returns a text with its whole Chinese numbers in digits: `三年六个月` becomes `3年6个月`."""
    return _NUMERAL.sub(lambda found: str(_value(found[0])), text)


def _value(numeral: str) -> int:
    """Returns the value of a numeral, read by its units or, without any, digit by digit."""
    if not any(character in _UNITS for character in numeral):
        return int("".join(str(_DIGITS[character]) for character in numeral))
    total = section = digit = 0
    for character in numeral:
        if character in _DIGITS:
            digit = _DIGITS[character]
        elif (unit := _UNITS[character]) < 10_000:
            section += (digit or 1) * unit
            digit = 0
        else:
            total = (total + section + digit) * unit
            section = digit = 0
    return total + section + digit
