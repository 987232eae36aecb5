"""Several processes on one machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAILING = """
import os, sys, time
if os.environ["MINDLLM_PROCESS"] == "1":
    sys.exit(3)
time.sleep(600)
"""
# Training saves when it gets a signal. A process that ignores it stands for one that hangs.
SAVING = """
import os, signal, sys, time
def say(text):
    os.write(1, f"{text}\\n".encode())  # at once: two processes write to one pipe
def stop(number, frame):
    say(f"told {number}")
    if os.environ["MINDLLM_PROCESS"] == "0":
        time.sleep(1)
        say("saved")
        sys.exit(130)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
say(f"pid {os.environ['MINDLLM_PROCESS']} {os.getpid()}")
while True:
    time.sleep(0.1)
"""


def command(script: str, processes: int = 2) -> list[str]:
    local_cluster = [sys.executable, "launch/local_cluster.py", "--processes", str(processes)]
    return [*local_cluster, "--", sys.executable, "-c", script]


def started() -> tuple[subprocess.Popen[str], list[int]]:
    """Two saving processes, and their ids."""
    cluster = subprocess.Popen(command(SAVING), cwd=ROOT, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert cluster.stdout is not None
    said = sorted(cluster.stdout.readline() for _ in range(2))
    return cluster, [int(line.split()[2]) for line in said]


def gone(process: int) -> bool:
    """Whether it has ended, within ten seconds."""
    for _ in range(100):
        try:
            os.kill(process, 0)
            if "\nState:\tZ" in Path(f"/proc/{process}/status").read_text():  # its new parent has not looked yet
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False


def test_when_one_fails_the_others_are_stopped() -> None:
    done = subprocess.run(command(FAILING, 3), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "process 1 failed; the others are stopped" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_tells_its_processes_and_waits(number: int) -> None:
    cluster, processes = started()
    cluster.send_signal(number)
    assert cluster.stdout is not None
    said = [cluster.stdout.readline() for _ in range(3)]
    assert sorted(said) == ["saved\n", f"told {number}\n", f"told {number}\n"]
    assert gone(processes[0])
    cluster.send_signal(number)  # the second one kills what does not end
    assert cluster.wait(timeout=30) == 130
    assert all(map(gone, processes))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent was killed")
def test_killed_it_leaves_none_of_those_that_listen() -> None:
    cluster, processes = started()
    cluster.kill()
    assert cluster.stdout is not None
    assert [cluster.stdout.readline() for _ in range(2)] == [f"told {signal.SIGTERM}\n"] * 2
    os.kill(processes[1], signal.SIGKILL)
    assert all(map(gone, processes))


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("no-such-program",), 127, "error: no-such-program cannot be run: No such file or directory"),
        (("--processes", "0", "true"), 2, "error: --processes and --devices must be at least 1"),
        (("--devices", "-1", "true"), 2, "error: --processes and --devices must be at least 1"),
    ],
)
def test_what_cannot_be_started_is_one_message(arguments: tuple[str, ...], status: int, message: str) -> None:
    done = subprocess.run(
        [sys.executable, "launch/local_cluster.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == status and message in done.stderr and "Traceback" not in done.stderr
