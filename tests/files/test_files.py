"""Atomic writes, and errors of JSON files."""

import hashlib
import json
import os
import re
from pathlib import Path

import pytest

from mindllm_jax.files import json_sha256, read_json, replacing, write_bytes, write_text


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
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/file'"):
        write_bytes(tmp_path / "file", b"new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_replaced_file_keeps_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_text(tmp_path / "file", "x")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("there/file")
    for text in ("first", "second"):
        write_text(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "there/file").read_text() == text


def test_a_link_to_itself_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").read_text() == "x"


def test_the_longest_names_are_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "字" * 85):
        write_text(tmp_path / name, "x")
    assert {len(path.name.encode()) for path in tmp_path.iterdir()} == {255}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged: not JSON at line 1, column 1: Expecting value"),
        (b'{"a": 1,\n "b"', "damaged: not JSON at line 2, column 5: Expecting ':' delimiter"),
        (b'{"a": "\xff"}', "damaged: not UTF-8 text at byte 7"),
        (b"[1]", "damaged: it holds an array where a JSON object"),
        (b"null", "damaged: it holds null"),
        (b"0.5", "damaged: it holds a number"),
        (b'{"a": ' + b"1" * 5000 + b"}", "damaged: not JSON that can be read: Exceeds the limit"),
        (b"[" * 100_000, "damaged: not JSON that can be read: maximum recursion"),
    ],
)
def test_damaged_json_is_refused_with_its_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'config.json'}: {message}")):
        read_json(tmp_path / "config.json")


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "config.json") == {"a": 1}


def test_the_checksum_of_a_value_is_that_of_its_json() -> None:
    """Caches and identities depend on it: it must never change."""
    value = {"b": ["一", 1.5, None], "a": True}
    assert json_sha256(value)[:16] == hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16] == "92adb08a7a6703d5"
    assert json_sha256(value, sort_keys=True, ensure_ascii=False)[:16] == "0825e9b0a75bada6"
    assert json_sha256("\ud800", ensure_ascii=False) != json_sha256("\ud801", ensure_ascii=False)
