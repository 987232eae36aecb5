"""Losses and entropies of conversations against a plain forward pass, and shards that resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mindllm_jax.batching.chat_format import encode_conversations
from mindllm_jax.batching.chat_template import Message
from mindllm_jax.instruct.scoring import score as scoring
from mindllm_jax.instruct.scoring.forward import TokenScores, token_scores
from mindllm_jax.instruct.scoring.quantities import contexts, quantities, response_header
from mindllm_jax.instruct.scoring.score import Inputs, score_conversations, score_key, survey
from mindllm_jax.instruct.scoring.shards import NUMBERS, ScoreShards
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.load_run import load_decoder, read_run

pytest.importorskip("pyarrow")
ROWS = [{"instruction": f"写出数字 {n}", "output": f"这是第 {n} 个答案，" * (n % 5 + 1)} for n in range(12)]


def plain(decoder: Decoder, ids: np.ndarray) -> TokenScores:
    """Loss and entropy by the formula in float64, of one text by itself."""
    hidden = decoder(jax.numpy.asarray(ids[None, :-1]))
    logits = np.asarray(decoder.logits(hidden)[0], np.float64)
    logs = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True)) - logits.max(
        -1, keepdims=True
    )  # fmt: skip
    return TokenScores(-logs[np.arange(len(ids) - 1), ids[1:]], -(np.exp(logs) * logs).sum(-1))


@pytest.mark.parametrize("devices", [1, 2])
def test_token_scores_are_those_of_the_formula(base: Path, devices: int) -> None:
    if len(jax.devices()) < devices:
        pytest.skip("needs two devices")
    sharding = Sharding(MeshAxes(fsdp=devices).build(jax.devices()[:devices]))
    decoder = load_decoder(base, sharding=sharding).decoder
    alone = load_decoder(base).decoder
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 300, size).astype(np.int32) for size in (2, 97, 40, 3, 60, 31, 2, 97)]
    spent: list[int] = []
    found = token_scores(decoder, texts, batch_tokens=200, advance=spent.append)
    assert sum(spent) == sum(len(text) - 1 for text in texts)
    for text, scores in zip(texts, found, strict=True):
        expected = plain(alone, text)
        np.testing.assert_allclose(scores.loss, expected.loss, atol=2e-4)
        np.testing.assert_allclose(scores.entropy, expected.entropy, atol=2e-4)
    with pytest.raises(ValueError, match="they need 2 to 97"):
        token_scores(decoder, [np.zeros(98, np.int32)], batch_tokens=96)


def test_quantities_of_conversations(base: Path) -> None:
    loaded = load_decoder(base)
    tokenizer, decoder = loaded.tokenizer, loaded.decoder
    # The answer stands in the question as well, which a search for its text would find.
    talks = [
        [Message("user", "说：好的 好的"), Message("assistant", "好的")],
        [Message("user", "Hi"), Message("assistant", "Hello there"), Message("user", "B"), Message("assistant", "是")],
    ]
    header = response_header(tokenizer)
    assert tokenizer.decode(header) == "\n" and header[0] == tokenizer.symbols["<assistant>"]
    encoded = encode_conversations(tokenizer, talks)
    some = [contexts(tokenizer, one, header) for one in encoded]
    assert all(some)
    found = quantities(tokenizer, [one for one in some if one], header, lambda texts: token_scores(
        decoder, texts, batch_tokens=96), None)  # fmt: skip
    for (ids, mask), talk, one in zip(encoded, talks, found, strict=True):
        whole = plain(decoder, ids)
        answers = [tokenizer.encode(message.content) for message in talk if message.role == "assistant"]
        is_end = mask & (ids == tokenizer.doc_id)
        is_answer = mask & ~is_end
        assert ids[is_answer].tolist() == np.concatenate(answers).tolist()
        assert is_end.sum() == len(answers)
        assert one.answer_tokens == sum(map(len, answers)) and one.whole_tokens == len(ids) - 1
        assert one.answer_bytes == sum(len(message.content.encode()) for message in talk if message.role == "assistant")
        expected = {
            "whole_nll": whole.loss.sum(),
            "answer_nll": whole.loss[is_answer[1:]].sum(),
            "answer_entropy": whole.entropy[is_answer[1:]].sum(),
            "end_nll": whole.loss[is_end[1:]].sum(),
            "header_nll": sum(
                plain(decoder, np.concatenate([header, ids])).loss[len(header) - 1 :].sum() for ids in answers
            ),
            "alone_nll": sum(plain(decoder, ids).loss.sum() for ids in answers if len(ids) > 1),
        }
        for name, value in expected.items():
            assert getattr(one, name) == pytest.approx(value, abs=2e-3), name


def table_of(shards: ScoreShards) -> list[dict[str, Any]]:
    return shards.columns().to_pylist()


@pytest.fixture
def scored(base: Path, write, tmp_path: Path, monkeypatch) -> Callable[..., ScoreShards]:
    """Scores rows in shards of five, into a folder of a name."""
    monkeypatch.setattr(scoring, "SHARD", 5)

    def run(
        *rows: Any, name: str = "scores", on_long: Any = "cut", tuned: bool = False, sample: int | None = None
    ) -> ScoreShards:
        inputs = Inputs([write(*(rows or ROWS))], "skip", on_long, sample)
        records = [read_run(base)] * (2 if tuned else 1)
        runs = [load_decoder(record) for record in records]
        shards = ScoreShards(tmp_path / name)
        key = score_key(inputs, records, "float32")
        score_conversations(inputs, survey(inputs), runs, shards, key, 400)
        return shards

    return run


@pytest.mark.long
def test_an_interrupted_scoring_resumes(scored, monkeypatch) -> None:
    whole = scored(name="whole")
    texts: list[bytes] = []

    def counted(decoder: Decoder, some: list[np.ndarray], **settings: Any) -> list[TokenScores]:
        if len(texts) > 20:
            raise KeyboardInterrupt
        found = token_scores(decoder, some, **settings)
        texts.extend(text.tobytes() for text in some)
        return found

    monkeypatch.setattr(scoring, "token_scores", counted)
    with pytest.raises(KeyboardInterrupt):
        scored(name="cut")
    before = {path: path.read_bytes() for path in whole.folder.with_name("cut").iterdir()}
    assert len(before) == 3, "the key and two shards"
    first = len(texts)
    texts.clear()
    resumed = scored(name="cut")
    assert len(texts) + first == 3 * len(ROWS), "no text was scored twice"
    assert {path: path.read_bytes() for path in before} == before
    assert table_of(resumed) == table_of(whole)
    assert [row["number"] for row in table_of(whole)] == list(range(len(ROWS)))
    texts.clear()
    scored(name="cut")
    assert not texts, "all is done"
    assert resumed.is_finished()
    resumed.paths()[1].unlink()
    assert not resumed.is_finished(), "a removed shard is scored again"


def test_scores_of_other_inputs_are_refused(scored) -> None:
    shards = scored(name="scores")
    before = {path: path.read_bytes() for path in shards.folder.iterdir()}
    with pytest.raises(ValueError, match=r"holds scores of other inputs, models or settings:\n  files: was"):
        scored(*ROWS[:3], name="scores")
    assert {path: path.read_bytes() for path in shards.folder.iterdir()} == before
    path = shards.paths()[1]
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"00001\.parquet is damaged"):
        table_of(shards)


@pytest.mark.long
def test_what_is_not_scored_is_listed(scored) -> None:
    long = {"instruction": "Q", "output": "很长的答案" * 60}
    hopeless = {"instruction": "很长的问题" * 60, "output": "A"}
    rows = [ROWS[0], long, ROWS[0], hopeless, {"instruction": "Q", "output": ""}, ROWS[1]]
    shards = scored(*rows, name="cut")
    problems = [row["problem"] for row in table_of(shards)]
    assert problems == [None, None, "duplicate", "prompt too long", None]
    assert table_of(shards)[1]["cut_tokens"] > 0 and table_of(shards)[1]["whole_tokens"] == 96
    assert table_of(shards)[2]["answer_nll"] is None
    assert '"empty text": 1' in (shards.folder / "summary.json").read_text()
    shards = scored(*rows, name="drop", on_long="drop")
    assert [row["problem"] for row in table_of(shards)] == [None, "too long", "duplicate", "too long", None]


@pytest.mark.long
def test_a_sample(scored) -> None:
    drawn = table_of(scored(name="sample", sample=6))
    whole = {row["where"]: row for row in table_of(scored(name="whole"))}
    assert [row["number"] for row in drawn] == list(range(6))
    places = [list(whole).index(row["where"]) for row in drawn]
    assert places == sorted(set(places)) and places != list(range(6))
    for row in drawn:
        assert row["answer_nll"] == pytest.approx(whole[row["where"]]["answer_nll"], abs=1e-3)


@pytest.mark.long
def test_a_second_run(scored) -> None:
    row = table_of(scored(tuned=True))[0]
    assert row["tuned_nll"] == pytest.approx(row["answer_nll"]) and row["tuned_entropy"] > 0
    assert {name for name in NUMBERS if row[name] is None} == {"quality"}
    assert table_of(scored(name="other"))[0]["tuned_nll"] is None


def test_runs_of_two_tokenizers_are_refused(base: Path, write) -> None:
    run = read_run(base)
    other = run.tokenizer.model + b"\x00"
    inputs = Inputs([write(*ROWS)], "skip", "cut")

    class Other(Tokenizer):
        def __init__(self) -> None:
            self.sha256 = str(len(other))

    with pytest.raises(ValueError, match="has another tokenizer than"):
        score_key(inputs, [run, run._replace(tokenizer=Other())], "float32")
