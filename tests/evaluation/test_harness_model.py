import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindllm_jax.evaluation import answers
from mindllm_jax.evaluation.answers import Answers
from mindllm_jax.evaluation.harness import model
from mindllm_jax.evaluation.harness.generation_settings import generation_settings
from mindllm_jax.evaluation.harness.model import HarnessRequests, harness_model
from mindllm_jax.evaluation.likelihood import Query, likelihoods
from mindllm_jax.evaluation.protocol import Protocol
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


PAIRS = [("第一条　公民的", "合法权益"), ("The river was", " long"), ("The river was ", "long"), ("", "河")]


def test_loglikelihood_is_that_of_the_pieces_apart(decoder: Decoder, tokenizer: Tokenizer) -> None:
    harness = harness_model(decoder, tokenizer, protocol=Protocol(seam="apart"), batch_size=4)
    found = harness.loglikelihood(requests("loglikelihood", *PAIRS))
    doc = tokenizer.doc_id
    apart = [("第一条　公民的", "合法权益"), ("The river was", " long"), ("The river was", " long"), ("", "河")]
    queries = [Query([doc, *tokenizer.encode(a)], tokenizer.encode(b).tolist()) for a, b in apart]
    expected = likelihoods(decoder, queries)
    assert [log for log, _ in found] == pytest.approx([answer.log for answer in expected], rel=1e-6)
    assert [greedy for _, greedy in found] == [answer.greedy for answer in expected]


def test_a_piece_over_the_seam_is_counted_and_never_scored_as_certain(
    harness: HarnessRequests, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    """Encoded together, some first characters of a continuation stand in no token of their own."""
    pieces = [tokenizer.piece(id) for id in range(tokenizer.vocab_size)]
    word = next(piece for piece in pieces if len(piece) == 2 and piece > "一")
    assert len(tokenizer.encode(word)) == 1
    asked = requests("loglikelihood", (word[0], word[1]), ("a", " b"))
    for request in asked:
        request.task_name, request.doc_id = "task", 3
    (log, _), _ = harness.loglikelihood(asked)
    assert log < 0
    assert (harness.seam_differs, harness.swallowed) == (1, 1), "items are counted, and continuations"
    assert "1 of 2 continuations have no token of their own behind their context" in caplog.text


def test_an_empty_continuation_is_refused_by_item(harness: HarnessRequests) -> None:
    asked = requests("loglikelihood", ("a", "b"), ("a", ""))
    asked[1].task_name, asked[1].doc_id = "mmlu", 7
    with pytest.raises(ValueError, match="item 7 of task 'mmlu': a choice is empty, so it has no likelihood"):
        harness.loglikelihood(asked)


def test_a_cut_evaluation_answers_nothing_twice(
    decoder: Decoder, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With parts of one request each, the third of which is interrupted."""
    monkeypatch.setattr(answers, "TOKENS_AT_A_TIME", 1)
    scored: list[int] = []

    def stopping(*args: Any, **settings: Any) -> Any:
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(len(args[1]))
        return likelihoods(*args, **settings)

    asked = requests("loglikelihood", *PAIRS, PAIRS[0])
    whole = harness_model(decoder, tokenizer).loglikelihood(asked)
    monkeypatch.setattr(model, "likelihoods", stopping)
    with pytest.raises(KeyboardInterrupt):
        harness_model(decoder, tokenizer, answers=Answers(tmp_path, "w")).loglikelihood(asked)
    scored.clear()
    resumed = harness_model(decoder, tokenizer, answers=Answers(tmp_path, "w"))
    np.testing.assert_allclose(resumed.loglikelihood(asked), whole, rtol=1e-6)
    assert scored == [1, 1], "four different requests, of which two were answered"
    cut, seam_differs = resumed.cut, resumed.seam_differs
    again = harness_model(decoder, tokenizer, answers=Answers(tmp_path, "w"))
    np.testing.assert_allclose(again.loglikelihood(asked), whole, rtol=1e-6)
    assert (again.cut, again.seam_differs) == (cut, seam_differs)
    scored.clear()
    other = harness_model(decoder, tokenizer, protocol=Protocol(seam="apart"), answers=Answers(tmp_path, "w"))
    other.loglikelihood(asked[:2])
    assert scored == [1, 1], "another protocol has no answers yet"


def test_kept_generations_and_texts(
    decoder: Decoder, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"until": ["<never>"], "max_gen_toks": 5}
    asked = requests("generate_until", ("第一条", settings), ("The", settings), ("第一条", settings))
    texts = requests("loglikelihood_rolling", ("河",))
    first = harness_model(decoder, tokenizer, answers=Answers(tmp_path, "w"))
    expected = first.generate_until(asked), first.loglikelihood_rolling(texts)
    monkeypatch.setattr(model, "generate", None)
    monkeypatch.setattr(model, "likelihoods", None)
    again = harness_model(decoder, tokenizer, answers=Answers(tmp_path, "w"))
    assert (again.generate_until(asked), again.loglikelihood_rolling(texts)) == expected
    assert expected[0][0] == expected[0][2] != expected[0][1]


def test_sampled_generations_are_computed_each(decoder: Decoder, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """As tasks need that ask for several answers to one prompt."""
    settings = {"until": ["<never>"], "max_gen_toks": 12, "do_sample": True, "temperature": 2.0}
    harness = harness_model(decoder, tokenizer, answers=Answers(tmp_path, "w"))
    asked = requests("generate_until", *[("第一条", settings)] * 3)
    assert len(set(harness.generate_until(asked))) > 1
    assert not (tmp_path / "answers.jsonl").exists()


CHAT = [{"role": "user", "content": "一加一？"}, {"role": "assistant", "content": "二"}]


def test_chat_templates(decoder: Decoder, tokenizer: Tokenizer) -> None:
    harness = harness_model(decoder, tokenizer, protocol=Protocol(chat_template=True))
    assert harness.apply_chat_template([*CHAT, CHAT[0]]).endswith("<user>\n一加一？\n<assistant>\n")
    assert harness.apply_chat_template(CHAT, add_generation_prompt=False).endswith("<assistant>\n二")
    assert harness.chat_template(True) == tokenizer.chat_template and harness.chat_template() == ""
    assert harness.record["chat_template_sha256"]
    assert harness.tokenizer_name != tokenizer.sha256
    text = harness.apply_chat_template(CHAT[:1])
    symbols = [tokenizer.symbols[name] for name in ("<doc>", "<user>", "<assistant>")]
    ids = [id for id in harness.encoder.prompts([text])[0] if id in symbols]
    assert ids == symbols, "one of each, and they are symbols"


def test_a_template_without_system_messages(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A task's description is left out, as `hf` does; a system prompt that is set is not."""
    tokenizer = Tokenizer.load(Path(__file__).parents[1] / "fixtures" / "tokenizer.model")
    plain = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ messages[0]['content'] }}<doc>"
    )
    monkeypatch.setattr(tokenizer, "chat_template", plain)
    with pytest.raises(ValueError, match="no system"):
        harness_model(decoder, tokenizer, protocol=Protocol(chat_template=True, system_prompt="You are"))
    harness = harness_model(decoder, tokenizer, protocol=Protocol(chat_template=True))
    described = [{"role": "system", "content": "Questions on law."}, CHAT[0]]
    texts = [harness.apply_chat_template(described) for _ in range(2)]
    assert texts == [f"{CHAT[0]['content']}<doc>"] * 2
    assert caplog.text.count("no system: the descriptions of tasks are left out") == 1


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


