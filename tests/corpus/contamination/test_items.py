"""Raw files of benchmarks in their published formats."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from mindllm_jax.corpus.contamination.items import benchmark_files, items


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_csv_with_quotes_and_newlines(tmp_path: Path) -> None:
    text = '\ufeffid,question,A\r\n1,"Who said ""no"",\nand why?",He\r\n2,' + "长" * 200_000 + ",B\r\n"
    rows = list(items(write(tmp_path / "x.csv", text)))
    assert rows[:2] == [["id", "question", "A"], ["1", 'Who said "no",\nand why?', "He"]]
    assert len(rows[2][1]) == 200_000


def test_tsv(tmp_path: Path) -> None:
    assert list(items(write(tmp_path / "x.tsv", "a, b\tc\n甲\t乙\n"))) == [["a, b", "c"], ["甲", "乙"]]


@pytest.mark.parametrize("field", ['"Who was the first', '"Old" is the opposite of'])
def test_a_lone_quote_takes_no_item(tmp_path: Path, field: str) -> None:
    rows = [["q", "a"], [field, "x"], ["R", "y"]]
    text = "".join("\t".join(row) + "\n" for row in rows)
    assert list(items(write(tmp_path / "x.tsv", text))) == rows
    path = write(tmp_path / "x.csv", text.replace("\t", ","))
    with pytest.raises(ValueError, match=r"x\.csv cannot be read as the raw file of a benchmark"):
        list(items(path))


ITEM = {"question": "Q", "choices": ["a", {"text": "b", "label": 1}], "answer": 0, "note": None}
OTHER = {"question": "R", "choices": [], "answer": 1, "note": "n"}


@pytest.mark.parametrize(
    "value",
    [
        [ITEM, OTHER],
        {"1": ITEM, "2": OTHER},
        {"version": "1", "data": [ITEM, OTHER]},
        {"train": [ITEM], "test": [OTHER]},
    ],
    ids=["list", "object of objects", "list within", "lists by split"],
)
def test_json(tmp_path: Path, value: Any) -> None:
    found = list(items(write(tmp_path / "x.json", json.dumps(value))))
    assert [texts for texts in found if texts != ["1"]] == [["Q", "a", "b"], ["R", "n"]]


def test_one_object_is_one_item(tmp_path: Path) -> None:
    assert list(items(write(tmp_path / "x.json", json.dumps({"question": "Q", "answer": "A"})))) == [["Q", "A"]]


def test_lines_of_json_compressed(tmp_path: Path) -> None:
    text = "\n".join([json.dumps(ITEM), "", json.dumps({"text": "line\u2028separator"}, ensure_ascii=False)])
    path = write(tmp_path / "x.jsonl.gz", gzip.compress(text.encode()))
    assert list(items(path)) == [["Q", "a", "b"], ["line\u2028separator"]]


def test_text_by_paragraph_and_by_line(tmp_path: Path) -> None:
    assert list(items(write(tmp_path / "x.txt", "Q: one\nA: two\n \n\nQ: three"))) == [
        ["Q: one", "A: two"],
        ["Q: three"],
    ]
    assert list(items(write(tmp_path / "zho.dev", "句子。\nSentence."))) == [["句子。"], ["Sentence."]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", b"{"),
        ("x.jsonl", b'{"a": 1}\n{'),
        ("x.csv", b"\xff\xfe\xff"),
        ("x.jsonl.gz", gzip.compress(b"[]" * 1000)[:-10]),
        ("y.jsonl.gz", b"\x1f\x8bnothing"),
        ("x.json", b"[" * 200_000),
        ("z.jsonl.gz", gzip.compress(b"{}" * 1000)[:20] + b"\xff" * 40),
    ],
    ids=["json", "line", "not UTF-8", "cut", "no gzip", "endless", "damaged"],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(ValueError, match="cannot be read as the raw file of a benchmark") as error:
        list(items(path))
    assert str(path) in str(error.value)


def test_a_quote_within_a_field_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", 'q,a\n"He said "hi" to me",b\n')
    with pytest.raises(ValueError, match=r"x\.csv cannot be read .*: line 2: .*; write a quote .* twice"):
        list(items(path))


def test_half_a_surrogate_pair_is_replaced(tmp_path: Path) -> None:
    assert list(items(write(tmp_path / "x.jsonl", '{"a": "\\ud83d\\ude00 b \\ud83d c"}'))) == [["😀 b \ufffd c"]]


def test_files_by_benchmark(tmp_path: Path) -> None:
    for name in ("mmlu/test/law.csv", "mmlu/dev/law.csv", "mmlu/README.md", "gsm8k.jsonl.gz", "piqa/valid.jsonl"):
        write(tmp_path / name, "x")
    for name in ("piqa/valid-labels.lst", "mmlu/LICENSE", "mmlu/.DS_Store", "piqa/.git/HEAD", "__MACOSX/x.csv"):
        write(tmp_path / name, "x")
    for name in ("LICENSE-CC-BY-4.0", "CITATION", "Makefile", "SHA256SUMS", "page.html", "a.svg", "test.csv.sha256"):
        write(tmp_path / "mmlu" / name, "x")
    write(tmp_path / "arc/TEST.CSV.GZ", gzip.compress(b"q,a\n"))
    found = benchmark_files(tmp_path)
    assert {name: len(files) for name, files in found.items()} == {"arc": 1, "gsm8k": 1, "mmlu": 2, "piqa": 1}
    assert list(items(found["arc"][0])) == [["q", "a"]]


def test_folders_behind_links_are_read(tmp_path: Path) -> None:
    """As data that lies once on a cluster, with a loop."""
    write(tmp_path / "data/ceval/law.csv", "x")
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval/ceval").symlink_to(tmp_path / "data/ceval")
    (tmp_path / "data/ceval/again").symlink_to(tmp_path / "data")
    assert benchmark_files(tmp_path / "eval") == {"ceval": [tmp_path / "eval/ceval/law.csv"]}
    write(tmp_path / "eval/zz/law.csv", "x")
    (tmp_path / "eval/latest").symlink_to("zz")
    (tmp_path / "eval/mirror").symlink_to(tmp_path / "eval/zz")
    write(tmp_path / "eval/hails/agieval/sat.csv", "x")
    (tmp_path / "eval/agieval").symlink_to("hails/agieval")
    (tmp_path / "eval/linked").mkdir()
    (tmp_path / "eval/linked/law.csv").symlink_to(tmp_path / "data/ceval/law.csv")
    assert list(benchmark_files(tmp_path / "eval")) == ["ceval", "hails", "linked", "zz"], "under their own names"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arc/test.parquet", r"test\.parquet is no \.csv.* file .*: unpack or convert"),
        ("mmlu/test.tar.gz", r"test\.tar\.gz is no \.csv"),
        *(
            (f"mmlu/{name}", f"{name} is no")
            for name in ("x.ndjson", "x.xml", "x.jsonl.ZST", "x.jsonl.lz4", "test", "version.parquet")
        ),
        ("arc/README.md", "arc has no"),
    ],
)
def test_a_benchmark_that_would_be_left_out_is_named(name: str, message: str, tmp_path: Path) -> None:
    write(tmp_path / "mmlu/law.csv", "x")
    write(tmp_path / name, "x")
    with pytest.raises(ValueError, match=message):
        benchmark_files(tmp_path)


def test_empty_folders_raise(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        benchmark_files(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"has no \.csv"):
        benchmark_files(tmp_path)
