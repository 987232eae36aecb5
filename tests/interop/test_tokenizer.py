"""Hugging Face's libraries give every text the same ids."""

import json
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.interop.convert import Convert, convert
from mindllm_jax.interop.tokenizer import hugging_face_files
from mindllm_jax.interop.tokenizer_check import PROBES, compare, lines_of
from mindllm_jax.tokenization.sentencepiece_training import train_model
from mindllm_jax.tokenization.tokenizer import Tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers (the extra `hf`) is not installed")
transformers = pytest.importorskip("transformers", reason="transformers (the extra `hf`) is not installed")

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "tests/fixtures/tokenizer.model"
DOCUMENTS = ROOT / "tests/fixtures/documents.jsonl"
RESEARCH_TEXT = ROOT.parent / "shared/data/pretrain"
TOKENIZER = Tokenizer.load(FIXTURE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf")
    for name, content in hugging_face_files(TOKENIZER).items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def converted(tokenizer: Tokenizer) -> Any:
    backend = tokenizers.Tokenizer.from_str(hugging_face_files(tokenizer)["tokenizer.json"])
    backend.encode_special_tokens = True
    return backend


def converting(tokenizer: Path, tmp_path: Path) -> Convert:
    return Convert(tokenizer=str(tokenizer), output=str(tmp_path / "hf"), check_on=(str(DOCUMENTS),), check_lines=20)


CONVERTED = converted(TOKENIZER)
PIECES = [TOKENIZER.piece(id) for id in range(TOKENIZER.vocab_size)]
TEXT = st.characters(exclude_categories=("Cs",))


@given(st.lists(st.one_of(st.sampled_from([*PROBES, *PIECES]), st.text(TEXT, max_size=5)), max_size=30).map("".join))
def test_ids_are_equal(text: str) -> None:
    ids = CONVERTED.encode(text, add_special_tokens=False).ids
    assert ids == TOKENIZER.encode(text).tolist()
    assert CONVERTED.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("alphabet", ["ab", "ab ", "abc"])
def test_overlapping_pieces(alphabet: str) -> None:
    """With words of two or three letters a piece can be merged in many ways."""
    draw = random.Random(0)
    texts = ["".join(draw.choices(alphabet, k=draw.randrange(1, 60))) for _ in range(300)]
    tokenizer = Tokenizer(Path("t.model"), train_model(texts, vocab_size=400, character_share=0.3, han_run=8))
    backend = converted(tokenizer)
    for _ in range(2000):
        text = "".join(draw.choices(alphabet, k=draw.randrange(80)))
        assert backend.encode(text, add_special_tokens=False).ids == tokenizer.encode(text).tolist()


def test_the_folder_loads_in_transformers(folder: Path) -> None:
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    assert len(loaded) == TOKENIZER.vocab_size
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (
        TOKENIZER.pad_id,
        TOKENIZER.doc_id,
        TOKENIZER.doc_id,
    )
    bare: dict[str, Any] = {"add_special_tokens": False}
    user = TOKENIZER.encode("<user>").tolist()
    assert loaded("<user>", split_special_tokens=True, **bare)["input_ids"] == user
    assert loaded("<user>", **bare)["input_ids"] == [TOKENIZER.symbols["<user>"]]
    ids = [TOKENIZER.doc_id, *TOKENIZER.encode("a"), TOKENIZER.symbols["<user>"]]
    assert loaded.decode(ids, skip_special_tokens=True) == "a"


@pytest.mark.parametrize("text", ["", "a", "<doc>", "中文\n\n"])
def test_a_text_begins_with_doc(folder: Path, text: str) -> None:
    """As documents do in training; symbols in a text, as a chat template's own, are kept beside it."""
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    assert loaded(text)["input_ids"] == [TOKENIZER.doc_id, *loaded(text, add_special_tokens=False)["input_ids"]]
    messages = [{"role": "user", "content": "a"}]
    assert loaded.apply_chat_template(messages)["input_ids"].count(TOKENIZER.doc_id) == 1


def test_settings_of_the_export() -> None:
    files = hugging_face_files(TOKENIZER, model_max_length=1024)
    assert files["chat_template.jinja"] == TOKENIZER.chat_template
    assert json.loads(files["tokenizer_config.json"]) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<doc>",
        "eos_token": "<doc>",
        "pad_token": "<pad>",
        "additional_special_tokens": ["<user>", "<assistant>"],
        "clean_up_tokenization_spaces": False,
        "add_bos_token": True,
        "model_max_length": 1024,
    }