@pytest.mark.parametrize(
    ("settings", "sampling"),
    [
        ({"do_sample": True}, Sampling(1.0, None, max_tokens=256)),
        ({"do_sample": True, "temperature": 0.7, "top_p": 0.95, "top_k": 5}, Sampling(0.7, 5, 0.95, 256)),
        ({"temperature": 0.7, "top_k": 0, "num_beams": 1}, Sampling(0.7, None, max_tokens=256)),
        ({"temperature": 0.0, "top_k": 0}, Sampling(0.0, None, max_tokens=256)),
        ({"do_sample": False, "top_k": 1000, "top_p": 0.9, "min_p": 0.1}, Sampling(0.0, None, max_tokens=256)),
        ({"repetition_penalty": 1.0, "max_gen_toks": 4}, Sampling(0.0, None, max_tokens=4)),
    ],
)
def test_generation_settings(settings: dict[str, Any], sampling: Sampling) -> None:
    assert generation_settings(settings | {"until": ["a"]}) == (sampling, ("a",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_sample": True, "min_p": 0.1}, r"\['min_p'\] are not supported"),
        ({"num_beams": 4, "repetition_penalty": 1.3}, r"\['num_beams', 'repetition_penalty'\] are not supported"),
        ({"do_sample": True, "num_beams": 4}, r"\['num_beams'\] are not supported"),
        ({"temperature": 1.0, "top_k": 1000}, r"Sampling\.top_k = 1000: must be 1 to 256"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generation_settings(settings | {"until": []})


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


def test_a_repeated_request_is_cut_once(harness: HarnessRequests) -> None:
    """A self-consistency task draws each answer 64 times; a choice without its prompt has nothing to lose."""
    settings = {"until": [], "max_gen_toks": 4, "do_sample": True, "temperature": 1.0}
    drawn = [
        Instance("generate_until", {}, ("天下" * 100, settings), 0, metadata=("task", item, 3))
        for item in (0, 1)
        for _ in range(3)
    ]
    harness.generate_until(drawn)
    assert harness.cut == 2
    choice = "天下" * 100
    harness.loglikelihood(requests("loglikelihood", ("The river", choice), ("", choice)))
    assert harness.cut == 3
