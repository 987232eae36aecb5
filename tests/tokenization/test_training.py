"""The model follows from the documents and settings alone, and its pieces keep to the bounds."""

import importlib.util
import json
import random
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from mindllm_jax.text.documents import Document, held_out, write_json_lines
from mindllm_jax.tokenization.report import by_source, measure, report_table
from mindllm_jax.tokenization.sentencepiece_training import train_model
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.tokenization.training import TrainTokenizer, sample_documents, train_tokenizer

FIXTURES = Path(__file__).parent.parent / "fixtures"


def config(**changes: object) -> TrainTokenizer:
    settings = {"inputs": (str(FIXTURES / "documents.jsonl"),), "output": "t.model", "vocab_size": 600, "held_out": 0.0}
    return TrainTokenizer(**(settings | changes))  # pyright: ignore[reportArgumentType]


def train(texts: list[str], vocab_size: int, *, character_share: float = 0.25, han_run: int = 8) -> bytes:
    return train_model(texts, vocab_size=vocab_size, character_share=character_share, han_run=han_run)


def pieces(model: bytes) -> list[str]:
    tokenizer = Tokenizer(Path("m"), model)
    return [tokenizer.piece(id) for id in range(tokenizer.vocab_size)]


def test_the_committed_tokenizer_is_reproducible_by_its_script() -> None:
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
    models = [train(sample_documents(order, settings).texts(), 600) for order in (documents, shuffled)]
    assert models[0] == models[1]


def test_another_seed_takes_other_documents(documents: list[Document]) -> None:
    samples = [sample_documents(documents, config(sample_bytes=3000, seed=seed)).train for seed in (0, 1)]
    assert samples[0] != samples[1]


def test_the_sample_is_balanced_between_the_languages(documents: list[Document]) -> None:
    many_english = [
        Document(d.text, d.source, d.lang, f"{d.id} {copy}")
        for d in documents
        for copy in range(20 if d.lang == "en" else 1)
    ]
    sample = sample_documents(many_english, config(sample_bytes=6000)).train
    longest = max(len(d.text.encode()) for d in documents)
    for lang in ("zh", "en"):
        size = sum(len(document.text.encode()) for document in sample[lang])
        assert 3000 <= size < 3000 + longest


def test_held_out_documents_are_measured_and_not_trained_on(documents: list[Document]) -> None:
    sample = sample_documents(documents, config(held_out=0.4))
    outside = {d.id for d in documents if held_out(d.id, 0.4)}
    assert {d.id for measured in sample.held_out.values() for d in measured} == outside
    assert {d.id for trained in sample.train.values() for d in trained} == {d.id for d in documents} - outside


@pytest.mark.parametrize("han_run", [2, 3, 8])
def test_no_piece_holds_a_longer_run_of_han_than_the_cap(han_run: int) -> None:
    clause = "全国人民代表大会常务委员会"
    texts = [f"{clause}。" * 50, f"《{clause}》：" * 50, "hello world, this is some English text. " * 50]
    found = pieces(train(texts, 340, han_run=han_run))
    assert max(len(run) for piece in found for run in re.findall("[\u4e00-\u9fff]+", piece)) == han_run


def test_a_text_without_spaces_still_gives_the_space_a_piece() -> None:
    assert " " in pieces(train(["道可道非常道名可名非常名"] * 9, 275))


def test_rare_characters_become_bytes() -> None:
    found = pieces(train(["的一是不了人我在有他这" * 20 + "龘"], 290, character_share=12 / 290))
    assert {"的", "这"} <= set(found)
    assert "龘" not in found


def test_long_lines_are_not_dropped() -> None:
    assert " things" in pieces(train(["wonderful things happen " * 50_000], 300))


def test_training_writes_model_and_report(tmp_path: Path) -> None:
    output = tmp_path / "new" / "t.model"
    tokenizer, report = train_tokenizer(config(output=str(output), held_out=0.4))
    assert Tokenizer.load(output).sha256 == tokenizer.sha256 == report["sha256"]
    assert json.loads(output.with_suffix(".json").read_text(encoding="utf-8")) == json.loads(json.dumps(report))
    assert sorted(path.name for path in output.parent.iterdir()) == ["t.json", "t.model"]
    for figures in report["languages"].values():
        assert figures["measured_on"] == "held-out"
        assert 1 < figures["bytes_per_token"] < 6
        assert figures["documents"] == sum(source["documents"] for source in figures["sources"].values())
    assert "| all of zh |" in report_table(report).markdown()


def test_an_existing_tokenizer_is_kept(tmp_path: Path) -> None:
    (tmp_path / "t.model").write_bytes(b"precious")
    settings = config(output=str(tmp_path / "t.model"), inputs=("missing.jsonl",))
    with pytest.raises(ValueError, match=r"t\.model exists already: remove it to train again, or set TrainTok"):
        train_tokenizer(settings)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"t.model": b"precious"}


def test_a_report_without_its_model_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_bytes(b"{")
    report = train_tokenizer(config(output=str(tmp_path / "t.model")))[1]
    assert json.loads((tmp_path / "t.json").read_text(encoding="utf-8")) == json.loads(json.dumps(report))


def test_no_model_is_left_without_its_report(tmp_path: Path) -> None:
    (tmp_path / "t.json").mkdir()
    with pytest.raises(IsADirectoryError):
        train_tokenizer(config(output=str(tmp_path / "t.model")))
    assert not (tmp_path / "t.model").exists()


def test_a_folder_that_cannot_be_written_is_found_before_the_inputs_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = config(output=str(tmp_path / "file" / "t.model"), inputs=("missing.jsonl",))
    with pytest.raises(OSError, match="file: cannot write to the folder: "):
        train_tokenizer(settings)


def test_without_held_out_documents_the_report_names_the_measured_side(tmp_path: Path) -> None:
    report = train_tokenizer(config(output=str(tmp_path / "t.model")))[1]
    assert {figures["measured_on"] for figures in report["languages"].values()} == {"training"}


def test_a_source_without_held_out_documents_is_measured_on_its_training_documents(
    documents: list[Document], tmp_path: Path
) -> None:
    outside = next(d for d in documents if held_out(d.id, 0.4))
    inside = [d for d in documents if d.lang == outside.lang and not held_out(d.id, 0.4)]
    rows = [asdict(outside), *(asdict(d) | {"source": "other"} for d in inside)]
    write_json_lines(tmp_path / "t.jsonl", rows)
    paths = {"inputs": (str(tmp_path / "t.jsonl"),), "output": str(tmp_path / "t.model")}
    settings = config(**paths, vocab_size=300, held_out=0.4)
    (language,) = train_tokenizer(settings)[1]["languages"].values()
    assert {name: figures["measured_on"] for name, figures in language["sources"].items()} == {
        outside.source: "held-out",
        "other": "training",
    }
    assert language["documents"] == 1


def test_figures_of_a_text() -> None:
    tokenizer = Tokenizer.load(FIXTURES / "tokenizer.model")
    figures = measure(tokenizer, [Document("12\n", "s", "en", "1"), Document("龘", "s", "en", "2")])
    # Three pieces of one character each, and one character of three bytes.
    assert figures == {
        "documents": 2,
        "bytes": 6,
        "bytes_per_token": 1.0,
        "character_coverage": 0.75,
        "byte_token_share": 0.5,
    }


def test_sources_are_in_order(documents: list[Document]) -> None:
    assert list(by_source(documents)) == ["fixture_en", "fixture_zh"]


def test_too_little_text() -> None:
    with pytest.raises(ValueError, match=r"no vocabulary of 5000 in 10 bytes of text; give more text or lower Train"):
        train(["some words"], 5000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 265}, r"vocab_size must exceed 265 \(bytes and symbols\), not be 265"),
        ({"sample_bytes": 0}, "TrainTokenizer.sample_bytes = 0: must be at least 1"),
        ({"han_run": 0}, "TrainTokenizer.han_run = 0: must be at least 1"),
        ({"character_share": 1.0}, "character_share must lie between 0 and 1, not be 1.0"),
        ({"extend": "gpt2"}, r"vocab_size must exceed 50,260 \(GPT-2's pieces and three symbols\)"),
        ({"output": "tokenizer.json"}, "output must end in .model, not be 'tokenizer.json'"),
    ],
)
def test_bad_settings(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)
