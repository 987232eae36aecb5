"""Startup of several real processes: all join, one never joins, the launchers' variables."""

from __future__ import annotations

import asyncio
import glob
import logging
import os
import pwd
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax
import pytest

from mindllm_jax.parallel import rendezvous as meeting
from mindllm_jax.parallel.hosts import ProcessGroup
from mindllm_jax.parallel.rendezvous import rendezvous
from mindllm_jax.parallel.startup import start

ROOT = Path(__file__).parents[2]
CONFIG: Any = jax.config  # whose attributes are made at import
# A process as an entry point starts it.
SCRIPT = """
from mindllm_jax import configuration
def main():
    import jax
    from mindllm_jax.parallel.startup import start
    start()
    print("process", jax.process_index(), "of", jax.process_count(), "with", jax.device_count(), "devices")
configuration.run(main)
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def processes(
    environments: list[dict[str, str]], late: float = 0.0
) -> list[tuple[subprocess.CompletedProcess[str], float]]:
    """Starts one process for each environment, the first `late` seconds after the others; what each said and took."""
    started = list[tuple[subprocess.Popen[str], float]]()
    for environment in [*environments[1:], environments[0]]:
        if environment is environments[0]:
            time.sleep(late)
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append((process, time.monotonic()))
    ended = []
    for process, since in [started[-1], *started[:-1]]:
        said, errors = process.communicate(timeout=120)
        done = subprocess.CompletedProcess(process.args, process.returncode, said, errors)
        ended.append((done, time.monotonic() - since))
    return ended


def variables(port: int, count: int, index: int, **more: str) -> dict[str, str]:
    names = ("MINDLLM_COORDINATOR", "MINDLLM_PROCESSES", "MINDLLM_PROCESS")
    return dict(zip(names, (f"127.0.0.1:{port}", str(count), str(index)), strict=True)) | more


def slurm(index: int, **more: str) -> dict[str, str]:
    """Process `index` of four, each on a node of its own; all nodes are names of this machine."""
    return {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_NODELIST": "127.0.0.[1-4]",
        "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
        "SLURM_PROCID": str(index),
    } | more


@pytest.mark.long
def test_alone_nothing_happens() -> None:
    ((done, _),) = processes([{}])
    assert done.stdout == "process 0 of 1 with 1 devices\n" and done.returncode == 0


@pytest.mark.long
def test_four_processes_meet_when_the_first_is_last() -> None:
    port = free_port()
    ended = processes([variables(port, 4, index) for index in range(4)], late=2.0)
    for index, (done, _) in enumerate(ended):
        assert (done.returncode, done.stdout) == (0, f"process {index} of 4 with 4 devices\n"), done.stderr


@pytest.mark.long
@pytest.mark.parametrize("limit", [6, pytest.param(45, marks=pytest.mark.slow, id="default")])
def test_one_of_four_never_joins_and_three_name_it(limit: int) -> None:
    changed = {"MINDLLM_START_LIMIT": str(limit)} if limit != 45 else {}
    ended = processes([slurm(index, **changed) for index in (0, 1, 2)])
    here = socket.gethostname()
    for done, seconds in ended:
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: process 3 (127.0.0.4) of 4 did not join within {limit} s.")
        assert f"Joined: 0 ({here}), 1 ({here}), 2 ({here})." in done.stderr
        assert "Traceback" not in done.stderr
        assert seconds < limit + 15, "what comes before the limit are the imports"


@pytest.mark.long
def test_the_first_of_four_never_joins_and_three_name_it() -> None:
    ended = processes([slurm(index, MINDLLM_START_LIMIT="2") for index in (1, 2, 3)])
    for done, seconds in ended:
        assert done.returncode == 2
        assert done.stderr.startswith("error: process 0 (127.0.0.1) of 4 did not join within 2 s: no connection to")
        assert "Traceback" not in done.stderr
        assert seconds < 2 + 15


def test_a_process_waits_for_the_whole_limit_of_a_first_one_that_came_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "GRACE", 0.2)

    async def late_first(port: int) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            await asyncio.sleep(1.5)  # for the last of the three
            writer.write(b'[[0, "a"], [1, "b"], [2, "c"]]\n')
            writer.close()

        await asyncio.sleep(1)
        async with await asyncio.start_server(answer, "127.0.0.1", port):
            await asyncio.sleep(3)

    async def meet() -> None:
        port = free_port()
        group = ProcessGroup(f"127.0.0.1:{port}", 1, ("a", "b", "c"))
        first = asyncio.create_task(late_first(port))
        await meeting._join(group, 2)
        first.cancel()

    asyncio.run(meet())


def test_process_0_that_dies_while_others_wait_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first:

        def die() -> None:
            first.accept()[0].close()

        threading.Thread(target=die, daemon=True).start()
        address = f"127.0.0.1:{first.getsockname()[1]}"
        with pytest.raises(TimeoutError, match=rf"process 0 \(a\) of 2 accepted a connection at {address} and did not"):
            rendezvous(ProcessGroup(address, 1, ("a", "b")), 5.0)


@pytest.mark.long
def test_unrelated_connections_are_ignored() -> None:
    """Scanners connect and send whatever they like."""
    port = free_port()
    first = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)} | variables(port, 2, 0),
        stdout=subprocess.PIPE,
        text=True,
    )
    for sent in (
        b"GET / HTTP/1.1\r\n\r\n",
        b'{"process": 7, "host": "x"}\n',
        b'{"process": 0, "host": "x"}\n',
        b"[]\n",
    ):
        deadline = time.monotonic() + 30
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=10) as unrelated:
                    unrelated.sendall(sent)
                    assert unrelated.recv(100) == b"", "an unrelated connection gets no answer"
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
    ((second, _),) = processes([variables(port, 2, 1)])
    assert second.returncode == 0, second.stderr
    assert first.communicate(timeout=60)[0] == "process 0 of 2 with 2 devices\n"


def test_a_port_in_use_is_reported() -> None:
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"process 0 cannot open port {port} of"):
            rendezvous(ProcessGroup(f"127.0.0.1:{port}", 0, ("", "")), 5.0)


@pytest.mark.parametrize("limit", ["soon", "0", "-3", "inf", "nan"])
def test_invalid_limits_raise(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    for name, value in variables(1, 2, 0, MINDLLM_START_LIMIT=limit).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"MINDLLM_START_LIMIT = {limit}: give the seconds"):
        start()


@pytest.mark.parametrize("count", [2, 40])
def test_a_long_list_is_cut(count: int) -> None:
    hosts = tuple(f"n{index}" for index in range(count))
    with pytest.raises(TimeoutError, match="n1") as raised:
        rendezvous(ProcessGroup(f"127.0.0.1:{free_port()}", 0, hosts), 0.1)
    assert ("and 23 more of 40 did not join" in str(raised.value)) == (count == 40)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch):
    """A start without other processes, and without the suite's folder of compiled programs."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    kept, absl = CONFIG.jax_compilation_cache_dir, logging.getLogger("absl")
    monkeypatch.setattr(absl, "disabled", absl.disabled)
    yield
    jax.config.update("jax_compilation_cache_dir", kept)


