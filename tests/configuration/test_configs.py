"""Every gin file loads for the entry points of its header, builds on abstract shapes, and equals its golden file.

The golden files hold the resolved settings. After a wanted change: MINDLLM_UPDATE_GOLDEN=1 make test; read the diff.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
from pathlib import Path

import pytest

from mindllm_jax import configuration
from mindllm_jax.configuration import bindings
from mindllm_jax.run_records import resolved
from mindllm_jax.training.pretrain import Pretrain

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
CONFIGS = sorted((ROOT / "configs").rglob("*.gin"))
ENTRY_POINTS = {
    "train_tokenizer.py": "TrainTokenizer",
    "clean_corpus.py": "CleanCorpus",
    "collect_code.py": "CollectCode",
    "prepare_data.py": "PrepareData",
    "train.py": "Pretrain",
    "select_instructions.py": "SelectInstructions",
    "sft.py": "Tune",
    "eval.py": "Evaluate",
    "convert.py": "Convert",
    "prepare_instructions.py": "PrepareInstructions",
    "rationales.py": "AskRationales",
    "classify.py": "Classify",
    "rank_answers.py": "RankAnswers",
    "ablate.py": "Suite",
}
STAND_INS = {"STORE": "somewhere/store", "DIR": "somewhere", "RUN": "somewhere/run", "STEPS": "100"}


def commands(path: Path) -> list[list[str]]:
    """Returns the commands in a file's header as words, continuation lines joined."""
    lines = path.read_text(encoding="utf-8").splitlines()
    header = lines[: next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))]
    text = re.sub(r"\\\n#\s*", "", "\n".join(header))
    for name, value in STAND_INS.items():
        text = re.sub(rf"\b{name}\b", value, text)
    lines = re.findall(r"^#\s+python (launch/.*?)(?:\s{3,}.*)?$", text, flags=re.MULTILINE)
    return [shlex.split(command) for command in lines]


def root_of(entry: str) -> type:
    name = ENTRY_POINTS[Path(entry).name]
    module = next(item.partition(":")[0] for item in bindings.ROOTS if item.endswith(f":{name}"))
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "configs")))
def test_config_does_what_its_header_says(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    listed = commands(path)
    assert listed, f"{path}: the header gives no command"
    assert all(str(path.relative_to(ROOT)) in words for words in listed), f"{path}: a command does not read this file"
    settings = {}
    for entry, *words in listed:
        words = [word for word in words if word != "--print_schedule"]
        arguments = configuration.command_line("", words)
        unread = {"Mixture.store": STAND_INS["STORE"]} if arguments.dry_run else {}
        config = configuration.load(root_of(entry), arguments, unread)
        settings |= resolved(config)
        if isinstance(config, Pretrain):
            assert config.spec().cost.parameters > 0
    golden = GOLDEN / path.relative_to(ROOT / "configs").with_suffix(".json")
    if os.environ.get("MINDLLM_UPDATE_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert json.loads(golden.read_text(encoding="utf-8")) == settings


def test_every_golden_file_belongs_to_a_config():
    expected = {GOLDEN / path.relative_to(ROOT / "configs").with_suffix(".json") for path in CONFIGS}
    assert set(GOLDEN.rglob("*.json")) == expected
