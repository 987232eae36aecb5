"""The document files that a setting names."""

from pathlib import Path

import pytest

from mindllm_jax.text.input_files import input_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jsonl", "a.jsonl.gz", "notes.txt"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_files_and_the_files_of_folders(folder: Path) -> None:
    assert [file.name for file in input_files([str(folder)])] == ["a.jsonl.gz", "b.jsonl"]
    assert input_files([str(folder / "notes.txt")]) == [folder / "notes.txt"]


def test_missing_inputs_raise(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file or folder nothing"):
        input_files(["nothing"])
    with pytest.raises(ValueError, match=r"empty holds no \.jsonl"):
        input_files([str(folder / "empty")])
    with pytest.raises(ValueError, match="inputs is empty"):
        input_files([])


def test_a_file_named_twice(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"name .*b\.jsonl more than once"):
        input_files([str(folder), str(folder / "b.jsonl")])