def _no_such_user(uid: int) -> None:
    raise KeyError(f"getpwuid(): uid not found: {uid}")


@pytest.mark.parametrize("place", ["no home", "a file", "read-only"])
def test_without_a_folder_for_compiled_programs_they_are_not_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, alone: None, place: str
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / "file").touch()
    homes = {"a file": str(tmp_path / "file"), "read-only": "/proc"}
    if place in homes:
        monkeypatch.setenv("HOME", homes[place])
    else:
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr(pwd, "getpwuid", _no_such_user)
    before = CONFIG.jax_compilation_cache_dir
    start()
    said = capsys.readouterr().err
    assert said.startswith("compiled programs are not kept (") and said.count("\n") == 1
    assert CONFIG.jax_compilation_cache_dir == before


def test_compiled_programs_are_kept_in_the_cache_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, alone: None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    start()
    assert CONFIG.jax_compilation_cache_dir == str(tmp_path / "mindllm-jax")
    assert capsys.readouterr().err == "" and list((tmp_path / "mindllm-jax").iterdir()) == []


def test_tracebacks_of_orbax_are_seen_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, alone: None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    start()
    logging.getLogger("absl").error("a thread of Orbax failed")
    assert not caplog.records
    monkeypatch.setenv("MINDLLM_TRACEBACK", "1")
    start()
    logging.getLogger("absl").error("a thread of Orbax failed")
    assert [record.message for record in caplog.records] == ["a thread of Orbax failed"]


@pytest.mark.parametrize("platform", ["cuda", "cudo"])
def test_a_missing_platform_is_named(platform: str) -> None:
    if platform == "cuda" and glob.glob("/dev/nvidia*"):
        pytest.skip("there is a GPU here")
    ((done, _),) = processes([{"JAX_PLATFORMS": platform}])
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: JAX_PLATFORMS={platform}: JAX finds no such device")
    assert "; it finds cpu" in done.stderr
