"""A lock of a folder waits for another holder for as long as its caller allows."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from mindllm_jax.locks import LOCK, InUse, lock_folder


def test_a_holder_on_another_host_is_waited_for_as_long_as_the_caller_says(tmp_path: Path) -> None:
    with lock_folder(tmp_path, user="a test", otherwise="wait"):
        (tmp_path / LOCK).write_text('{"host": "elsewhere", "machine": "0", "process": 7, "since": "long ago"}')
        started = time.monotonic()
        with pytest.raises(InUse, match="elsewhere"), lock_folder(tmp_path, user="a test", otherwise="wait", wait=0):
            pass
        assert time.monotonic() < started + 5


def test_a_folder_below_one_that_is_gone_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(OSError, match="cannot write"), lock_folder(Path("run"), user="a test", otherwise="wait"):
        pass


def test_a_holder_on_this_machine_is_waited_for(tmp_path: Path) -> None:
    held, entered = threading.Event(), []

    def hold() -> None:
        with lock_folder(tmp_path, user="a test", otherwise="wait"):
            held.set()
            time.sleep(0.5)
            entered.append("first")

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    with pytest.raises(InUse, match="is in use by a test"), lock_folder(tmp_path, user="a test", otherwise="wait"):
        pass
    with lock_folder(tmp_path, user="a test", otherwise="wait", wait=30):
        entered.append("second")
    thread.join()
    assert entered == ["first", "second"]
