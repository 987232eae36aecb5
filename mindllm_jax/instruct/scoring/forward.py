"""Loss and predictive entropy at every token of some texts, in one forward pass over packed rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mindllm_jax.batching.buckets import power_of_two
from mindllm_jax.batching.packing import first_fit
from mindllm_jax.model.decoder import Decoder

ROW_LENGTH = 512
"""T of the shortest rows; longer texts go to rows of a power of two, at most Model.max_seq_len."""

_LEAST_CHUNK = 256  # tokens per device whose logits exist at the same time, or as many as the model is wide
_IN_FLIGHT = 2  # batches on the devices, so that they compute while the host packs and adds up


class TokenScores(NamedTuple):
    """Scores of n + 1 ids: of every id but the first, after those before it.

    Attributes:
        loss: float32 [n], -log p of the id in nats.
        entropy: float32 [n], entropy in nats of the prediction at its place.
    """

    loss: np.ndarray
    entropy: np.ndarray


def token_scores(
    decoder: Decoder,
    texts: Sequence[np.ndarray],
    *,
    batch_tokens: int,
    advance: Callable[[int], object] = lambda tokens: None,
) -> list[TokenScores]:
    """Returns the scores of each text, each by itself and in the order given.

    Args:
        decoder: the model, on one device or a mesh.
        texts: int32 ids, each 2 to Model.max_seq_len + 1 of them.
        batch_tokens: tokens of a batch over all devices; a batch has one row at least.
        advance: called with the number of tokens of each batch when its scores are read.

    Raises ValueError for a text of one id or of more than fit a row.
    """
    longest = decoder.config.max_seq_len
    sizes = [len(text) - 1 for text in texts]
    if texts and not 1 <= min(sizes) <= max(sizes) <= longest:
        raise ValueError(f"texts of {min(sizes) + 1} to {max(sizes) + 1} ids: they need 2 to {longest + 1}")
    scores: list[TokenScores | None] = [None] * len(texts)
    definition, params = nnx.split(decoder)
    placement = decoder.layout.placement
    running: deque[tuple[list[list[int]], tuple[jax.Array, jax.Array]]] = deque()

    def collect() -> None:
        rows, outputs = running.popleft()
        losses, entropies = jax.device_get(outputs)
        for index, row in enumerate(rows):
            begin = 0
            for text in row:
                part = slice(begin, begin + sizes[text])
                scores[text] = TokenScores(losses[index, part].copy(), entropies[index, part].copy())
                begin = part.stop
        advance(sum(sizes[text] for row in rows for text in row))

    for rows, arrays in packed_batches(decoder, texts, batch_tokens):
        placed = [placement.place(array, "batch", "length") for array in arrays]
        running.append((rows, _scores(definition, params, *placed)))
        if len(running) >= _IN_FLIGHT:
            collect()
    while running:
        collect()
    return [score for score in scores if score is not None]


def packed_batches(
    decoder: Decoder, texts: Sequence[np.ndarray], batch_tokens: int
) -> Iterator[tuple[list[list[int]], tuple[np.ndarray, ...]]]:
    """Yields, per batch, the texts of each row, by number, and tokens, targets, segment ids, positions: int32 [B T].

    Texts of similar length share rows, which are packed as in training; the last batch of a length is filled up with
    padding.
    """
    sizes, longest = [len(text) - 1 for text in texts], decoder.config.max_seq_len
    lengths = np.array([min(longest, max(ROW_LENGTH, power_of_two(size))) for size in sizes], np.int64)
    for length in np.unique(lengths).tolist():
        members = np.flatnonzero(lengths == length)
        members = members[np.argsort([-sizes[i] for i in members], kind="stable")]  # longest first packs well
        packed = [members[bin].tolist() for bin in first_fit([sizes[i] for i in members], length).bins]
        count = decoder.layout.placement.even_rows(max(1, batch_tokens // length))
        for start in range(0, len(packed), count):
            rows = packed[start : start + count]
            yield rows, _arrays(texts, rows, count, length)


def _arrays(
    texts: Sequence[np.ndarray], rows: Sequence[Sequence[int]], count: int, length: int
) -> tuple[np.ndarray, ...]:
    """Returns tokens, targets, segment ids and positions, int32 [B T]."""
    tokens, targets, segment_ids, positions = np.zeros((4, count, length), np.int32)
    for index, row in enumerate(rows):
        begin = 0
        for segment, number in enumerate(row, start=1):
            ids = texts[number]
            place = slice(begin, begin + len(ids) - 1)
            tokens[index, place], targets[index, place] = ids[:-1], ids[1:]
            segment_ids[index, place], positions[index, place] = segment, range(len(ids) - 1)
            begin = place.stop
    return tokens, targets, segment_ids, positions


@partial(jax.jit, static_argnames="definition")
def _scores(
    definition: nnx.GraphDef[Decoder],
    params: nnx.State,
    tokens: jax.Array,
    targets: jax.Array,
    segment_ids: jax.Array,
    positions: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Returns loss and entropy at every place, float32 [B T], replicated."""
    decoder = nnx.merge(definition, params)
    hidden = decoder(tokens, segment_ids=segment_ids, positions=positions)

    def of_chunk(chunk: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden, targets = chunk
        logits = decoder.logits(hidden)
        # One exponential per logit gives both: with s = logits - max, loss = log sum e^s - s[target] and
        # entropy = log sum e^s - sum s e^s / sum e^s.
        shifted = logits - jnp.max(logits, axis=-1, keepdims=True)
        weights = jnp.exp(shifted)
        total = jnp.sum(weights, axis=-1)
        log_total = jnp.log(total)
        chosen = jnp.take_along_axis(shifted, targets[..., None], axis=-1)[..., 0]
        return log_total - chosen, log_total - jnp.sum(weights * shifted, axis=-1) / total

    # The logits [B T V] of all places could be larger than the model.
    rows = targets.shape[0] // decoder.layout.placement.shards("batch")
    size = _chunk(targets.shape[1], max(_LEAST_CHUNK, decoder.config.width) // rows)

    def split(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(x.shape[0], -1, size, *x.shape[2:]), 1, 0)

    def join(x: jax.Array) -> jax.Array:
        # Replicated, so that every process can read all of it.
        return decoder.layout.placement.constrain(jnp.moveaxis(x, 0, 1).reshape(targets.shape))

    loss, entropy = jax.lax.map(of_chunk, (split(hidden), split(targets)))
    return join(loss), join(entropy)


def _chunk(length: int, most: int) -> int:
    """Returns how many places of each row have logits at the same time: a divisor of the rows' length."""
    return next(size for size in range(max(1, min(length, most)), 0, -1) if length % size == 0)
