"""Source files of folders as documents: what is kept, what is left out and why, and how they reach a mixture."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mindllm_jax.corpus.source_code import CollectCode, collect_code, collected_table
from mindllm_jax.mixture.settings import Mixture, rows_in_epoch
from mindllm_jax.store.prepare import PrepareData, prepare_data

ROOT = Path(__file__).parents[2]
CODE = '"""Adds."""\n\n\ndef add(left, right):\n    return left + right  # 和\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Good files, and a bad one of each kind."""
    files = {
        "b.py": CODE + "b = 1\n",
        "a/z.py": CODE + "z = 1\n",
        "a/windows.py": CODE.replace("\n", "\r\n") + "w = 1\r\n",
        "a/marked.py": "\ufeff" + CODE + "m = 1\n",
        "copy.py": CODE + "b = 1\n",
        "short.py": "x = 1\n",
        "blank.py": "\n" * 200,
        "long.py": CODE * 20,
        "longer.py": CODE * 200,
        "lines.py": CODE + "x" * 200,
        "table.py": "table = [" + "0x00, 0x01, 0x02,\n" * 10 + "]",
        "notes.txt": CODE + "notes",
        "tests/test_add.py": CODE + "test",
    }
    for name, text in files.items():
        (tmp_path / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "code" / name).write_bytes(text.encode())
    (tmp_path / "code/latin.py").write_bytes((CODE + "é").encode("latin-1", "replace"))
    (tmp_path / "code/folder.py").mkdir()
    (tmp_path / "code/link.py").symlink_to("nowhere.py")
    return tmp_path / "code"


def _settings(folder: Path, **changed: Any) -> CollectCode:
    limits: dict[str, Any] = {"min_chars": 40, "max_chars": 1000, "max_line_chars": 100}
    return CollectCode(**{"output": str(folder.parent / "out"), "folders": {"tools": str(folder)}, **limits, **changed})


def _rows(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]


def test_good_files_are_documents_and_others_are_counted(folder: Path) -> None:
    (collected,) = collect_code(_settings(folder))
    rows = _rows(folder.parent / "out/tools.jsonl.gz")
    assert [row["id"] for row in rows] == ["a/marked.py", "a/windows.py", "a/z.py", "b.py"]
    assert {(row["source"], row["lang"]) for row in rows} == {("tools", "code")}
    assert [row["text"] for row in rows] == [CODE + f"{name} = 1\n" for name in "mwzb"]
    reasons = {"exact copy": 1, "few letters": 1, "long lines": 1, "not UTF-8": 1, "too long": 2, "too short": 2}
    assert collected.left_out == Counter(reasons)
    assert (collected.documents, collected.bytes) == (4, sum(len(row["text"].encode()) for row in rows))
    assert "1 exact copy, 1 few letters, 1 long lines, 1 not UTF-8" in collected_table([collected]).markdown()


def test_the_same_files_give_the_same_bytes(folder: Path) -> None:
    collect_code(_settings(folder))
    collect_code(_settings(folder, output=str(folder.parent / "again")))
    assert len({path.read_bytes() for path in folder.parent.glob("*/tools.jsonl.gz")}) == 1


