"""The model follows from the documents and settings alone, and its pieces keep to the bounds."""

import importlib.util
import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.corpus.documents import Document, held_out
from mindllm_jax.data.sample import SmallestHashes
from mindllm_jax.data.tokenizer import Tokenizer
from mindllm_jax.data.tokenizer_training import TrainTokenizer, report_table, sample_texts, train_model, train_tokenizer

FIXTURES = Path(__file__).parent.parent / "fixtures"


def config(**changes: object) -> TrainTokenizer:
    settings = {"inputs": (str(FIXTURES / "documents.jsonl"),), "output": "t.model", "vocab_size": 600, "held_out": 0.0}
    return TrainTokenizer(**(settings | changes))  # pyright: ignore[reportArgumentType]


def pieces(model: bytes) -> list[str]:
    tokenizer = Tokenizer(Path("m"), model)
    return [tokenizer.piece(id) for id in range(tokenizer.vocab_size)]


def test_the_committed_tokenizer_is_what_its_script_makes() -> None:
    spec = importlib.util.spec_from_file_location("make_tokenizer", FIXTURES / "make_tokenizer.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    # Pieces, not bytes: a newer SentencePiece may write more fields.
    assert pieces(script.train()) == pieces((FIXTURES / "tokenizer.model").read_bytes())


def test_the_model_does_not_depend_on_the_order_of_the_documents(documents: list[Document]) -> None:
    shuffled = random.Random(0).sample(documents, len(documents))
    # Less than there is of each language, so that a choice is made.
    settings = config(sample_bytes=6000)
    models = [train_model(sample_texts(order, settings).train, settings) for order in (documents, shuffled)]
    assert models[0] == models[1]


def test_another_seed_takes_other_documents(documents: list[Document]) -> None:
    samples = [sample_texts(documents, config(sample_bytes=3000, seed=seed)).train for seed in (0, 1)]
    assert samples[0] != samples[1]


def test_the_sample_is_balanced_between_the_languages(documents: list[Document]) -> None:
    many_english = [
        Document(d.text, d.source, d.lang, f"{d.id} {copy}")
        for d in documents
        for copy in range(20 if d.lang == "en" else 1)
    ]
    sample = sample_texts(many_english, config(sample_bytes=6000)).train
    longest = max(len(d.text.encode()) for d in documents)
    for lang in ("zh", "en"):
        size = sum(len(text.encode()) for text in sample[lang])
        assert 3000 <= size < 3000 + longest


def test_held_out_documents_are_measured_and_not_trained_on(documents: list[Document]) -> None:
    sample = sample_texts(documents, config(held_out=0.4))
    outside = {d.text for d in documents if held_out(d.id, 0.4)}
    assert {text for texts in sample.held_out.values() for text in texts} == outside
    assert {text for texts in sample.train.values() for text in texts} == {d.text for d in documents} - outside


@given(st.lists(st.text("ab", max_size=6), unique=True, max_size=30), st.integers(1, 40), st.randoms())
def test_a_sample_is_the_smallest_hashes_whatever_the_order(
    texts: list[str], share: int, random: random.Random
) -> None:
    shuffled = random.sample(texts, len(texts))
    samples = []
    for order in (texts, shuffled):
        sample = SmallestHashes(2 * share)
        for text in order[: len(order) // 2]:
            sample.add((0, text), text)
        sample.shrink(share)
        for text in order[len(order) // 2 :]:
            sample.add((0, text), text)
        samples.append(sample.texts())
    assert samples[0] == samples[1]
    total = sum(map(len, texts))
    size = sum(map(len, samples[0]))
    assert size == total or size >= share
    assert size - len(samples[0][-1]) < share if samples[0] else not total


@pytest.mark.parametrize("han_run", [2, 3, 8])
def test_no_piece_holds_a_longer_run_of_han_than_the_cap(han_run: int) -> None:
    clause = "全国人民代表大会常务委员会"
    texts = {
        "zh": [f"{clause}。" * 50, f"《{clause}》：" * 50],
        "en": ["hello world, this is some English text. " * 50],
    }
    found = pieces(train_model(texts, config(vocab_size=340, han_run=han_run)))
    assert max(len(run) for piece in found for run in re.findall("[\u4e00-\u9fff]+", piece)) == han_run


def test_a_text_without_spaces_still_gives_the_space_a_piece() -> None:
    assert " " in pieces(train_model({"zh": ["道可道非常道名可名非常名"] * 9}, config(vocab_size=275)))


def test_rare_characters_become_bytes() -> None:
    texts = {"zh": ["的一是不了人我在有他这" * 20 + "龘"]}
    found = pieces(train_model(texts, config(vocab_size=290, character_share=12 / 290)))
    assert {"的", "这"} <= set(found)
    assert "龘" not in found


def test_long_lines_are_not_dropped() -> None:
    texts = {"en": ["wonderful things happen " * 50_000]}
    assert " things" in pieces(train_model(texts, config(vocab_size=300)))


def test_training_writes_model_and_report(tmp_path: Path) -> None:
    output = tmp_path / "new" / "t.model"
    tokenizer, report = train_tokenizer(config(output=str(output), held_out=0.4))
    assert Tokenizer.load(output).sha256 == tokenizer.sha256 == report["sha256"]
    assert json.loads(output.with_suffix(".json").read_text(encoding="utf-8")) == json.loads(json.dumps(report))
    assert sorted(path.name for path in output.parent.iterdir()) == ["t.json", "t.model"]
    for figures in report["languages"].values():
        assert figures["measured_on"] == "held-out documents"
        assert 1 < figures["bytes_per_token"] < 6
    assert "held-out documents" in report_table(report).markdown()


def test_without_held_out_documents_the_report_says_what_was_measured(tmp_path: Path) -> None:
    report = train_tokenizer(config(output=str(tmp_path / "t.model")))[1]
    assert {figures["measured_on"] for figures in report["languages"].values()} == {"training documents"}


def test_too_little_text() -> None:
    with pytest.raises(ValueError, match=r"no vocabulary of 5000 in 10 bytes of text; give more text or lower Train"):
        train_model({"en": ["some words"]}, config(vocab_size=5000))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 265}, r"vocab_size must exceed 265 \(bytes and symbols\), not be 265"),
        ({"sample_bytes": 0}, "sample_bytes and TrainTokenizer.han_run must be at least 1"),
        ({"han_run": 0}, "han_run must be at least 1"),
        ({"character_share": 1.0}, "character_share must lie between 0 and 1, not be 1.0"),
        ({"output": "tokenizer.json"}, "output must end in .model, not be 'tokenizer.json'"),
    ],
)
def test_bad_settings(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)
