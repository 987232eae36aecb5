"""The comparison of clean and raw text, at a tiny size on generated text."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("datatrove")

ROOT = Path(__file__).parents[2]


def launch(*words: str) -> str:
    return subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_both_sides_are_trained_once_and_measured(tmp_path: Path) -> None:
    draw = random.Random(0)
    for lang, units in (
        ("en", [f"{word} " for word in "the of and river stone house was had with tree".split()]),
        ("zh", list("山水人家天地日月春风花草")),
    ):
        (tmp_path / "raw" / lang).mkdir(parents=True)
        rows = (
            {"text": "".join(draw.choices(units, k=300)) + "。", "lang": lang, "source": lang, "id": str(n)}
            for n in range(60)
        )
        (tmp_path / f"raw/{lang}/{lang}.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    folders = f"('{tmp_path}/raw/en', '{tmp_path}/raw/zh')"
    prepared = tmp_path / "prepared"
    launch(
        "launch/prepare_data.py",
        f"--gin.PrepareData.inputs={folders}",
        f"--gin.PrepareData.tokenizer={prepared}/tokenizer.model",
        "--gin.PrepareData.train_vocab_size=300",
        "--gin.PrepareData.held_out=0.2",
        f"--gin.PrepareData.store={prepared}/store",
    )
    words = ["benchmarks/cleaning.py", "--raw", f"{tmp_path}/raw", "--prepared", str(prepared), "--steps", "1"]
    words += ["--seeds", "1", "--runs", str(tmp_path / "runs"), "--markdown", str(tmp_path / "page.md")]
    assert "raw, seed 0: {" in launch(*words)
    assert "| zh |" in (tmp_path / "page.md").read_text("utf-8")
    assert "step" not in launch(*words), "a finished run was trained again"
