"""A run's folder belongs to one run, seen by all its processes, and a refused start leaves it as it was."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
from process_fixtures import InTwoProcesses

from mindllm_jax import configuration, locks
from mindllm_jax.locks import LOCK
from mindllm_jax.run_records import write_records
from mindllm_jax.training.run_folder import run_folder

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Settings:
    """Of a run of nothing."""

    rate: float = 1.0


@dataclass(frozen=True)
class Others:
    """Of another entry point."""

    rate: float = 1.0


def arguments(workdir: Path, *flags: str) -> configuration.Arguments:
    return configuration.command_line("", ["--workdir", str(workdir), *flags])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    with run_folder(Settings(), arguments(workdir)) as (_, accept):
        accept("float32")
        before = files(workdir)
        with (
            pytest.raises(
                ValueError, match=rf"in use by a run of process {os.getpid()} on \S+ since 2\d\d\d-\d\d-\d\d "
            ),
            run_folder(Settings(), arguments(workdir)),
        ):
            pass
        assert files(workdir) == before
    with run_folder(Settings(), arguments(workdir)):
        pass
    assert LOCK not in files(workdir)


def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    script = f"""
import fcntl, time
file = open({str(tmp_path / LOCK)!r}, "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"locked\n"
    with (
        pytest.raises(ValueError, match=r"in use by a run: wait for it or stop it"),
        run_folder(Settings(), arguments(tmp_path)),
    ):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with run_folder(Settings(), arguments(tmp_path)):
        pass


@pytest.mark.parametrize("seconds", [0.3, 60])
def test_a_lock_of_another_host_is_waited_for(tmp_path: Path, monkeypatch, seconds: float) -> None:
    """A file server keeps the lock of a host that died for a while."""
    monkeypatch.setattr(locks, "PATIENCE", 3.0)
    (tmp_path / LOCK).write_text(json.dumps({"host": "elsewhere", "machine": "0", "process": 7, "since": "long ago"}))
    file = (tmp_path / LOCK).open()
    fcntl.flock(file, fcntl.LOCK_EX)
    timer = threading.Timer(seconds, file.close)
    timer.start()
    refused = pytest.raises(ValueError, match="in use by a run of process 7 on elsewhere since long ago")
    with refused if seconds > 3 else nullcontext(), run_folder(Settings(), arguments(tmp_path)):
        pass
    timer.cancel()
    file.close()


def test_a_start_that_is_not_accepted_leaves_nothing(tmp_path: Path) -> None:
    deep = tmp_path / "new/and/deep"
    with pytest.raises(ValueError, match="something does not fit"), run_folder(Settings(), arguments(deep)):
        raise ValueError("something does not fit")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["link", "link/run"])
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with (
        pytest.raises(
            FileNotFoundError, match=r"link is a link to .*gone, which does not exist: is the disk mounted\?"
        ),
        run_folder(Settings(), arguments(tmp_path / name)),
    ):
        pass


def test_a_lock_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(locks.json, "dumps", full)
    refused = pytest.raises(OSError, match="cannot write to the folder: No space left on device")
    with refused, run_folder(Settings(), arguments(tmp_path / "new/run")):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flags", [(), ("--accept_changes",)])
