"""The benchmarks of cleaning, at tiny sizes on generated text."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A corpus of both languages and, in `eval`, a benchmark."""
    random = np.random.default_rng(0)
    units = {
        "zh": [chr(0x4E00 + number) for number in range(1500)],
        "en": ["".join(letters) + " " for letters in random.choice(list("abcdefghijkl"), (1500, 5))],
    }

    # Without stop words it is no English, and all of it would be dropped.
    units["en"] += ["the ", "of "] * 150

    def text(language: str, size: int) -> str:
        return "".join(random.choice(units[language], size)) + "."

    for language in units:
        (tmp_path / language).mkdir()
        with open(tmp_path / language / "made.jsonl", "w", encoding="utf-8") as file:
            for number in range(40):
                document = {"text": "\n".join(text(language, 150) for _ in range(5)), "lang": language, "id": number}
                file.write(json.dumps(document) + "\n")
    (tmp_path / "eval").mkdir()
    items = [json.dumps({"question": text(language, 40)}) for language in units for _ in range(10)]
    (tmp_path / "eval/made.jsonl").write_text("\n".join(items), "utf-8")
    return tmp_path


def results(script: str, *words: str | Path) -> Any:
    command = [sys.executable, ROOT / "benchmarks" / script, *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_planted_copies_are_detected(data: Path) -> None:
    file = data / "planted.md"
    found = results("planted.py", "--data", data, "--each", "4", "--others", "8", "--markdown", file)
    for language in ("zh", "en"):
        for kind in ("exact", "5 % in runs", "15 % in runs", "paragraph moved"):
            assert found[language][f"recall, {kind}"]["ours"] >= 0.75, (language, kind)
        assert found[language]["others removed"]["ours"] == 0
    assert found["zh"]["recall, other script"]["ours"] == 1
    assert json.loads(file.with_suffix(".json").read_text("utf-8")) == found


def test_hidden_items_are_detected(data: Path) -> None:
    found = results("contamination.py", "--data", data, "--benchmarks", data / "eval", "--items", "10")
    assert found["of 10 items found in a document of their language"] >= 9
    assert found["of 10 items found in a document of the other language"] >= 9
    assert found["clean flagged, %"] == 0


def test_speeds(data: Path) -> None:
    found = results("corpus.py", "--data", data, "--seconds", "0.05", "--benchmarks", data / "eval")
    assert set(found) == {"zh", "en"}
    assert all(row["MB/s"] > 0 for rows in found.values() for row in rows)
    assert {"quality", "privacy", "decontaminate", "MinHash signatures"} <= {row["stage"] for row in found["zh"]}


@pytest.mark.slow
def test_stages_end_to_end(data: Path) -> None:
    found = results("corpus.py", "--data", data, "--seconds", "0.01", "--languages", "en", "--end_to_end")["end to end"]
    assert [row["tasks"] for row in found if row["stage"] in ("text", "clusters", "all")] == [1, 1, None]
    assert all(row["seconds"] > 0 and row["peak MB"] > 50 for row in found)
