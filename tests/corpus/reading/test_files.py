"""The raw files that a setting names."""

import os
from pathlib import Path

import fsspec
import pytest

from mindllm_jax.corpus.reading.files import default_sources, raw_files, require_outside, short_names, sizes


@pytest.fixture
def tree(tmp_path):
    for name in ("zh/b.jsonl.gz", "zh/deep/a.TXT", "zh/_SUCCESS", "zh/.hidden.txt", "en/c.parquet", "en/.git/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(tree, *inputs):
    return [file.removeprefix(f"{tree}/") for file in raw_files([f"{tree}/{name}" for name in inputs])]


def test_files_folders_and_globs(tree):
    assert names(tree, "") == ["en/c.parquet", "zh/b.jsonl.gz", "zh/deep/a.TXT"]
    assert names(tree, "zh/", "zh", "zh/b.jsonl.gz") == ["zh/b.jsonl.gz", "zh/deep/a.TXT"]
    assert names(tree, "*/*.gz", "zh/**/*.TXT") == ["zh/b.jsonl.gz", "zh/deep/a.TXT"]
    (tree / "zh/odd[1].txt").touch()
    assert names(tree, "zh/odd[1].txt") == ["zh/odd[1].txt"]


def test_links_to_folders_are_followed(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "d.jsonl").touch()
    (tree / "zh/link.txt").symlink_to(elsewhere)
    assert names(tree, "zh") == ["zh/b.jsonl.gz", "zh/deep/a.TXT", "zh/link.txt/d.jsonl"]


def test_a_folder_that_cannot_be_read_raises(tree, monkeypatch):
    scandir = os.scandir

    def denied(path):
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(PermissionError, match="zh/deep"):
        names(tree, "zh")


def test_an_output_in_an_input_folder_is_refused(tree):
    (tree / "link").symlink_to("zh")
    for place in ("zh", "zh/deep/new", "link/new"):
        with pytest.raises(ValueError, match=rf"Scoring\.output = .*{place} is in the input folder .*/zh: .* outside"):
            require_outside(f"{tree}/{place}", "Scoring.output", [f"{tree}/en", f"{tree}/zh"])
    for place in ("zh/_out", "zh2", ""):
        require_outside(f"{tree}/{place}", "Scoring.output", ["memory://zh", f"{tree}/zh", f"{tree}/zh/**/*.gz"])


def test_urls(tree):
    with fsspec.open("memory://files/zh/a.jsonl", "wb"):
        pass
    assert raw_files(["memory://files", "memory://files/*/*.jsonl"]) == ["memory:///files/zh/a.jsonl"]


def test_a_missing_input_raises(tree):
    (tree / "empty").mkdir()
    for name, told in [("no", "it does not exist"), ("*.gz", r"write \*\* for"), ("empty", "folder has no files")]:
        with pytest.raises(FileNotFoundError, match=f"no files at .*: .*{told}"):
            names(tree, name)
    with pytest.raises(ValueError, match="no input files are given"):
        raw_files([])
    with pytest.raises(ValueError, match=r"nonsense://x: .*nonsense"):
        raw_files(["nonsense://x"])


def test_unknown_suffixes_in_a_folder_are_reported_together(tree):
    for name in ("zh/x.docx", "zh/y.docx", "zh/README"):
        (tree / name).touch()
    with pytest.raises(ValueError, match=r"3 files of unknown kinds \(2 x \.docx, 1 x no suffix\), such as .*README"):
        names(tree, "en", "zh")
    assert names(tree, "zh/*.docx") == ["zh/x.docx", "zh/y.docx"]


def test_short_names_tell_files_apart():
    assert short_names(["/data/zh/a.txt", "/data/en/b.txt"]) == ["a.txt", "b.txt"]
    assert short_names(["/data/zh/a.txt", "s3://x/en/a.txt"]) == ["zh/a.txt", "en/a.txt"]
    assert short_names(["a.txt", "a.txt"]) == ["a.txt", "a.txt"]


def test_sizes_are_the_same_wherever_files_lie(tree, tmp_path_factory):
    (tree / "zh/b.jsonl.gz").write_bytes(b"abc")
    elsewhere = tree.rename(tmp_path_factory.mktemp("new") / "place")
    found = sizes(raw_files([str(elsewhere)]))
    assert found == [("c.parquet", 0), ("b.jsonl.gz", 3), ("a.TXT", 0)]


def test_sources_of_files():
    files = ["/d/zh/a.jsonl.gz", "/d/zh/b.v2.jsonl", "/d/zh/Evening Post.txt", "/d/tales/1.txt", "/d/tales/2.txt.gz"]
    assert default_sources(files, "file") == ["a", "b", "Evening_Post", "tales", "tales"]
    assert default_sources(files, "folder") == ["zh", "zh", "zh", "tales", "tales"]
    assert default_sources(["a.jsonl", "/.hidden", "s3://b/Old Tales/1.md", "s3://b/Old Tales/2.html"], "file") == [
        "a", "hidden", "Old_Tales", "Old_Tales",
    ]  # fmt: skip
