"""The record of settings guards a folder's content, also where the record itself was deleted."""

from pathlib import Path

import pytest

from mindllm_jax.corpus.settings import CleanCorpus
from mindllm_jax.corpus.settings_record import check_or_write_settings, record_repaired_files


def test_equal_settings_pass_and_others_are_named(tmp_path: Path) -> None:
    check_or_write_settings(tmp_path, {"a": (1, 2), "b": None}, "x")
    check_or_write_settings(tmp_path, {"a": [1, 2], "b": None}, "x")
    with pytest.raises(ValueError, match=r"other settings \(a differ.*set another folder, or delete"):
        check_or_write_settings(tmp_path, {"a": [1], "b": None, "c": 1}, "set another folder")


def test_a_setting_of_an_older_record_is_compared_and_not_written(tmp_path: Path) -> None:
    check_or_write_settings(tmp_path, {"a": 1}, "x", {"b": (1, 2)})
    check_or_write_settings(tmp_path, {"a": 1}, "x", {"b": (1,)})
    (tmp_path / "settings.json").write_text('{"b": [1, 2]}')
    check_or_write_settings(tmp_path, {"a": 1}, "x", {"b": (1, 2)})
    with pytest.raises(ValueError, match=r"other settings \(b differ"):
        check_or_write_settings(tmp_path, {"a": 1}, "x", {"b": (1,)})


@pytest.mark.parametrize("left", ["documents", "logs", "card.json"])
def test_content_without_a_record_is_refused(tmp_path: Path, left: str) -> None:
    (tmp_path / left).mkdir()
    with pytest.raises(ValueError, match=rf"{left} but no settings\.json"):
        check_or_write_settings(tmp_path, {"a": 1}, "set another folder")
    assert not (tmp_path / "settings.json").exists()


@pytest.mark.parametrize("name", ["runs [1]", "what?", "a*", "[x]"])
def test_an_output_that_reads_as_a_pattern_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"output must have no \[ \] \? or \*"):
        CleanCorpus(inputs=("in",), output=f"out/{name}/corpus")
    CleanCorpus(inputs=("in [1]?",), output="out/中文 #%41 {y}/corpus")


def test_a_file_that_was_not_read_yet_may_be_repaired(tmp_path: Path) -> None:
    record_repaired_files(tmp_path, [("a", 1)], lambda number: False, "x")
    assert not (tmp_path / "settings.json").exists()
    check_or_write_settings(tmp_path, {"files": [("a", 1), ("b", 2)]}, "x")
    now = [("a", 9), ("b", 9)]
    record_repaired_files(tmp_path, now, lambda number: number == 0, "x")
    with pytest.raises(ValueError, match="files differ"):
        check_or_write_settings(tmp_path, {"files": now}, "x")
    check_or_write_settings(tmp_path, {"files": [("a", 1), ("b", 9)]}, "x")


def test_a_file_that_was_removed_is_named_with_the_way_to_resume(tmp_path: Path) -> None:
    check_or_write_settings(tmp_path, {"files": [("a", 1), ("b", 0)]}, "x")
    before = (tmp_path / "settings.json").read_text("utf-8")
    with pytest.raises(
        ValueError, match=r"files differ: b is missing, c is new, d is new\).*on_bad = 'skip'.*set it, or"
    ):
        record_repaired_files(tmp_path, [("a", 1), ("c", 1), ("d", 1)], lambda number: False, "set it")
    assert (tmp_path / "settings.json").read_text("utf-8") == before
