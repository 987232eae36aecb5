"""Continuous batching gives each request the answer that `generate` gives, whatever else runs beside it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mindllm_jax.generation import slots
from mindllm_jax.generation.engine import generate
from mindllm_jax.generation.requests import Piece, Request
from mindllm_jax.generation.rows import Parts
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.generation.scheduler import Batching, QueueFull, Scheduler
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.model.not_finite import NotFiniteError
from mindllm_jax.tokenization.tokenizer import Tokenizer

GREEDY = Sampling(temperature=0.0, max_tokens=11)
DRAWN = Sampling(temperature=1.0, top_k=None, max_tokens=11)
BATCHING = Batching(slots=4, queue=8, prefill_chunk=32, decode_chunk=4)
PROGRAMS: tuple[Any, ...] = (slots.prefill, slots.decode, slots.copy_row)


@pytest.fixture(scope="module")
def scheduler(decoder: Decoder, tokenizer: Tokenizer) -> Scheduler:
    """One for all tests that leave it empty: compiling takes most of the time."""
    scheduler = Scheduler(decoder, tokenizer, BATCHING)
    scheduler.warm_up()
    return scheduler


class Answer:
    """The pieces that a request was answered with."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def add(self, piece: Piece) -> None:
        self.pieces.append(piece)

    @property
    def finish(self) -> str | None:
        return self.pieces[-1].finish if self.pieces else None

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def tokens(self) -> list[int]:
        return [token for piece in self.pieces for token in piece.tokens]


def random_prompts(tokenizer: Tokenizer, lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(5, tokenizer.vocab_size, length).tolist() for length in lengths]


def answers(scheduler: Scheduler, requests: Sequence[Request]) -> list[Answer]:
    """Submits all at once and runs the loop until all are answered."""
    result = [Answer() for _ in requests]
    for request, answer in zip(requests, result, strict=True):
        scheduler.submit(request, answer.add)
    while scheduler.step():
        pass
    return result


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_answers_are_those_of_generate(
    scheduler: Scheduler, decoder: Decoder, tokenizer: Tokenizer, sampling: Sampling
) -> None:
    prompts = random_prompts(tokenizer, [1, 40, 7, 85, 33, 64, 2, 20])
    for answer, prompt in zip(answers(scheduler, [Request(p, sampling, ()) for p in prompts]), prompts, strict=True):
        (alone,) = generate(decoder, tokenizer, [prompt], sampling, stop_ids=())
        assert (answer.tokens, answer.text, answer.finish) == (alone.tokens, alone.text, alone.finish)
    assert scheduler.active == scheduler.waiting == 0


def test_requests_of_one_call_have_their_own_settings(
    scheduler: Scheduler, decoder: Decoder, tokenizer: Tokenizer
) -> None:
    (prompt,) = random_prompts(tokenizer, [20])
    free = generate(decoder, tokenizer, [prompt], GREEDY, stop_ids=())[0]
    mixed = [
        Request(prompt, Sampling(temperature=0.0, max_tokens=3), ()),
        Request(prompt, GREEDY, (free.tokens[5],)),
        Request(prompt, GREEDY, (), (free.text[2:4],)),
        Request(prompt, Sampling(temperature=1.0, top_k=5, top_p=0.8, seed=7, max_tokens=9), ()),
    ]
    short, ended, stopped, drawn = answers(scheduler, mixed)
    assert short.tokens == free.tokens[:3] and short.finish == "length"
    assert ended.tokens == free.tokens[: free.tokens.index(free.tokens[5])] and ended.finish == "end"
    assert stopped.text == free.text[: free.text.index(free.text[2:4])] and stopped.finish == "stop"
    (alone,) = generate(decoder, tokenizer, [prompt], mixed[3].sampling, stop_ids=())
    assert drawn.tokens == alone.tokens != free.tokens[:9]


