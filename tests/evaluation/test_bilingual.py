import math
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mindllm_jax.evaluation import bilingual as module
from mindllm_jax.evaluation.bilingual import (
    Bilingual,
    bilingual,
    derangement,
    mean_states,
    ratio,
    read_pairs,
    retrieved,
    shared_counts,
)
from mindllm_jax.evaluation.likelihood import Likelihood, Query
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer

PAIRS = [(f"The river is {n} miles long.", f"这条河长{n}里。") for n in range(9)]


def test_mean_states_are_those_of_each_sentence_alone(
    decoder: Decoder, wide_decoder: Decoder, tokenizer: Tokenizer
) -> None:
    sentences = tokenizer.encode_batch([text for pair in PAIRS for text in pair])
    expected = []
    for ids in sentences:
        hidden = decoder(jnp.asarray([[tokenizer.doc_id, *ids]], jnp.int32))
        expected.append(np.asarray(hidden[0, 1:], np.float64).mean(0))
    for placed, batch_size in ((decoder, 16), (decoder, 1), (wide_decoder, 2)):
        found = mean_states(placed, tokenizer.doc_id, sentences, batch_size=batch_size)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_a_sentence_longer_than_the_model_reads_loses_its_end(decoder: Decoder, tokenizer: Tokenizer) -> None:
    ids = np.arange(10, 110, dtype=np.int32)
    whole, beginning = mean_states(decoder, tokenizer.doc_id, [ids, ids[: decoder.config.max_seq_len - 1]])
    np.testing.assert_array_equal(whole, beginning)


def test_retrieval_of_planted_translations() -> None:
    """States of one meaning plus what is common to a language: centring finds every translation."""
    generator = np.random.default_rng(0)
    meaning, language = generator.normal(size=(50, 8)), 100 * generator.normal(size=(2, 8))
    first, second = meaning + language[0], 2 * meaning + language[1]
    assert retrieved(first, second).all() and retrieved(second, first).all()
    second[[3, 7]] = second[[7, 3]]
    assert np.flatnonzero(~retrieved(first, second)).tolist() == [3, 7]


def test_equal_states_retrieve_nothing() -> None:
    assert not retrieved(np.ones((5, 4)), np.ones((5, 4))).any()


def test_a_decoder_whose_words_are_translations_retrieves_them(decoder: Decoder, tokenizer: Tokenizer) -> None:
    """Ids 100 + i and 200 + i are one word in two languages: they have one embedding, and the branches add nothing."""
    planted = nnx.clone(decoder)
    table = np.random.default_rng(0).normal(size=planted.embedding.shape).astype(np.float32)
    table[200:220] = table[100:120]
    planted.embedding[...] = jax.device_put(table, planted.embedding[...].sharding)
    for branch in (planted.blocks.attention, planted.blocks.mlp):
        nnx.update(branch, jax.tree.map(lambda x: 0 * x, nnx.state(branch)))
    sentences = [np.arange(100 + i, 103 + i, dtype=np.int32) for i in range(16)]
    first = mean_states(planted, tokenizer.doc_id, sentences)
    second = mean_states(planted, tokenizer.doc_id, [ids + 100 for ids in sentences])
    assert retrieved(first, second).all()
    random = mean_states(planted, tokenizer.doc_id, [ids + 200 for ids in sentences])
    assert retrieved(first, random).sum() < 4


def planted_likelihoods(tokenizer: Tokenizer) -> Callable[..., list[Likelihood]]:
    """Sentence n takes 8 bits without context, 6 after a wrong source, 2 + n % 2 after its own."""

    def answer(decoder: object, queries: Sequence[Query], **_: object) -> list[Likelihood]:
        answers = []
        for context, continuation in queries:
            source, target = tokenizer.decode(context), tokenizer.decode(continuation)
            (number,) = [n for n, pair in enumerate(PAIRS) if target in pair]
            if not source:
                bits = 8
            elif source.removesuffix("\n") in PAIRS[number]:
                bits = 2 + number % 2
            else:
                bits = 6
            answers.append(Likelihood(-bits * math.log(2), False, 0))
        return answers

    return answer


def test_gains_of_planted_likelihoods(decoder: Decoder, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "likelihoods", planted_likelihoods(tokenizer))
    result = bilingual(decoder, tokenizer, PAIRS, languages=("en", "zh"), seed=3)
    assert result["sentences"] == 9 and result["chance"] == pytest.approx(1 / 9)
    for name, side in (("en-zh", 1), ("zh-en", 0)):
        found, size = result[name], sum(len(pair[side].encode()) for pair in PAIRS)
        given = 5 * 2 + 4 * 3
        assert found["gain_over_none"] == pytest.approx((9 * 8 - given) / size)
        assert found["gain_over_wrong"] == pytest.approx((9 * 6 - given) / size)
        assert found["bits_per_byte"] == pytest.approx(
            {"none": 9 * 8 / size, "wrong": 9 * 6 / size, "source": given / size}
        )
        # Every sentence has the same bytes, so the ratio's error is that of the mean.
        gains = np.array([6 - 2 - n % 2 for n in range(9)])
        assert found["gain_over_wrong_stderr"] == pytest.approx(gains.std(ddof=1) / 3 / (size / 9))
        assert found["too_long"] == 0


