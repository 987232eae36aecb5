"""The console script: `mindllm NAME` runs the entry point of that name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mindllm_jax.launch.__main__ import COMMANDS, usage


def mindllm(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mindllm_jax.launch", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_usage_lists_every_command_with_its_purpose() -> None:
    lines = usage().splitlines()[2:]
    assert [line.split()[0] for line in lines] == list(COMMANDS)
    assert all(len(line.split()) > 4 for line in lines)
    assert mindllm().stdout.strip() == usage()


def test_a_command_gets_the_rest_of_the_line() -> None:
    run = mindllm("train", "--help")
    assert run.returncode == 0 and "usage: mindllm train" in run.stdout
    bad = mindllm("chat", "--gin.Chat.rum=x")
    assert bad.returncode == 2 and "did you mean 'run'" in bad.stderr


@pytest.mark.parametrize(("word", "hint"), [("trian", "did you mean 'train'"), ("xyz", "mindllm --help")])
def test_an_unknown_command_is_refused(word: str, hint: str) -> None:
    run = mindllm(word)
    assert run.returncode == 2 and hint in run.stderr and not run.stdout
