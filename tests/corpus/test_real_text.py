"""The pipeline on real text, if ../shared has it: minutes."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("datatrove")

ROOT = Path(__file__).parents[2]
RAW = ROOT.parent / "shared/data/pretrain"


@pytest.mark.slow
@pytest.mark.skipif(not RAW.exists(), reason="the research text, ../shared/data/pretrain, is missing")
def test_every_exact_copy_is_found_and_half_of_each_language_is_kept(tmp_path: Path) -> None:
    command = [sys.executable, "launch/clean_corpus.py", "--gin", "configs/data/real_bilingual.gin"]
    subprocess.run([*command, f"--gin.corpus={tmp_path}/corpus"], cwd=ROOT, check=True, timeout=1200)
    raw: dict[str, tuple[str, str]] = {}
    for file in sorted(RAW.rglob("*.jsonl.gz")):
        for row in map(json.loads, gzip.decompress(file.read_bytes()).splitlines()):
            raw[row["id"]] = (row["lang"], " ".join(row["text"].split()))
    kept: list[str] = []
    for file in sorted((tmp_path / "corpus/documents").rglob("*.gz")):
        kept += (json.loads(line)["id"] for line in gzip.decompress(file.read_bytes()).splitlines())
    assert len(raw) - len(set(raw.values())) >= 2885, "the research text has fewer copies than it had"
    texts = [raw[id][1] for id in kept]
    assert len(set(texts)) == len(texts)
    for lang in ("zh", "en"):
        size = sum(len(text.encode()) for other, text in raw.values() if other == lang)
        assert sum(len(raw[id][1].encode()) for id in kept if raw[id][0] == lang) > size / 2
    assert (tmp_path / "corpus/card.html").exists()
