import logging
from itertools import pairwise

import numpy as np
import pytest

from mindllm_jax.evaluation.harness.model import HarnessRequests, harness_model
from mindllm_jax.evaluation.likelihood import Query, likelihoods
from mindllm_jax.generation.engine import generate
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer

pytest.importorskip("lm_eval", reason="lm-eval (the extra `eval`) is not installed")
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

pytestmark = pytest.mark.long
GREEDY = Sampling(temperature=0.0, top_k=None, max_tokens=12)


@pytest.fixture
def harness(decoder: Decoder, tokenizer: Tokenizer) -> HarnessRequests:
    return harness_model(decoder, tokenizer, batch_size=4)


def test_the_harness_takes_it_for_one_of_its_models(harness: HarnessRequests) -> None:

    assert isinstance(harness, LM)
    assert harness.rank == 0 and harness.world_size == 1  # pyright: ignore  not known to be both


def requests(kind: str, *arguments: tuple) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=args, idx=n) for n, args in enumerate(arguments)]  # pyright: ignore[reportArgumentType]


def test_loglikelihood_is_that_of_the_pieces_apart(
    harness: HarnessRequests, decoder: Decoder, tokenizer: Tokenizer
) -> None:
    pairs = [("第一条　公民的", "合法权益"), ("The river was", " long"), ("The river was ", "long"), ("", "河")]
    found = harness.loglikelihood(requests("loglikelihood", *pairs))
    doc = tokenizer.doc_id
    apart = [("第一条　公民的", "合法权益"), ("The river was", " long"), ("The river was", " long"), ("", "河")]
    queries = [Query([doc, *tokenizer.encode(a)], tokenizer.encode(b).tolist()) for a, b in apart]
    expected = likelihoods(decoder, queries)
    assert [log for log, _ in found] == pytest.approx([answer.log for answer in expected], rel=1e-6)
    assert [greedy for _, greedy in found] == [answer.greedy for answer in expected]


def test_a_piece_over_the_seam_does_not_swallow_the_continuation(
    harness: HarnessRequests, tokenizer: Tokenizer
) -> None:
    """Encoded together, some first characters of a continuation stand in no token of their own."""
    pieces = map(tokenizer.piece, range(tokenizer.vocab_size))
    word = next(piece for piece in pieces if len(piece) == 2 and piece > "一")
    assert len(tokenizer.encode(word)) == 1
    ((log, _),) = harness.loglikelihood(requests("loglikelihood", (word[0], word[1])))
    assert log < 0


def test_rolling_covers_every_token_once(harness: HarnessRequests, decoder: Decoder, tokenizer: Tokenizer) -> None:
    long = "却说天下大势，分久必合，合久必分。" * 12
    ids, longest = tokenizer.encode(long).tolist(), decoder.config.max_seq_len
    assert len(ids) > 2 * longest
    windows = [ids[start : start + longest] for start in range(0, len(ids), longest)]
    queries = [Query([tokenizer.doc_id], windows[0])]
    queries += [Query([before[-1]], window) for before, window in pairwise(windows[:-1])]
    # The last window reaches back, so that what it scores has all the context that the model reads.
    scored = len(windows[-1])
    queries.append(Query(ids[-longest - 1 : -scored], ids[-scored:]))
    expected = sum(answer.log for answer in likelihoods(decoder, queries))
    short, found = harness.loglikelihood_rolling(requests("loglikelihood_rolling", ("河",), (long,)))
    assert found == pytest.approx(expected, rel=1e-6)
    assert short == pytest.approx(harness.loglikelihood(requests("loglikelihood", ("", "河")))[0][0], rel=1e-6)


def test_generation_is_greedy_and_stops(harness: HarnessRequests, decoder: Decoder, tokenizer: Tokenizer) -> None:
    prompts = ["第一条", "The river", "第"]
    whole = [completion.text for completion in generate(decoder, tokenizer, prompts, GREEDY)]
    settings = {"until": ["<never>"], "max_gen_toks": 12, "do_sample": False, "temperature": 0.7}
    found = harness.generate_until(requests("generate_until", *((prompt, settings) for prompt in prompts)))
    assert found == whole
    assert len(whole[0]) > 3
    stop = whole[0][2:4]
    stopped = {"until": stop, "max_gen_toks": 12}
    assert harness.generate_until(requests("generate_until", (prompts[0], stopped))) == [whole[0].split(stop)[0]]


def test_max_gen_toks_bounds_the_answer(harness: HarnessRequests, tokenizer: Tokenizer) -> None:
    settings = [{"until": [], "max_gen_toks": n} for n in (1, 5)]
    one, five = harness.generate_until(requests("generate_until", *(("The river", s) for s in settings)))
    assert five.startswith(one.rstrip("\N{REPLACEMENT CHARACTER}"))
    assert len(one.encode()) <= max(tokenizer.token_bytes)


def test_sampling_settings_that_would_be_ignored_are_refused(harness: HarnessRequests) -> None:
    settings = {"until": [], "max_gen_toks": 4, "do_sample": True, "temperature": 1.0, "top_p": 0.9}
    with pytest.raises(ValueError, match=r"\['top_p'\] are not supported"):
        harness.generate_until(requests("generate_until", ("a", settings)))
    settings["do_sample"] = False
    assert len(harness.generate_until(requests("generate_until", ("a", settings)))) == 1


def test_cut_requests_are_logged_and_counted(
    harness: HarnessRequests, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    long = "".join(np.random.default_rng(0).choice(list("甲乙丙丁戊己庚辛"), 200))
    with caplog.at_level(logging.WARNING):
        (cut, _), _ = harness.loglikelihood(requests("loglikelihood", (long, "天"), ("地", "天")))
        tail = tokenizer.encode(long)
    assert "1 of 2 requests are longer than Model.max_seq_len = 64 tokens" in caplog.text
    assert harness.cut == 1
    assert len(tail) > 64 and cut < 0
    harness.generate_until(requests("generate_until", (long, {"until": [], "max_gen_toks": 4})))
    assert harness.cut == 2
