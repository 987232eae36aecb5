"""Continuous batching under random schedules: what is asked, when, and what is cancelled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from mindllm_jax.generation.engine import generate
from mindllm_jax.generation.requests import Piece, Request, Ticket
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.generation.scheduler import Batching, Scheduler
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer

SAMPLINGS = (Sampling(0.0), Sampling(1.0, None), Sampling(0.7, 5), Sampling(1.3, None, 0.6))
LENGTHS = (1, 4, 11, 24)  # new tokens
CAPACITY = 96


class Asked(NamedTuple):
    """A request, its ticket, and the pieces of its answer so far."""

    request: Request
    ticket: Ticket
    pieces: list[Piece]

    @property
    def tokens(self) -> list[int]:
        return [token for piece in self.pieces for token in piece.tokens]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "model",
    [{}, {"windows": (None, 20), "positions": "learned"}, {"windows": (200, 7)}],
    ids=["whole", "windows", "window above the capacity"],
)
def test_answers_do_not_depend_on_the_schedule(
    make_decoder, tokenizer: Tokenizer, model: dict[str, object], seed: int
) -> None:
    """Requests that fill the cache exactly, share beginnings, and are cancelled at any time."""
    draw = np.random.default_rng(seed)
    decoder: Decoder = make_decoder(attention="reference", **model)
    scheduler = Scheduler(decoder, tokenizer, Batching(slots=4, queue=64, prefill_chunk=32, decode_chunk=4))
    beginnings = [draw.integers(5, tokenizer.vocab_size, length).tolist() for length in (0, 17, 18, 40)]
    asked: list[Asked] = []
    cancelled: set[int] = set()

    def ask() -> None:
        base = SAMPLINGS[draw.integers(len(SAMPLINGS))]
        new = int(draw.choice(LENGTHS))
        sampling = Sampling(base.temperature, base.top_k, base.top_p, new, seed=int(draw.integers(1000)))
        beginning = beginnings[draw.integers(len(beginnings))]
        if asked and draw.random() < 0.3:  # a later turn of a conversation
            earlier = asked[draw.integers(len(asked))]
            beginning = [*earlier.request.prompt, *earlier.tokens][: CAPACITY - new - 1]
        room = CAPACITY - new - len(beginning)
        rest = room if draw.random() < 0.1 else int(draw.integers(1, min(room, 40) + 1))
        prompt = [*beginning, *draw.integers(5, tokenizer.vocab_size, rest).tolist()]
        pieces: list[Piece] = []
        request = Request(prompt, sampling, tuple(draw.integers(5, tokenizer.vocab_size, 3).tolist()))
        asked.append(Asked(request, scheduler.submit(request, pieces.append), pieces))

    for _ in range(60):
        for _ in range(draw.poisson(0.8)):
            ask()
        if asked and draw.random() < 0.15:
            number = int(draw.integers(len(asked)))
            scheduler.cancel(asked[number].ticket)
            cancelled.add(number)
        scheduler.step()
    while scheduler.step():
        pass
    assert scheduler.active == scheduler.waiting == 0 and len(asked) > 30
    for number, (request, _, pieces) in enumerate(asked):
        alone = generate(decoder, tokenizer, [request.prompt], request.sampling, stop_ids=request.stop_ids)[0]
        tokens, text = asked[number].tokens, "".join(piece.text for piece in pieces)
        assert [piece.finish is None for piece in pieces[:-1]] == [True] * (len(pieces) - 1)
        if pieces[-1].finish == "cancelled":
            assert number in cancelled
            assert alone.tokens[: len(tokens)] == tokens and alone.text.startswith(text)
        else:
            assert (tokens, text, pieces[-1].finish) == (alone.tokens, alone.text, alone.finish), number
