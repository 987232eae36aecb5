"""The conversion of a folder of benchmarks: what it finds, what it reports, what the entry point writes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mindllm_jax.evaluation.benchmarks.convert import BENCHMARKS, PrepareBenchmarks, convert

ROOT = Path(__file__).parents[2]
GSM8K_LINE = '{"question": "1 + 1?", "answer": "#### 2"}\n'


def put(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.mark.parametrize(("name", "split"), [("mmlu", "test"), ("ceval", "val"), ("cmmlu", "test")])
def test_an_examination_without_its_scored_split(tmp_path: Path, name: str, split: str) -> None:
    (tmp_path / name / "dev").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=rf"{name}/{split}: there are no \.csv files"):
        convert(PrepareBenchmarks(str(tmp_path), (name,)))


def test_the_documentation_lists_the_files_of_each_benchmark() -> None:
    rows = [line for line in (ROOT / "docs/evaluation.md").read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert set(BENCHMARKS) <= set(listed), set(BENCHMARKS) - set(listed)


def test_missing_benchmarks(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"PrepareBenchmarks\.source = .*absent: there is no such folder"):
        convert(PrepareBenchmarks(str(tmp_path / "absent")))
    with pytest.raises(FileNotFoundError, match="it holds none of mmlu, ceval"):
        convert(PrepareBenchmarks(str(tmp_path)))
    with pytest.raises(FileNotFoundError, match=r"the benchmark 'mmlu' was asked for: there is no folder .*/mmlu"):
        convert(PrepareBenchmarks(str(tmp_path), ("mmlu",)))
    with pytest.raises(
        ValueError, match=r"PrepareBenchmarks\.benchmarks: there is no benchmark 'mlu'; did you mean 'mm"
    ):
        PrepareBenchmarks(str(tmp_path), ("mlu",))
    with pytest.raises(ValueError, match=r"PrepareBenchmarks\.folders: 'cmmlu' is not among PrepareBenchmarks\.benchm"):
        PrepareBenchmarks(str(tmp_path), ("mmlu",), {"cmmlu": str(tmp_path)})
    put(tmp_path / "gsm8k/test.jsonl", GSM8K_LINE)
    found = convert(PrepareBenchmarks(str(tmp_path)))
    assert list(found.splits) == ["gsm8k", "arithmetic"] and "mmlu" in found.missing
    assert ("mmlu", "no folder in the source", "", "") in found.table().rows


def prepare(source: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Runs the entry point."""
    command = [sys.executable, str(ROOT / "launch/prepare_benchmarks.py")]
    settings = [f"--gin.PrepareBenchmarks.source={source}", *flags]
    return subprocess.run([*command, *settings], capture_output=True, text=True, check=False)


def test_the_entry_point_writes_once_all_is_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    put(tmp_path / "mmlu/test/anatomy_test.csv", '"What, then?",one,"two, or more",three,four,B\n')
    put(tmp_path / "gsm8k/test.jsonl", GSM8K_LINE.replace("#### ", ""))
    failed = prepare(tmp_path, f"--workdir={data}")
    assert failed.returncode and "gsm8k/test.jsonl, line 1: the answer has no '#### NUMBER'" in failed.stderr
    assert not data.exists()
    flags = ("--gin.PrepareBenchmarks.benchmarks=('mmlu',)", f"--workdir={data}")
    assert "cais/mmlu" in prepare(tmp_path, "--dry_run", *flags).stdout and not data.exists()
    assert prepare(tmp_path, *flags).returncode == 0
    written = {str(path.relative_to(data)) for path in data.rglob("*") if path.is_file()}
    assert written >= {"cais/mmlu/anatomy/test.jsonl", "manifest.json", "config.gin"}
