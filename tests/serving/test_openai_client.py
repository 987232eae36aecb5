"""The official client of OpenAI against the server: what it reads is what the model says."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from running_server import KEY, Running

from mindllm_jax.batching.chat_format import encode_prompt
from mindllm_jax.batching.chat_template import Message
from mindllm_jax.generation.engine import Completion, generate
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.serving.served_model import ServedModel
from mindllm_jax.training.load_run import LoadedRun

openai = pytest.importorskip("openai", reason="the official client of OpenAI is not installed (the extra test)")

QUESTION: list[Any] = [{"role": "user", "content": "Where is the river? 河在哪里？"}]
MESSAGES = [Message("user", "Where is the river? 河在哪里？")]
GREEDY: dict[str, Any] = {"model": "small", "temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def greedy(run: LoadedRun) -> Completion:
    """The engine's own answer to the question."""
    prompt = encode_prompt(run.tokenizer, MESSAGES)
    sampling = Sampling(temperature=0, max_tokens=12)
    (completion,) = generate(run.decoder, run.tokenizer, [prompt], sampling, stop_ids=run.tokenizer.ends)
    return completion


@pytest.fixture(scope="module")
def log_probabilities(run: LoadedRun) -> Callable[[Sequence[int]], np.ndarray]:
    """Of each next token after each of some tokens: one plain forward pass, float64 [T V]."""
    forward = nnx.jit(lambda decoder, tokens: decoder.logits(decoder(tokens))[0])

    def compute(tokens: Sequence[int]) -> np.ndarray:
        padded = np.resize(np.asarray(tokens, np.int32), run.model.max_seq_len)[None]
        scores = np.asarray(forward(run.decoder, jax.numpy.asarray(padded)), np.float64)
        scores = scores[: len(tokens), : run.tokenizer.vocab_size]
        scores -= scores.max(-1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(-1, keepdims=True))

    return compute


def test_an_answer_is_the_engines(client: Any, greedy: Completion, run: LoadedRun, served_model: ServedModel) -> None:
    answer = client.chat.completions.create(messages=QUESTION, **GREEDY)
    assert answer.choices[0].message.content == greedy.text
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == {"length": "length", "end": "stop"}[greedy.finish]
    assert answer.choices[0].logprobs is None
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-") and answer.model == "small"
    assert answer.system_fingerprint == served_model.fingerprint
    prompt = len(encode_prompt(run.tokenizer, MESSAGES))
    assert answer.usage.prompt_tokens == prompt
    assert answer.usage.completion_tokens == len(greedy.tokens)
    assert answer.usage.total_tokens == prompt + len(greedy.tokens)


def test_a_stream_adds_up_to_the_answer(client: Any, greedy: Completion) -> None:
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(messages=QUESTION, stream=True, stream_options=options, **GREEDY))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == greedy.text
    reasons = [chunk.choices[0].finish_reason for chunk in chunks[:-1]]
    assert reasons[-1] is not None and not any(reasons[:-1])
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == len(greedy.tokens)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[0].object == "chat.completion.chunk"


def test_a_stream_without_the_option_has_no_usage(client: Any) -> None:
    chunks = list(client.chat.completions.create(messages=QUESTION, stream=True, **GREEDY))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_answer(client: Any, greedy: Completion, stream: bool) -> None:
    stop = greedy.text[len(greedy.text) // 2 :][:3]
    answer = client.chat.completions.create(messages=QUESTION, stop=["never", stop], stream=stream, **GREEDY)
    if stream:
        chunks = list(answer)
        text, reason = "".join(c.choices[0].delta.content or "" for c in chunks), chunks[-1].choices[0].finish_reason
    else:
        text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
    assert text == greedy.text[: greedy.text.index(stop)]
    assert reason == "stop"


def test_a_seed_repeats_the_draws(client: Any) -> None:
    def draw(seed: int | None, n: int = 1) -> list[str]:
        answer = client.chat.completions.create(
            messages=QUESTION, model="small", max_tokens=12, temperature=1, seed=seed, n=n
        )
        assert [choice.index for choice in answer.choices] == list(range(n))
        return [choice.message.content for choice in answer.choices]

    three = draw(5, 3)
    assert draw(5, 3) == three and len({*three}) == 3
    assert draw(5) == three[:1], "the first choice does not depend on n"
    assert draw(6) != three[:1]
    assert draw(2**62) == draw(2**62) and draw(-1) == draw(-1)
    assert draw(None) != draw(None)


def test_choices_are_streamed_beside_each_other(client: Any) -> None:
    asked: dict[str, Any] = {"messages": QUESTION, "model": "small", "max_tokens": 12, "seed": 5, "n": 3}
    whole = client.chat.completions.create(**asked)
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(stream=True, **asked):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]
    assert whole.usage.prompt_tokens < whole.usage.completion_tokens + whole.usage.prompt_tokens <= 3 * 12 + 60


