"""Files that appear whole or not at all."""

import os
from pathlib import Path

import pytest

from mindllm_jax.files import replacing, write_bytes, write_text


def test_text_and_bytes_in_a_new_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "text", "一\n")
    write_bytes(tmp_path / "new" / "bytes", "一\n".encode())
    assert (tmp_path / "new" / "text").read_bytes() == (tmp_path / "new" / "bytes").read_bytes() == "一\n".encode()


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    with pytest.raises(ValueError, match="closed file"), replacing(tmp_path / "file") as file:
        file.close()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "file", "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "file", b"new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_replaced_file_keeps_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_text(tmp_path / "file", "x")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode
