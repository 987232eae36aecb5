"""docs/reference is what its generator writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from mindllm_jax.recipes.reference import COMMAND, FOLDER, field_meanings, reference

ROOT = Path(__file__).parents[2]


def test_pages_are_up_to_date() -> None:
    pages = reference(ROOT)
    written = {path.relative_to(ROOT): path.read_text("utf-8") for path in (ROOT / FOLDER).glob("*.md")}
    outdated = sorted(str(path) for path in {*pages, *written} if pages.get(path) != written.get(path))
    assert not outdated, f"{', '.join(outdated)}: run `{COMMAND}`"


@pytest.mark.parametrize(
    ("field", "meaning"),
    [
        ("plain", "on its line"),
        ("low", "bounds of both"),
        ("high", "bounds of both"),
        ("long", "an entry that goes over two lines"),
        ("bare", None),
    ],
)
def test_meanings_of_fields(field: str, meaning: str | None) -> None:
    @dataclass
    class Settings:
        """Settings of a test.

        Attributes:
            low, high: bounds of both
            long: an entry
                that goes over two lines

        A last paragraph: no field.
        """

        plain: int = 1  # on its line
        low: int = 0
        high: int = 1
        long: tuple[str, ...] = ("a # b",)
        bare: int = 0

    assert field_meanings(Settings).get(field) == meaning


def test_an_inherited_field_means_what_its_own_class_says() -> None:
    @dataclass
    class Base:
        low: int = 0  # a bound
        high: int = 1  # another bound

    @dataclass
    class Settings(Base):
        high: int = 2  # of this class

    assert field_meanings(Settings) == {"low": "a bound", "high": "of this class"}