def test_the_folder_of_another_kind_of_run_is_refused(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """As where a run is tuned or evaluated in the folder in which it was pre-trained."""
    write_records(Settings(), tmp_path)
    before = files(tmp_path)
    with (
        pytest.raises(ValueError, match="holds a run of Settings, and this is one of Others: take another --workdir"),
        run_folder(Others(), arguments(tmp_path, *flags)),
    ):
        pass
    assert files(tmp_path) == before


def test_other_settings_are_written_only_when_the_run_is_accepted(tmp_path: Path) -> None:
    write_records(Settings(), tmp_path)
    before = files(tmp_path)
    with (
        pytest.raises(ValueError, match="does not fit"),
        run_folder(Settings(rate=2.0), arguments(tmp_path, "--accept_changes")),
    ):
        raise ValueError("the checkpoint does not fit")
    assert files(tmp_path) == before
    with run_folder(Settings(rate=2.0), arguments(tmp_path, "--accept_changes")) as (workdir, accept):
        accept("float32")
    assert json.loads((workdir / "config.json").read_text()) == {"Settings": {"rate": 2.0}}


def test_accepted_changes_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rate in (1.0, 1.0, 2.0):
        with run_folder(Settings(rate), arguments(tmp_path, "--accept_changes")) as (_, accept):
            accept("float32")
    assert capsys.readouterr().out == "accepted changes of the run's settings:\n  Settings.rate: was 1.0, is now 2.0\n"


def checkpoint(workdir: Path, **roots: dict[str, float]) -> None:
    """Writes what is read of a checkpoint before its arrays."""
    path = workdir / "checkpoints/3/run/metadata"
    path.parent.mkdir(parents=True)
    run = {"step": 3, "position": {"rows": 1, "tokens": 2}, "fingerprint": ""}
    path.write_text(json.dumps(roots | run))


def test_without_config_json_the_settings_are_those_of_the_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(tmp_path, Others={"rate": 1.0}, Settings={"rate": 1.0})
    with run_folder(Settings(), arguments(tmp_path)):
        pass
    with (
        pytest.raises(ValueError, match=r"another configuration:\n  Settings\.rate: was 1\.0, is now 2\.0"),
        run_folder(Settings(2.0), arguments(tmp_path)),
    ):
        pass
    with (
        pytest.raises(ValueError, match="holds a run of Settings, and this is one of Others"),
        run_folder(Others(), arguments(tmp_path, "--accept_changes")),
    ):
        pass
    with run_folder(Settings(2.0), arguments(tmp_path, "--accept_changes")) as (_, accept):
        accept("float32")
    assert "Settings.rate: was 1.0, is now 2.0" in capsys.readouterr().out


# What two processes say that see their own folders, the same folder, a missing file, other content, the same content,
# and that have other settings or other code.
PROCESS = """
import json, sys
from dataclasses import dataclass
from pathlib import Path
import jax
from mindllm_jax import configuration
from mindllm_jax.parallel.startup import start
from mindllm_jax.parallel.together import require_same, together
from mindllm_jax.training import run_folder as module
from mindllm_jax.training.run_folder import run_folder

@dataclass(frozen=True)
class Settings:
    rate: float = 1.0

start()
module.PATIENCE = 1.0
folder, index, said = Path(sys.argv[1]), jax.process_index(), []

def attempt(act):
    try:
        said.append(str(act()))
    except (OSError, ValueError) as error:
        said.append(f"{type(error).__name__}: {error}")

def hold(name, rate=1.0):
    with run_folder(Settings(rate), configuration.command_line("", ["--workdir", str(folder / name)])):
        return "held"

def missing():
    if index == 1:
        raise FileNotFoundError("no such store")
    return "found"

attempt(lambda: hold(f"own_{index}"))
attempt(lambda: hold("shared"))
attempt(lambda: together(missing))
attempt(lambda: require_same("the store", b"same" if index == 0 else b"other"))
attempt(lambda: require_same("the store", b"same"))
attempt(lambda: hold("other_settings", rate=1.0 + index))
module.git_sha = lambda: f"abc{index}"
attempt(lambda: hold("other_code"))
(folder / f"{index}.json").write_text(json.dumps(said))
"""


def test_processes_that_see_different_files_all_say_so(in_two_processes: InTwoProcesses, tmp_path: Path) -> None:
    in_two_processes(PROCESS)
    first, second = (json.loads((tmp_path / f"{process}.json").read_text()) for process in range(2))
    assert "1 of 2 processes cannot start: 1 (" in first[0] and "a file system that all hosts share" in first[0]
    assert second[0].startswith("ValueError: --workdir") and "own_1 is not the folder that process 0" in second[0]
    assert first[1] == second[1] == "held"
    assert "1 of 2 processes cannot start" in first[2] and second[2] == "FileNotFoundError: no such store"
    assert first[3] == second[3] and "the store is not the same on all hosts: it differs from that of" in first[3]
    assert first[4] == second[4] == "None"
    assert "Settings.rate: process 0 has 1.0, this one has 2.0" in first[5] and "1 of 2 processes" in first[5]
    assert second[5].startswith("ValueError: the processes of the run differ:\n  Settings.rate: process 0 has 1.0")
    assert "commit: process 0 has 'abc0', this one has 'abc1'" in first[6] and first[6].count("this one has") == 1
    assert not [*tmp_path.glob("other_*")]