def test_likelihoods_are_those_of_the_decoder(
    decoder: Decoder, tokenizer: Tokenizer, log_probabilities: Callable[[Decoder, Sequence[int]], np.ndarray]
) -> None:
    result = bilingual(decoder, tokenizer, PAIRS, seed=1)
    wrong = derangement(len(PAIRS), 1)
    for condition, sources in (("source", range(9)), ("wrong", wrong), ("none", [None] * 9)):
        nats = 0.0
        for (_, target), number in zip(PAIRS, sources, strict=True):
            prompt = [] if number is None else tokenizer.encode(PAIRS[number][0] + "\n").tolist()
            ids = tokenizer.encode(target).tolist()
            tokens = [tokenizer.doc_id, *prompt, *ids]
            logs = log_probabilities(decoder, tokens[:-1])[-len(ids) :]
            nats -= logs[np.arange(len(ids)), ids].sum()
        size = sum(len(target.encode()) for _, target in PAIRS)
        assert result["en-zh"]["bits_per_byte"][condition] == pytest.approx(nats / math.log(2) / size, rel=1e-5)


def test_pieces_written_alike_find_translations_without_a_model(decoder: Decoder, tokenizer: Tokenizer) -> None:
    first, second = ([np.array(ids) for ids in side] for side in ([[5, 9, 9, 7], [6, 5]], [[8, 9, 9], [6, 6]]))
    one, other = shared_counts(first, second)
    assert one.tolist() == [[0, 2], [1, 0]] and other.tolist() == [[0, 2], [2, 0]]  # of 6 and 9
    result = bilingual(decoder, tokenizer, PAIRS)
    assert result["en-zh"]["pieces"] == 1.0  # the number of miles
    alike = [(a, "这条河很长。") for a, _ in PAIRS]
    assert bilingual(decoder, tokenizer, alike)["en-zh"]["pieces"] == 0.0


def test_sentences_that_do_not_fit_are_left_out_and_counted(decoder: Decoder, tokenizer: Tokenizer) -> None:
    whole = bilingual(decoder, tokenizer, PAIRS)
    result = bilingual(decoder, tokenizer, [*PAIRS, ("A long way home. " * 20, "路。")])
    # Only the wrong source of one sentence is the long one, and the long one does not fit behind its own.
    assert result["en-zh"]["too_long"] == result["zh-en"]["too_long"] + 1 == 2
    assert result["en-zh"]["bits_per_byte"]["none"] == pytest.approx(whole["en-zh"]["bits_per_byte"]["none"], rel=0.02)
    with pytest.raises(ValueError, match=r"fewer than two of 2 sentences fit .* Model\.max_seq_len = 64"):
        bilingual(decoder, tokenizer, [("A long way home. " * 20, "路。"), ("short", "短")])


@pytest.mark.parametrize("count", [2, 3, 50])
def test_a_derangement_leaves_none_in_place(count: int) -> None:
    found = derangement(count, 0)
    assert sorted(found) == list(range(count)) and all(i != j for i, j in enumerate(found))
    assert found == derangement(count, 0) and (count < 50 or found != derangement(count, 1))


def test_the_error_of_a_ratio_is_that_of_resampling() -> None:
    generator = np.random.default_rng(0)
    sizes = generator.integers(20, 200, 400)
    values = sizes * generator.normal(0.5, 0.2, 400)
    share, error = ratio(values, sizes)
    draws = generator.integers(0, 400, (4000, 400))
    resampled = values[draws].sum(1) / sizes[draws].sum(1)
    assert share == values.sum() / sizes.sum() and error == pytest.approx(resampled.std(), rel=0.05)


def test_pairs_are_read_by_line(tmp_path: Path) -> None:
    (tmp_path / "en").write_text("one\ntwo\u2028more\nthree\n", "utf-8-sig")
    (tmp_path / "zh").write_text("一\r\n二\r\n三", "utf-8")
    settings = Bilingual((str(tmp_path / "en"), str(tmp_path / "zh")), sentences=2)
    assert read_pairs(settings) == [("one", "一"), ("two\u2028more", "二")]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (b"one\ntwo\n", b"1\n", r"en has 2 lines and .*zh 1: they are not aligned"),
        (b"one\n \ntwo\n", b"1\n2\n3\n", r"en, line 2: empty, where a sentence was expected"),
        (b"one\n", b"1\n", r"en holds 1 sentences; the bilingual measure needs two or more"),
        (b"one\ntwo\n", b"1\n\xff\n", r"zh is not UTF-8: byte 2"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, first: bytes, second: bytes, message: str) -> None:
    (tmp_path / "en").write_bytes(first)
    (tmp_path / "zh").write_bytes(second)
    with pytest.raises(ValueError, match=message):
        read_pairs(Bilingual((str(tmp_path / "en"), str(tmp_path / "zh"))))


def test_one_language_is_refused() -> None:
    with pytest.raises(ValueError, match="must be two names"):
        Bilingual(("a", "b"), languages=("en", "en"))
