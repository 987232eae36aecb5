"""Recorded measurements: which are reused, repeated or skipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mindllm_jax.recipes.hardware_check import kept
from mindllm_jax.recipes.hardware_check.kept import Kept, TimeUp


def test_recorded_measurements_are_not_repeated(tmp_path: Path) -> None:
    path, calls = tmp_path / "lines.jsonl", list[str]()

    def measure(key: str) -> list[object]:
        calls.append(key)
        return [key, 1.5, None]

    for _ in range(2):
        records = Kept(path)
        assert [records.measure((key, None, 3), lambda key=key: measure(key)) for key in "ab"] == [
            ["a", 1.5, None],
            ["b", 1.5, None],
        ]
        assert records.complete
    assert calls == ["a", "b"]


def test_records_of_other_sources_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines.jsonl"
    assert Kept(path).measure(("a",), lambda: 1) == 1
    monkeypatch.setattr(kept, "digest", lambda: "another")
    assert Kept(path).measure(("a",), lambda: 2) == 2
    monkeypatch.undo()
    assert Kept(path).measure(("a",), lambda: 3) == 1


def test_incomplete_line_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert Kept(path).measure(("a",), lambda: 1) == 1
    path.write_bytes(path.read_bytes()[:-4])
    assert Kept(path).measure(("a",), lambda: 2) == 2
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == [["a"]] * 3
    assert Kept(path).measure(("a",), lambda: 3) == 2


def test_measurement_that_ended_the_process_twice_is_skipped(tmp_path: Path) -> None:
    """An exception stands for the end of the process: it comes during the measurement, and nothing is recorded."""
    path = tmp_path / "lines.jsonl"

    def end() -> None:
        raise SystemExit

    for _ in range(2):
        with pytest.raises(SystemExit):
            Kept(path).measure(("a",), end)
    assert Kept(path).measure(("a",), end) == {"failed": kept.ENDED}


def test_time_limit(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"

    def cut() -> None:
        raise TimeUp

    for _ in range(3):
        records = Kept(path)
        assert records.measure(("a",), cut) is None and not records.complete
    late = Kept(path, limit=-1.0)
    assert late.measure(("a",), lambda: 1) is None and not late.complete and late.left() == 0
    assert Kept(path).measure(("a",), lambda: 1) == 1


def test_without_a_file_nothing_is_recorded() -> None:
    assert Kept(None).measure(("a",), lambda: 1) == 1
