"""Continuous batching: requests begin and end at any time, and those that are there decode together.

Each request has a row of the cache. The loop alternates between parts of the prompts of waiting requests and a few
tokens of all active rows. A row keeps its tokens after its request has ended, and a prompt that begins with the same
tokens as some row does not compute them again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mindllm_jax.batching.buckets import power_of_two, powers_of_two
from mindllm_jax.checks import require_at_least
from mindllm_jax.generation.continuation import Continuation, check_prompt
from mindllm_jax.generation.requests import MOST_STOP_IDS, Piece, Request, Ticket, TokenLogprob
from mindllm_jax.generation.rows import Parts, Row, choose_row, next_parts, waits_for_a_pending
from mindllm_jax.generation.sampling import Sampling, choices
from mindllm_jax.generation.slots import (
    NO_TOKEN,
    Decoded,
    Steps,
    clear_row,
    copy_row,
    decode,
    decoding_layers,
    empty_slots,
    prefill,
)
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer

SHORT_PREFILL = 32
IDLE = Sampling(temperature=0.0)


@dataclass(frozen=True)
class Batching:
    """The settings of continuous batching."""

    slots: int = 16  # requests that decode together; a power of two
    queue: int = 64  # requests that wait for a slot; more are refused
    capacity: int | None = None  # tokens of a prompt and its answer; None: Model.max_seq_len, at most 2,048
    prefill_chunk: int = 128  # tokens of a prompt that are computed at a time
    prefills: int = 4  # such parts, of one prompt or several, between two decoding steps of the others
    decode_chunk: int = 4  # tokens that are decoded at a time: text appears in such steps

    def __post_init__(self) -> None:
        require_at_least(self, 1, "slots", "capacity", "prefill_chunk", "prefills", "decode_chunk")
        require_at_least(self, 0, "queue")
        if self.slots != power_of_two(self.slots):
            raise ValueError(f"Batching.slots = {self.slots}: must be a power of two")


class QueueFull(RuntimeError):
    """The scheduler has as many waiting requests as it may."""


class Scheduler:
    """Answers the requests of many threads with one model, in one thread that calls `run`.

    Raises ValueError for a model that is split over devices by rows.
    """

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, config: Batching) -> None:
        if decoder.layout.placement.shards("batch") > 1:
            raise ValueError("continuous batching needs all rows on each device: use a mesh that does not split them")
        longest = decoder.config.max_seq_len
        self.capacity = min(longest, 2048 if config.capacity is None else config.capacity)
        chunk = min(config.prefill_chunk, self.capacity)
        self._prefill_sizes = sorted({min(SHORT_PREFILL, chunk), chunk})
        self._tokenizer, self._config, self._windows = tokenizer, config, decoder.config.windows
        self._program, self._layers = nnx.split(decoder), decoding_layers(decoder)
        empty = empty_slots(*self._program, rows=config.slots, capacity=self.capacity)
        # Placed as the programs leave them: for any other placement the first one would be compiled again.
        self._slots = jax.device_put(empty, decoder.layout.placement.named())
        self._rows = [Row() for _ in range(config.slots)]
        self._waiting: deque[Ticket] = deque()
        self._changed = threading.Condition()

    @property
    def active(self) -> int:
        """Number of requests that have a slot."""
        return sum(row.ticket is not None for row in self._rows)

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a slot."""
        return len(self._waiting)

    def warm_up(self) -> None:
        """Compiles all programs, so that none is compiled while a request waits."""
        for count in powers_of_two(min(self._config.prefills, len(self._rows))):
            for length in self._prefill_sizes:
                self._compute(Parts(0, [[0] * length] * count, 0))
        self._slots = clear_row(copy_row(self._slots, jnp.int32(0), jnp.int32(0)), jnp.int32(0), jnp.int32(0))
        for count in powers_of_two(len(self._rows)):
            self._decode_rows(0, count)

    def submit(self, request: Request, deliver: Callable[[Piece], None]) -> Ticket:
        """Queues a request; `deliver` gets the pieces of its answer in the scheduler's thread and must not block.

        Raises:
            ValueError: the prompt is empty, does not fit, or has a token outside the vocabulary.
            QueueFull: too many requests wait.
        """
        new_tokens = request.sampling.new_tokens(self.capacity)
        check_prompt(request.prompt, self._tokenizer.vocab_size, self.capacity, new_tokens, limit="Batching.capacity")
        continuation = Continuation(self._tokenizer, new_tokens, request.stop_ids, request.stop_strings)
        ticket = Ticket(request, deliver, continuation)
        with self._changed:
            if self.active + len(self._waiting) >= len(self._rows) + self._config.queue:
                raise QueueFull(f"{len(self._waiting)} requests are waiting (Batching.queue = {self._config.queue})")
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Ends a request before its next token, from any thread."""
        with self._changed:
            ticket.cancelled = True
            self._changed.notify()

    def run(self, stop: threading.Event) -> None:
        """Answers requests until `stop` is set, which is seen within a second; cancels those that are left."""
        try:
            while not stop.is_set():
                if not self.step():
                    with self._changed:
                        self._changed.wait_for(lambda: self._waiting, timeout=1)
        finally:
            with self._changed:
                left = [*self._waiting, *(row.ticket for row in self._rows if row.ticket)]
            for ticket in left:
                ticket.cancelled = True
            self._drop_cancelled()

    def step(self) -> bool:
        """Computes parts of prompts and a few tokens of all active rows; returns whether there was anything to do."""
        self._drop_cancelled()
        prefilled = self._prefill()
        return self._decode() or prefilled

    def _drop_cancelled(self) -> None:
        with self._changed:
            gone = [ticket for ticket in self._waiting if ticket.cancelled]
            for ticket in gone:
                self._waiting.remove(ticket)
        for row in self._rows:
            if row.ticket is not None and row.ticket.cancelled:
                gone.append(row.ticket)
                row.release()
        for ticket in gone:
            ticket.deliver(Piece("", [], [], "cancelled"))

    def _admit(self) -> None:
        """Gives waiting requests rows, whose cache has the tokens that their prompts share with others.

        They are admitted in order; one that shares its beginning with a prompt that is still pending waits for it.
        """
        while True:
            with self._changed:
                if not self._waiting or all(row.ticket is not None for row in self._rows):
                    return
                prompt = self._waiting[0].request.prompt
                if waits_for_a_pending(self._rows, prompt, self._windows):
                    return
                target, source, shared = choose_row(self._rows, prompt, self._windows)
                self._rows[target].take(self._waiting.popleft(), prompt[:shared])
            if source != target:
                self._slots = copy_row(self._slots, jnp.int32(source), jnp.int32(target))
            self._slots = clear_row(self._slots, jnp.int32(target), jnp.int32(shared))

    def _prefill(self) -> bool:
        """Computes up to `Batching.prefills` parts of prompts, of neighbouring rows together where they are alike."""
        left = self._config.prefills
        while left:
            self._admit()
            parts = next_parts(self._rows, self._prefill_sizes[-1], left, self._padded)
            if parts is None:
                break
            self._compute(parts)
            for row, tokens in zip(self._rows[parts.first :], parts.tokens, strict=False):
                row.advance(len(tokens))
            left -= len(parts.tokens)
        return left < self._config.prefills

    def _padded(self, length: int) -> int:
        return min(size for size in self._prefill_sizes if size >= length)

    def _compute(self, parts: Parts) -> None:
        counts = np.array([len(tokens) for tokens in parts.tokens], np.int32)
        padded = np.zeros((len(counts), self._padded(max(counts))), np.int32)
        for row, tokens in zip(padded, parts.tokens, strict=True):
            row[: len(tokens)] = tokens
        start, first = jnp.int32(parts.start), jnp.int32(parts.first)
        self._slots = prefill(*self._program, self._slots, padded, counts, start, first)

    def _decode(self) -> bool:
        busy = [index for index, row in enumerate(self._rows) if row.decodes]
        if not busy:
            return False
        size = power_of_two(busy[-1] - busy[0] + 1)
        first = min(busy[0], len(self._rows) - size)
        decoded, reports = self._decode_rows(first, size)
        logprobs = [np.asarray(array) for array in decoded[1:]] if reports else []
        for index, new in enumerate(decoded.new_tokens()):
            row = self._rows[first + index]
            if row.decodes and new:
                self._deliver(row, new, [array[index] for array in logprobs])
        return True

    def _decode_rows(self, first: int, size: int) -> tuple[Decoded, bool]:
        """Returns what `size` rows decode, and whether it has probabilities."""
        rows = self._rows[first : first + size]
        ends = np.full((size, MOST_STOP_IDS), NO_TOKEN, np.int32)
        remaining, seeds, samplings = np.zeros(size, np.int32), np.zeros(size, np.int32), [IDLE] * size
        reports = False
        for index, row in enumerate(rows):
            if row.decodes and row.ticket is not None:
                request, continuation = row.ticket.request, row.ticket.continuation
                ends[index, : len(request.stop_ids)] = request.stop_ids
                remaining[index] = continuation.max_tokens - len(continuation.tokens)
                seeds[index], samplings[index] = request.sampling.seed, request.sampling
                reports |= request.logprobs is not None
        active, numbers = np.array([row.decodes for row in rows]), np.zeros(size, np.int32)
        how = Steps(active, remaining, ends, seeds, numbers, choices(samplings), np.bool_(reports))
        steps, vocab_size = self._config.decode_chunk, self._tokenizer.vocab_size
        self._slots, decoded = decode(
            *self._program, self._layers, self._slots, how, jnp.int32(first), steps=steps, vocab_size=vocab_size
        )
        return decoded, reports

    def _deliver(self, row: Row, new: list[int], logprobs: list[np.ndarray]) -> None:
        ticket = row.ticket
        assert ticket is not None
        before = len(ticket.continuation.tokens)
        text = ticket.continuation.add(new)
        row.tokens += new
        tokens, finish = ticket.continuation.tokens[before:], ticket.continuation.finish
        reported: list[TokenLogprob] = []
        if (count := ticket.request.logprobs) is not None:
            for token, logprob, ids, top in zip(tokens, *logprobs, strict=False):
                best = tuple((int(id), float(value)) for id, value in zip(ids[:count], top[:count], strict=True))
                reported.append(TokenLogprob(token, float(logprob), best))
        error = ""
        if finish is not None:
            row.release()
        if finish == "failed":
            row.tokens = []  # nobody shares keys and values that may be NaN
            error = str(ticket.continuation.not_finite())
        if text or tokens or finish is not None:
            ticket.deliver(Piece(text, tokens, reported, finish, error))
