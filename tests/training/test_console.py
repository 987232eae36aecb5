"""The console of a run."""

import pytest
from rich.text import Text

from mindllm_jax.training.console import RunConsole


def test_names_in_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """As of the sources wiki[zh] and [/logs]: the second ended a run at each of its evaluations."""
    log = RunConsole(active=True)
    log("bits_per_byte/wiki[zh] 2.0  bits_per_byte/[/logs] 3.0")
    log(Text.assemble(("warning", "bold"), ": [/x]"))
    assert capsys.readouterr().out == "bits_per_byte/wiki[zh] 2.0  bits_per_byte/[/logs] 3.0\nwarning: [/x]\n"


def test_a_line_is_one_line_whatever_the_width(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal rich would cut at 80 columns."""
    log, line = RunConsole(active=True), "step 10  " + "tokens/s " * 20
    log(line)
    log(Text(line))
    assert capsys.readouterr().out == f"{line}\n{line}\n"