def test_a_tokenizer_that_extends_gpt2(extended: Tokenizer, tmp_path: Path) -> None:
    extended.path.write_bytes(extended.model)
    rows = convert(converting(extended.path, tmp_path)).rows
    assert rows[-1][:2] == ["all", len(PROBES) + extended.vocab_size + 20]
    written, own = json.loads((tmp_path / "hf/tokenizer.json").read_bytes()), json.loads(extended.model)
    assert written["post_processor"]["special_tokens"]["<|endoftext|>"]["ids"] == [extended.doc_id]
    assert written | {"post_processor": None} == own


def test_different_tokenizer_raises(folder: Path) -> None:
    model = train_model(["some other text"] * 9, vocab_size=275, character_share=0.5, han_run=8)
    other = Tokenizer(Path("o.model"), model)
    with pytest.raises(ValueError, match=r"the conversion is wrong, nothing was written: .* after '' has the ids"):
        compare(other, folder, ["some text"])


def test_converting_checks_and_writes(tmp_path: Path) -> None:
    table = convert(converting(FIXTURE, tmp_path))
    assert sorted(path.name for path in (tmp_path / "hf").iterdir()) == [
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert [row[:2] for row in table.rows] == [
        ["difficult texts", len(PROBES) + TOKENIZER.vocab_size],
        ["documents.jsonl", 20],
        ["all", len(PROBES) + TOKENIZER.vocab_size + 20],
    ]


def test_another_tokenizer_is_not_replaced(tmp_path: Path, extended: Tokenizer) -> None:
    extended.path.write_bytes(extended.model)
    convert(converting(extended.path, tmp_path))
    convert(converting(extended.path, tmp_path))
    before = {path: path.read_bytes() for path in (tmp_path / "hf").iterdir()}
    with pytest.raises(ValueError, match=r"holds another tokenizer: tokenizer\.json, tokenizer_config\.json would"):
        convert(converting(FIXTURE, tmp_path))
    assert {path: path.read_bytes() for path in (tmp_path / "hf").iterdir()} == before


def test_the_command(tmp_path: Path) -> None:
    settings = [f"--gin.Convert.tokenizer={FIXTURE}", f"--gin.Convert.output={tmp_path / 'hf'}"]
    command = [sys.executable, ROOT / "launch/convert.py", *settings]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr
    assert "AutoTokenizer.from_pretrained loads it" in run.stdout
    assert json.loads((tmp_path / "hf/tokenizer_config.json").read_text())["eos_token"] == "<doc>"


def test_no_lines_to_check() -> None:
    with pytest.raises(ValueError, match=r"Convert\.check_lines = 0: must be at least 1"):
        Convert("t.model", "hf", check_lines=0)
    with pytest.raises(ValueError, match=r"Convert\.check does not use Convert\.output: leave out what has no"):
        Convert(check="folder", output="hf")
    unused = (
        r"Convert\.output, Convert\.step, Convert\.dtype, Convert\.license, Convert\.check_on, Convert\.check_lines:"
    )
    with pytest.raises(ValueError, match=r"Convert\.source does not use " + unused):
        Convert(source="a", output="b", step=0, dtype="float16", license="x", check_on=("c",), check_lines=1)


@pytest.mark.skipif(not RESEARCH_TEXT.exists(), reason="the research text is not beside this checkout")
def test_ten_thousand_lines_of_both_languages(folder: Path) -> None:
    for language in ("zh", "en"):
        files = sorted((RESEARCH_TEXT / language).glob("*.gz"))
        lines = [line for file in files for line in islice(lines_of(file), 5000 // len(files) + 1)]
        assert compare(TOKENIZER, folder, lines).lines >= 5000
