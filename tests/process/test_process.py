"""Start and end of an entry point's process. One process shows several things."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = """
import rich
from mindllm_jax import configuration
from mindllm_jax.reporting.tables import Table
def main():
    print("一 € ± \U0001f600 \\udc80")
    rich.print(Table(("名字", "±"), [("一", 1.0)], "caption —").terminal())
    raise ValueError("文件 \U0001f600")
configuration.run(main)
"""
# A thread that is no daemon holds an orderly exit for as long as it runs.
FAILING = """
import threading, time
from mindllm_jax import configuration
def main():
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("said before", end="")
    raise {error}
configuration.run(main)
"""


def run(script: str, redirection: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A shell command, so that streams can be closed and given to a reader that ends."""
    command = f'"$PYTHON" -c "$SCRIPT" {redirection}'
    named = {"PYTHON": sys.executable, "SCRIPT": script} | environment
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=os.environ | named, capture_output=True, timeout=50, check=False
    )


@pytest.mark.parametrize("encoding", ["gbk", "ascii"])
def test_text_that_the_terminal_cannot_show_is_escaped(encoding: str) -> None:
    done = run(TEXT, PYTHONIOENCODING=encoding)
    shown = "一" if encoding == "gbk" else r"\u4e00"
    assert done.stdout.decode(encoding).startswith(f"{shown} ")
    assert r"\U0001f600 \udc80" in done.stdout.decode(encoding)
    assert r"\U0001f600" in done.stderr.decode(encoding)
    assert done.returncode == 2 and b"Traceback" not in done.stderr


def test_input_in_another_encoding_is_replaced() -> None:
    script = "from mindllm_jax import configuration\nconfiguration.run(lambda: print(ascii(input()), input()))"
    done = run(script, "< <(printf 'caf\\xe9 \\n ok \\n')", PYTHONIOENCODING="utf-8")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [rb"'caf\ufffd", b"'", b"ok"], b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_become_the_null_device(closed: str) -> None:
    done = run(TEXT, closed)
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    assert ("文件".encode() in done.stderr) == ("2>" not in closed)


def test_closed_pipe_and_full_disk_give_one_message() -> None:
    hello = "from mindllm_jax import configuration\nconfiguration.run(lambda: print('x' * 100_000))"
    gone = run(hello, '| true; exit "${PIPESTATUS[0]}"')
    assert (gone.returncode, gone.stderr.count(b"\n")) == (141, 1) and b"has ended" in gone.stderr
    if Path("/dev/full").exists():
        full = run(hello.replace("100_000", "10"), "> /dev/full")
        assert (full.returncode, full.stderr) == (2, b"error: [Errno 28] No space left on device\n")


@pytest.mark.parametrize(
    ("error", "status"), [("OSError('full')", 2), ("KeyboardInterrupt", 130), ("ZeroDivisionError('a bug')", 1)]
)
def test_failed_process_ends_immediately(error: str, status: int) -> None:
    started = time.monotonic()
    done = run(FAILING.format(error=error))
    assert done.returncode == status and done.stdout == b"said before"
    assert time.monotonic() - started < 30, "the thread would have held it for a minute"
    assert (b"Traceback" in done.stderr) == (status == 1)


# A callback of a library that swallows what a signal raises in it.
INTERRUPTED = """
import signal, time
from contextlib import suppress
from mindllm_jax import configuration
signal.signal(signal.SIGINT, signal.{before})  # tests that run in the background inherit another
def main():
    {handler}
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        time.sleep(1)
    print("went on")
configuration.run(main, at_once=True)
"""


def test_an_interruption_at_once_cannot_be_swallowed() -> None:
    done = run(INTERRUPTED.format(before="default_int_handler", handler="pass"))
    assert (done.returncode, done.stdout) == (130, b"")
    assert done.stderr == b"error: interrupted; run the same command again to resume from what was saved\n"
    handler = "signal.signal(signal.SIGINT, lambda *_: print('own'))"
    own = run(INTERRUPTED.format(before="default_int_handler", handler=handler))
    assert (own.returncode, own.stdout, own.stderr) == (0, b"own\nwent on\n", b"")
    background = run(INTERRUPTED.format(before="SIG_IGN", handler="pass"))
    assert (background.returncode, background.stdout) == (0, b"went on\n")