def test_a_shared_beginning_is_computed_once(
    scheduler: Scheduler, decoder: Decoder, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    beginning, *ends = random_prompts(tokenizer, [50, 9, 3, 12], seed=4)
    computed: list[int] = []
    compute = scheduler._compute

    def count(parts: Parts) -> None:
        computed.extend(map(len, parts.tokens))
        compute(parts)

    monkeypatch.setattr(scheduler, "_compute", count)
    prompts = [beginning + end for end in ends]
    first = answers(scheduler, [Request(prompt, GREEDY, ()) for prompt in prompts])
    assert sum(computed) == 50 + 9 + 3 + 12
    # The next turn of a conversation begins with all that was said.
    longer = prompts[0] + first[0].tokens + ends[2]
    (turn,) = answers(scheduler, [Request(longer, GREEDY, ())])
    assert sum(computed) == 50 + 9 + 3 + 12 + 12
    for answer, prompt in zip([*first, turn], [*prompts, longer], strict=True):
        assert answer.tokens == generate(decoder, tokenizer, [prompt], GREEDY, stop_ids=())[0].tokens


def test_prompts_that_arrive_together_are_computed_together(
    scheduler: Scheduler, decoder: Decoder, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[list[int]] = []
    compute = scheduler._compute
    monkeypatch.setattr(
        scheduler, "_compute", lambda parts: (computed.append([*map(len, parts.tokens)]), compute(parts))
    )
    prompts = random_prompts(tokenizer, [30, 4, 17, 40], seed=8)
    together = answers(scheduler, [Request(prompt, GREEDY, ()) for prompt in prompts])
    assert [sorted(parts) for parts in computed] == [[4, 17, 30, 32], [8]]
    for answer, prompt in zip(together, prompts, strict=True):
        assert answer.tokens == generate(decoder, tokenizer, [prompt], GREEDY, stop_ids=())[0].tokens


@pytest.mark.slow
def test_layers_with_windows_share_what_they_still_have(make_decoder, tokenizer: Tokenizer) -> None:
    decoder = make_decoder(windows=(None, 20), positions="learned", attention="reference")
    scheduler = Scheduler(decoder, tokenizer, Batching(slots=2, prefill_chunk=32))
    beginning, *ends = random_prompts(tokenizer, [18, 9, 12], seed=5)
    prompts = [[*beginning, *end] for end in ends]
    prompts.append(prompts[0][:-1])  # whose window the first has passed
    for prompt in prompts:
        (answer,) = answers(scheduler, [Request(prompt, GREEDY, ())])
        assert answer.tokens == generate(decoder, tokenizer, [prompt], GREEDY, stop_ids=())[0].tokens


def test_probabilities_are_those_of_a_forward_pass(
    scheduler: Scheduler, decoder: Decoder, tokenizer: Tokenizer
) -> None:
    (prompt,) = random_prompts(tokenizer, [12])
    asked, plain = answers(scheduler, [Request(prompt, DRAWN, (), logprobs=3), Request(prompt, DRAWN, ())])
    assert plain.tokens == asked.tokens and not any(piece.logprobs for piece in plain.pieces)
    whole = jnp.asarray([[*prompt, *asked.tokens]])
    logits = np.asarray(decoder.logits(decoder(whole)), np.float64)[0, len(prompt) - 1 :, : tokenizer.vocab_size]
    expected = (
        logits
        - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - logits.max(-1, keepdims=True)
    )
    reported = [logprob for piece in asked.pieces for logprob in piece.logprobs]
    assert [logprob.id for logprob in reported] == asked.tokens
    for row, logprob in zip(expected, reported, strict=False):
        best = np.argsort(-row, kind="stable")[:3]
        assert [id for id, _ in logprob.top] == best.tolist()
        np.testing.assert_allclose([value for _, value in logprob.top], row[best], atol=1e-5)
        np.testing.assert_allclose(logprob.logprob, row[logprob.id], atol=1e-5)


def test_a_cancelled_request_frees_its_row(scheduler: Scheduler, tokenizer: Tokenizer) -> None:
    long = Sampling(temperature=0.0, max_tokens=60)
    busy = [Answer() for _ in range(6)]
    prompts = random_prompts(tokenizer, [5] * 6, seed=6)
    tickets = [
        scheduler.submit(Request(prompt, long, ()), answer.add) for prompt, answer in zip(prompts, busy, strict=True)
    ]
    while scheduler.active < 4:
        scheduler.step()
    assert scheduler.waiting == 2
    scheduler.cancel(tickets[1])
    scheduler.cancel(tickets[5])
    scheduler.step()
    assert [busy[1].finish, busy[5].finish] == ["cancelled", "cancelled"]
    assert (scheduler.active, scheduler.waiting) == (4, 0), "the fifth has the row of the second"
    while scheduler.step():
        pass
    assert [answer.finish for answer in busy] == ["length", "cancelled", "length", "length", "length", "cancelled"]
    assert [len(answer.tokens) for answer in busy if answer.finish == "length"] == [60] * 4


def test_logits_that_are_not_finite_fail_their_request_alone(decoder: Decoder, tokenizer: Tokenizer) -> None:
    broken = nnx.clone(decoder)
    broken.embedding[...] = broken.embedding[...].at[9].set(jnp.nan)  # the head is another parameter
    scheduler = Scheduler(broken, tokenizer, Batching(slots=2, prefill_chunk=32))
    beginning, end = random_prompts(tokenizer, [40, 5], seed=9)
    beginning, end = [10 if id == 9 else id for id in beginning], [10 if id == 9 else id for id in end]
    sampling = Sampling(temperature=0.0, max_tokens=4)
    failed, answered = answers(scheduler, [Request([*beginning, 9], sampling, ()), Request(end, sampling, ())])
    assert failed.finish == "failed" and "new token 1 are not finite" in failed.pieces[-1].error
    # The keys and values of the failed prompt are not shared, and no shorter prompt meets them in its row.
    asked = [beginning + end, end, end, beginning[:3], beginning[:3]]
    after = [answer for prompt in asked for answer in answers(scheduler, [Request(prompt, sampling, ())])]
    for answer, prompt in zip([answered, *after], [end, *asked], strict=True):
        assert answer.tokens == generate(decoder, tokenizer, [prompt], sampling, stop_ids=())[0].tokens
    # What another request leaves in the row, whose last token or prompt nothing was decoded behind, is not met either.
    answers(scheduler, [Request([*end, 9], Sampling(temperature=0.0, max_tokens=1), ())])
    scheduler.cancel(scheduler.submit(Request([*beginning, 9], sampling, ()), Answer().add))
    for prompt in (end[:2], beginning[:3]):
        (answer,) = answers(scheduler, [Request(prompt, sampling, ())])
        assert answer.tokens == generate(decoder, tokenizer, [prompt], sampling, stop_ids=())[0].tokens
    with pytest.raises(NotFiniteError, match="new token 1 are not finite: parameters"):
        generate(broken, tokenizer, [end, [9]], sampling)


def test_requests_beyond_the_queue_are_refused(scheduler: Scheduler, tokenizer: Tokenizer) -> None:
    prompts = random_prompts(tokenizer, [3] * 12)
    kept = [Answer() for _ in prompts]
    for prompt, answer in zip(prompts, kept, strict=True):
        scheduler.submit(Request(prompt, GREEDY, ()), answer.add)
    with pytest.raises(QueueFull, match=r"12 requests are waiting \(Batching\.queue = 8\)"):
        scheduler.submit(Request(prompts[0], GREEDY, ()), Answer().add)
    while scheduler.step():
        pass
    assert all(answer.finish == "length" for answer in kept)


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "message"),
    [
        ([], 5, "the prompt is empty"),
        ([5] * 90, 11, r"the prompt has 90 tokens, and 11 new ones .* Batching\.capacity = 96: shorten it to 85"),
        ([10**6], 5, "the prompt has a token outside the vocabulary"),
    ],
)
def test_requests_that_cannot_be_answered(
    scheduler: Scheduler, prompt: list[int], max_tokens: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scheduler.submit(Request(prompt, Sampling(max_tokens=max_tokens), ()), Answer().add)


def test_many_threads_are_answered_and_nothing_is_compiled(scheduler: Scheduler, tokenizer: Tokenizer) -> None:
    before = [program._cache_size() for program in PROGRAMS]
    stop, results = threading.Event(), {}
    loop = threading.Thread(target=scheduler.run, args=(stop,))
    loop.start()

    def ask(number: int) -> None:
        done, pieces = threading.Event(), []

        def deliver(piece: Piece) -> None:
            pieces.append(piece)
            if piece.finish:
                done.set()

        (prompt,) = random_prompts(tokenizer, [1 + 7 * number], seed=number)
        scheduler.submit(Request(prompt, DRAWN, (), logprobs=number % 2 or None), deliver)
        assert done.wait(60)
        results[number] = sum(len(piece.tokens) for piece in pieces)

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    stop.set()
    loop.join(10)
    assert not loop.is_alive()
    assert results == dict.fromkeys(range(12), 11)
    assert [program._cache_size() for program in PROGRAMS] == before


@pytest.mark.parametrize("capacity", [96, 20])
def test_a_chunk_may_be_longer_than_the_capacity(decoder: Decoder, tokenizer: Tokenizer, capacity: int) -> None:
    scheduler = Scheduler(decoder, tokenizer, Batching(slots=1, capacity=capacity, prefill_chunk=128))
    scheduler.warm_up()
    (prompt,) = random_prompts(tokenizer, [capacity - GREEDY.new_tokens(capacity)])
    (answer,) = answers(scheduler, [Request(prompt, GREEDY, ())])
    assert answer.tokens == generate(decoder, tokenizer, [prompt], GREEDY, stop_ids=())[0].tokens


def test_slots_are_a_power_of_two() -> None:
    with pytest.raises(ValueError, match=r"Batching\.slots = 3: must be a power of two"):
        Batching(slots=3)
