"""The rules for removals that damage a text, on removals that some step might make."""

import pytest

from mindllm_jax.corpus.dedup.damage import damage

PROSE = "The lamp must be plugged in before anybody asks it to give light to the room."


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("On failure the lamp gives -1, and\n-errno\n-is set to tell the cause.\n\nMore.", {"mid-sentence"}),
        ("-The lamp function tells\nthe time of the day.", {"mid-sentence"}),
        ("One.\n\n-SYNOPSIS\n\nlamp [-v]", {"heading", "lone line"}),
        ("One.\n\n-## Usage\n-It is used.\n\nLike this.", {"heading"}),
        ("# Lamps\n\n-Date: 2020\n-Author: Li\n\n## Notes\n\nNone.", set()),
        ("One.\n\n## Usage\n\n-It is used.\n-Often.\n\n## Notes\n\nNone.", {"heading"}),
        ("One.\n\n-int main(void)\n-{\n-    exit(0);\n-}", {"code"}),
        (f"One.\n\n-{PROSE * 4}\n\nTwo.", {"paragraph"}),
        (f"One.\n\n-{PROSE}\n\nTwo.", {"lone line"}),
        ("-Home\n-About\n\n# Lamps\n\nThey give light.\n\n-Share\n-Print", set()),
        ("They give light.\n\n-## Copyright\n\n-All rights are waived.", set()),
        ("-home\n-about\nlamps\nThey give light.", set()),
    ],
)
def test_rules(text: str, rules: set[str]) -> None:
    """Lines that begin with a hyphen are removed."""
    lines = text.split("\n")
    removed = {number for number, line in enumerate(lines) if line.startswith("-")}
    broken = damage([line.removeprefix("-") for line in lines], removed)
    assert {rule for _, rule in broken} == rules


def test_nothing_removed() -> None:
    assert not list(damage(["One.", "", "Two."], set()))
    assert not list(damage([], set()))
