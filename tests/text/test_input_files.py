"""The document files that a setting names."""

from pathlib import Path

import pytest

from mindllm_jax.text.input_files import corpus_files, input_files


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


def test_the_documents_of_a_corpus(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    for name in ("documents/zh/laws/00000.jsonl.gz", "documents/en/news/00001.jsonl.gz", "dropped/zh/0.jsonl.gz"):
        (corpus / name).parent.mkdir(parents=True)
        (corpus / name).write_text("x", encoding="utf-8")
    (corpus / "logs").mkdir()
    expected = [corpus / "documents/en/news/00001.jsonl.gz", corpus / "documents/zh/laws/00000.jsonl.gz"]
    assert input_files([str(corpus / "documents")]) == expected
    assert input_files([str(corpus / "documents/zh"), str(corpus / "documents/en/news")]) == expected[::-1]
    for read in (lambda: input_files([str(corpus)]), lambda: corpus_files(corpus)):
        with pytest.raises(FileNotFoundError, match=r"corpus is not a finished corpus: it has no card\.json"):
            read()
    (corpus / "card.json").write_text("{}", encoding="utf-8")
    assert input_files([str(corpus)]) == corpus_files(corpus) == expected


def test_files_beside_subfolders(folder: Path) -> None:
    """Files in subfolders are not read if the folder has files itself: they may be held out."""
    (folder / "held_out").mkdir()
    (folder / "held_out/c.jsonl").write_text("x", encoding="utf-8")
    assert [file.name for file in input_files([str(folder)])] == ["a.jsonl.gz", "b.jsonl"]


def test_a_file_named_twice(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"name .*b\.jsonl more than once"):
        input_files([str(folder), str(folder / "b.jsonl")])


def test_files_of_a_folder_that_are_not_read_are_reported(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("card.json", "._c.jsonl", ".x.jsonl.zst"):
        (folder / name).write_text("x", encoding="utf-8")
    input_files([str(folder)])
    assert not caplog.text
    for name in ("B.JSONL", "d.jsonl.zst", "e.ndjson", "f.parquet"):
        (folder / name).write_text("x", encoding="utf-8")
    assert [file.name for file in input_files([str(folder)])] == ["a.jsonl.gz", "b.jsonl"]
    assert "files that may be data are not read (4): B.JSONL, d.jsonl.zst, e.ndjson, f.parquet; only" in caplog.text


def test_files_of_subfolders_that_are_not_read_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.jsonl", "b.parquet"):
        (tmp_path / "sub" / name).write_text("x", encoding="utf-8")
    assert input_files([str(tmp_path)]) == [tmp_path / "sub/a.jsonl"]
    assert "not read (1): sub/b.parquet; only" in caplog.text


def test_subfolders_beside_files_are_not_looked_into(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One that cannot be read, as lost+found, stops nothing."""
    (folder / "sub").mkdir()
    (folder / "sub/c.parquet").write_text("x", encoding="utf-8")
    (folder / "sub").chmod(0)
    assert [file.name for file in input_files([str(folder)])] == ["a.jsonl.gz", "b.jsonl"]
    (folder / "sub").chmod(0o700)
    assert not caplog.text