def test_a_file_of_another_source_in_the_output_is_refused(folder: Path) -> None:
    collect_code(_settings(folder))
    with pytest.raises(ValueError, match=r"out has tools\.jsonl\.gz of other sources, which later commands would read"):
        collect_code(_settings(folder, folders={"others": str(folder)}))
    assert [file.name for file in (folder.parent / "out").iterdir()] == ["tools.jsonl.gz"]
    (folder.parent / "out/._tools.jsonl.gz").write_text("macOS's notes")
    collect_code(_settings(folder))
    (folder.parent / "out/other.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"out has other\.jsonl of other sources"):
        collect_code(_settings(folder))


def test_links_to_folders_are_followed(folder: Path) -> None:
    (folder / "linked").symlink_to(folder.parent / "more")
    (folder.parent / "more").mkdir()
    (folder.parent / "more/new.py").write_text(CODE + "new", encoding="utf-8")
    collect_code(_settings(folder))
    assert "linked/new.py" in [row["id"] for row in _rows(folder.parent / "out/tools.jsonl.gz")]


def test_a_copy_in_another_source_is_left_out(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/b.py").write_text(CODE + "b = 1\n", encoding="utf-8")
    (tmp_path / "more/new.py").write_text(CODE + "new", encoding="utf-8")
    first, second = collect_code(_settings(folder, folders={"tools": str(folder), "more": str(tmp_path / "more")}))
    assert (first.documents, second.documents, second.left_out) == (4, 1, Counter({"exact copy": 1}))
    assert [row["id"] for row in _rows(tmp_path / "out/more.jsonl.gz")] == ["new.py"]


def test_files_that_cannot_be_read_or_named_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (Path(os.fsdecode(os.fsencode(folder) + b"/\xff.py"))).write_text(CODE, encoding="utf-8")
    read_text = Path.read_text

    def denied(path: Path, *more: str) -> str:
        if path.name == "b.py":
            raise PermissionError(13, "Permission denied")
        return read_text(path, *more)

    monkeypatch.setattr(Path, "read_text", denied)
    (collected,) = collect_code(_settings(folder))
    assert collected.left_out["cannot be read"] == collected.left_out["name not UTF-8"] == 1
    assert "copy.py" in [row["id"] for row in _rows(folder.parent / "out/tools.jsonl.gz")]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"suffixes": (".c",)}, r"code has no source file to keep \(no name ends in \.c\)"),
        ({"min_chars": 999}, r"has no source file to keep \(.* too short\); name another folder"),
    ],
)
def test_an_empty_result_is_refused_and_loses_nothing(folder: Path, changed: dict[str, Any], message: str) -> None:
    collect_code(_settings(folder))
    before = (folder.parent / "out/tools.jsonl.gz").read_bytes()
    with pytest.raises(ValueError, match=message):
        collect_code(_settings(folder, **changed))
    assert [path.read_bytes() for path in (folder.parent / "out").iterdir()] == [before]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"min_letters": 50}, "CollectCode.min_letters must be between 0 and 1, not 50"),
        ({"max_chars": 0}, "CollectCode.max_chars = 0: must be at least 1"),
        ({"suffixes": ()}, r"CollectCode.suffixes is \(\): name at least one"),
        ({"suffixes": ("",)}, "CollectCode.suffixes is .* none empty"),
        ({"folders": {"my tools": "x"}}, "documents have 'my_tools'"),
        ({"folders": {"tools": "https://example.org/code"}}, "not a URL"),
    ],
)
def test_settings_that_make_no_sense_are_refused(folder: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _settings(folder, **changed)


def test_a_missing_folder_is_named_before_anything_is_written(folder: Path) -> None:
    with pytest.raises(NotADirectoryError, match=r"folders\['gone'\]: there is no folder nowhere"):
        collect_code(_settings(folder, folders={"tools": str(folder), "gone": "nowhere"}))
    assert not (folder.parent / "out").exists()


def test_code_is_a_language_of_a_mixture(folder: Path, tmp_path: Path) -> None:
    collect_code(_settings(folder))
    (tmp_path / "text").mkdir()
    for lang, text in (("zh", "床前明月光，疑是地上霜。"), ("en", "In the beginning there was a word. ")):
        rows = [{"text": text * 4 + str(i), "lang": lang, "id": str(i)} for i in range(8)]
        (tmp_path / f"text/{lang}_text.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    tokenizer, store = str(ROOT / "tests/fixtures/tokenizer.model"), str(tmp_path / "store")
    inputs = (str(tmp_path / "text"), str(tmp_path / "out"))
    prepared = prepare_data(PrepareData(tokenizer, store, inputs=inputs, held_out=0.2))
    assert prepared.store.languages() == {"code": ["tools"], "en": ["en_text"], "zh": ["zh_text"]}
    mixture = Mixture(store, {"zh": 2, "en": 3, "code": 1}, sequence_length=16)
    assert set(rows_in_epoch(mixture, prepared.store)) == {"zh", "en", "code"}


def test_the_entry_point_reads_the_standard_library(tmp_path: Path) -> None:
    def collect(*suffixes: str) -> subprocess.CompletedProcess[str]:
        settings = (f"--gin.CollectCode.suffixes={suffixes}", f"--gin.CollectCode.output={tmp_path}")
        command = [sys.executable, "launch/collect_code.py", *settings]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    done = collect("decoder.py", "encoder.py")
    assert done.returncode == 0 and "python_stdlib" in done.stdout, done.stderr
    assert "json/decoder.py" in [row["id"] for row in _rows(tmp_path / "python_stdlib.jsonl.gz")]
    done = collect(".nothing")
    assert done.returncode != 0 and "no name ends in .nothing" in done.stderr and "Traceback" not in done.stderr