def test_logprobs_are_those_of_a_forward_pass(
    client: Any, run: LoadedRun, log_probabilities: Callable[[Sequence[int]], np.ndarray]
) -> None:
    answer = client.chat.completions.create(
        messages=QUESTION, model="small", max_tokens=12, temperature=0.7, seed=1, logprobs=True, top_logprobs=4
    )
    tokens = answer.choices[0].logprobs.content
    content = b"".join(bytes(token.bytes) for token in tokens)
    assert content.decode(errors="replace") == answer.choices[0].message.content
    prompt = encode_prompt(run.tokenizer, MESSAGES).tolist()
    by_bytes = {run.tokenizer.decode_bytes([id]): id for id in reversed(range(run.tokenizer.vocab_size))}
    ids = [by_bytes[bytes(token.bytes)] for token in tokens]
    expected = log_probabilities([*prompt, *ids])[len(prompt) - 1 : -1]
    np.testing.assert_allclose([token.logprob for token in tokens], expected[range(len(ids)), ids], atol=1e-4)
    total = sum(token.logprob for token in tokens)
    assert total == pytest.approx(expected[range(len(ids)), ids].sum(), abs=1e-3)
    for token, row in zip(tokens, expected, strict=True):
        np.testing.assert_allclose([top.logprob for top in token.top_logprobs], np.sort(row)[::-1][:4], atol=1e-4)


def test_streamed_logprobs_are_the_same(client: Any) -> None:
    asked: dict[str, Any] = {"messages": QUESTION, "logprobs": True, "top_logprobs": 2, **GREEDY}
    whole = client.chat.completions.create(**asked).choices[0].logprobs.content
    streamed = [
        token
        for chunk in client.chat.completions.create(stream=True, **asked)
        for token in (chunk.choices[0].logprobs.content if chunk.choices[0].logprobs else [])
    ]
    assert [token.token for token in streamed] == [token.token for token in whole]
    assert [token.logprob for token in streamed] == pytest.approx([token.logprob for token in whole], abs=1e-4)


def test_text_completions(client: Any, run: LoadedRun) -> None:
    prompts = ["Once", "从前"]
    asked: dict[str, Any] = {"logprobs": 2, "n": 2, **GREEDY}
    answer = client.completions.create(prompt=prompts, **asked)
    expected = [
        completion.text
        for prompt in prompts
        for completion in generate(run.decoder, run.tokenizer, [prompt], Sampling(temperature=0, max_tokens=12))
        for _ in range(2)
    ]
    assert [choice.text for choice in answer.choices] == expected
    assert answer.object == "text_completion" and answer.usage.completion_tokens == 4 * 12
    for choice in answer.choices:
        shown = choice.logprobs
        assert len(shown.tokens) == len(shown.token_logprobs) == len(shown.top_logprobs) == len(shown.text_offset)
        assert shown.token_logprobs == pytest.approx([max(top.values()) for top in shown.top_logprobs])
        for token, offset in zip(shown.tokens, shown.text_offset, strict=True):
            assert token.startswith("bytes:") or choice.text.startswith(token, offset)
    ids = [run.tokenizer.doc_id, *run.tokenizer.encode("Once").tolist()]
    by_ids = client.completions.create(prompt=ids, **GREEDY)
    assert by_ids.choices[0].text == expected[0] and by_ids.usage.prompt_tokens == len(ids)
    streamed = client.completions.create(prompt="Once", stream=True, **GREEDY)
    assert "".join(chunk.choices[0].text for chunk in streamed) == expected[0]
    assert client.completions.create(prompt="Once", model="small", seed=1).usage.completion_tokens <= 16


def test_a_chat_without_a_limit_fills_the_context(client: Any, run: LoadedRun) -> None:
    answer = client.chat.completions.create(messages=QUESTION, model="small", seed=1)
    choice, usage = answer.choices[0], answer.usage
    assert choice.finish_reason == "stop" or usage.total_tokens == run.model.max_seq_len


def test_models(client: Any) -> None:
    (model,) = client.models.list().data
    assert model.id == "small" and client.models.retrieve("small") == model
    assert model.model_dump()["sampling"] == {"temperature": 0.8, "top_p": 1.0, "top_k": 40, "max_tokens": None}
    with pytest.raises(openai.NotFoundError, match="there is no model 'large'; this server has 'small'"):
        client.models.retrieve("large")


def test_errors_reach_the_client(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="the model's context is 96 tokens"):
        client.chat.completions.create(messages=QUESTION, model="small", max_tokens=90)
    stranger = client.with_options(api_key="wrong")
    with pytest.raises(openai.AuthenticationError, match="the API key is wrong"):
        stranger.models.list()
