"""Sizes of arrays rounded up to few values, so that compiled programs are used again."""


def power_of_two(size: int) -> int:
    """Returns the smallest power of two that is at least `size`, which is at least 1."""
    return 1 << (size - 1).bit_length()


def powers_of_two(most: int) -> list[int]:
    """Returns 1, 2, 4, … up to `most`, which is at least 1."""
    return [1 << exponent for exponent in range(most.bit_length())]


def multiple_of(unit: int, size: int) -> int:
    """Returns the smallest multiple of `unit` that is at least `size`."""
    return -(-size // unit) * unit
