"""Documents with entries of a word list."""

from pathlib import Path

import pytest

from mindllm_jax.corpus.filters.lexicon import Lexicon


@pytest.fixture
def entries(tmp_path: Path) -> str:
    path = tmp_path / "words.txt"
    path.write_text("\ufeff# a list\n赌博\n网络赌博\n彩票\n\ncasino\nFree Money\nc++\ncafé\n", "utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("赌博与彩票", 2),
        ("赌博，赌博，赌博", 1),
        ("网络赌博", 1),
        ("CASINO and free money.", 2),
        ("上casino网", 1),
        ("casinos, freemoney, cafés", 0),
        ("Café in C++", 2),
        ("", 0),
    ],
)
def test_different_entries_are_counted(applied, entries: str, text: str, count: int) -> None:
    assert applied(Lexicon(entries, count + 1), text)[0] is None
    if count:
        assert applied(Lexicon(entries, count), text)[0] == "lexicon entries"


def test_empty_lists_raise(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Lexicon(str(tmp_path / "absent"))
    (tmp_path / "empty").write_text("# nothing\n\n")
    with pytest.raises(ValueError, match="has no entry"):
        Lexicon(str(tmp_path / "empty"))


@pytest.mark.parametrize("piece", ["[", " ", "casino", "casino ", "赌", "free mone", "a"])
def test_time_grows_with_the_text(applied, tmp_path: Path, seconds_for_a_megabyte, piece: str) -> None:
    path = tmp_path / "many"
    path.write_text("\n".join(["casino", "赌博", *(f"word{n}" for n in range(500))]), "utf-8")
    step = Lexicon(str(path))
    assert seconds_for_a_megabyte(lambda text: applied(step, text), "", piece) < 4
