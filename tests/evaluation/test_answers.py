import json
import logging
import os
from pathlib import Path

import pytest
from process_fixtures import InTwoProcesses

from mindllm_jax.evaluation.answers import NAME, TOKENS_AT_A_TIME, Answers, parts, request_key
from mindllm_jax.training.load_run import read_run, weights_identity

LIMIT = TOKENS_AT_A_TIME
ONE, TWO = {"log": -1.25, "greedy": False}, {"text": "二\n\ud800"}


def test_answers_are_found_again(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "new", "w")
    assert answers.known(["a"]) == {}
    answers.add({"a": ONE})
    answers.add({"b": TWO})
    answers.add({})
    again = Answers(tmp_path / "new", "w")
    assert again.known(["b", "c", "a"]) == {"a": ONE, "b": TWO}
    assert len((tmp_path / "new" / NAME).read_text().splitlines()) == 2


def test_a_full_disk_is_reported_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path / NAME}'"):
        Answers(tmp_path, "w").add({"a": ONE})


@pytest.mark.parametrize("keep", range(1, 40, 6))
def test_a_torn_last_line_is_ignored(keep: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    answers = Answers(tmp_path, "w")
    answers.add({"a": ONE})
    whole = answers.path.read_bytes()
    answers.add({"b": TWO})
    answers.path.write_bytes(answers.path.read_bytes()[: len(whole) + keep])
    again = Answers(tmp_path, "w")
    assert again.known(["a", "b"]) == {"a": ONE}
    again.add({"b": TWO})
    assert Answers(tmp_path, "w").known(["a", "b"]) == {"a": ONE, "b": TWO}
    assert not caplog.records


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line.replace(b"1.25", b"1.35"),
        lambda line: line[:20] + b"\xff" + line[20:],
        lambda line: line[:30],
        lambda line: b"[1]",
        lambda line: b'{"key": 1}',
    ],
)  # fmt: skip
def test_a_damaged_line_is_reported_and_answered_again(damage, tmp_path: Path, caplog) -> None:
    answers = Answers(tmp_path, "w")
    answers.add({"a": ONE})
    answers.add({"b": TWO})
    first, second = answers.path.read_bytes().splitlines()
    answers.path.write_bytes(damage(first) + b"\n" + second + b"\n")
    with caplog.at_level(logging.WARNING):
        again = Answers(tmp_path, "w")
    assert again.known(["a", "b"]) == {"b": TWO}
    assert f"{answers.path}, line 1: damaged" in caplog.text and "answered again" in caplog.text
    again.add({"a": ONE})
    assert Answers(tmp_path, "w").known(["a"]) == {"a": ONE}


def test_keys_differ_with_all_that_an_answer_depends_on() -> None:
    keys = {
        request_key(weights, {"seam": seam}, kind, arguments)
        for weights in ("v", "w")
        for seam in ("together", "apart")
        for kind in ("loglikelihood", "generate_until")
        for arguments in (("a", "b"), ("ab", ""), ("a", {"until": ["\n"]}))
    }
    assert len(keys) == 24


def test_weights_of_checkpoints_and_seeds(run: Path) -> None:
    third, fifth = read_run(run, 3), read_run(run, 5)
    identities = [weights_identity(third), weights_identity(fifth), weights_identity(third, untrained=True)]
    assert len(set(identities)) == 3
    assert weights_identity(read_run(run, 3)) == identities[0]
    assert weights_identity(fifth, untrained=True) == identities[2]
    other = fifth._replace(identity=fifth.identity | {"seed": 1})
    assert weights_identity(other, untrained=True) != identities[2]
    assert weights_identity(other) == identities[1]


@pytest.mark.parametrize("sizes", [[1], [LIMIT + 1, 1], [LIMIT // 2] * 5, [1, LIMIT], [LIMIT, 1, 1]])
def test_parts_cover_all_in_order(sizes: list[int]) -> None:
    found = list(parts(sizes, "scoring"))
    assert [size for part, _ in found for size in sizes[part]] == sizes
    assert all(sum(sizes[part]) <= LIMIT or part.stop - part.start == 1 for part, _ in found)
    assert len({title for _, title in found}) == len(found)


def test_the_file_is_json_lines(tmp_path: Path) -> None:
    answers = Answers(tmp_path, "w")
    answers.add({"a": ONE})
    (line,) = answers.path.read_text().splitlines()
    assert json.loads(line)["answer"] == ONE


# Each process sees a folder of its own, and the first one's has answers.
PROCESS = """
import json, sys
from pathlib import Path
import jax
from mindllm_jax.evaluation.answers import Answers
from mindllm_jax.parallel.startup import start

start()
folder = Path(sys.argv[1]) / str(jax.process_index())
found = [Answers(folder, "w").known(["a", "b"])]
answers = Answers(folder, "w")
answers.add({"b": {"text": "x" * 10_000}})
found.append(answers.known(["b", "c"]))
(folder.parent / f"said_{jax.process_index()}").write_text(json.dumps(found))
"""


def test_all_processes_know_the_first_one_s_answers(in_two_processes: InTwoProcesses, tmp_path: Path) -> None:
    Answers(tmp_path / "0", "w").add({"a": ONE})
    Answers(tmp_path / "1", "w").add({"b": ONE})
    in_two_processes(PROCESS)
    first, second = (json.loads((tmp_path / f"said_{process}").read_text()) for process in range(2))
    assert first == second == [{"a": ONE}, {"b": {"text": "x" * 10_000}}]
    assert len((tmp_path / "0" / NAME).read_text().splitlines()) == 2
    assert len((tmp_path / "1" / NAME).read_text().splitlines()) == 1, "the first process alone writes"
