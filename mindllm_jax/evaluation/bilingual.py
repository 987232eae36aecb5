"""The bilingual measure: how much of one language a model finds in another, on aligned sentences.

Retrieval: the mean hidden state of a sentence, less the mean over its language, against those of all sentences of the
other language by cosine; it is right where the translation is the nearest. Chance is 1 / sentences, but digits and
names written alike find translations without a model: `pieces` is the accuracy by counts of the pieces that both
languages use.

Translation gain: bits of a sentence given its translation, against no context (`over_none`) and against the translation
of another sentence (`over_wrong`). The first also counts what any text in front gives away, such as the language and
the style; the second does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.progress import track

from mindllm_jax.batching.buckets import multiple_of, power_of_two
from mindllm_jax.batching.packing import first_fit
from mindllm_jax.checks import require_at_least, require_local, require_seed
from mindllm_jax.evaluation.likelihood import ROW_LENGTH, Query, likelihoods
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer

CONDITIONS = ("none", "wrong", "source")  # what stands before the target


@dataclass(frozen=True)
class Bilingual:
    """Settings of the bilingual measure."""

    files: tuple[str, str] | None = None  # one sentence per line, aligned by line; None: nothing is measured
    languages: tuple[str, str] = ("en", "zh")  # their names in the result
    sentences: int | None = None  # from the beginning; None: all
    seed: int = 0  # draws the wrong source of each sentence

    def __post_init__(self) -> None:
        require_at_least(self, 2, "sentences")
        require_seed(self, "seed")
        require_local(self, "files")
        if len(set(self.languages)) < 2:
            raise ValueError(f"Bilingual.languages = {self.languages}: must be two names")


def read_pairs(settings: Bilingual) -> list[tuple[str, str]]:
    """Reads the aligned sentences, none where there are no files.

    Raises ValueError, with file and line, for an empty sentence and for text that is not UTF-8; where the files differ
    in length; and where there are fewer than two sentences. Raises OSError for a file that cannot be read.
    """
    if settings.files is None:
        return []
    first, second = (_sentences(Path(file)) for file in settings.files)
    if len(first) != len(second):
        raise ValueError(
            f"{settings.files[0]} has {len(first)} lines and {settings.files[1]} {len(second)}: they are not aligned"
        )
    if len(first) < 2:
        raise ValueError(f"{settings.files[0]} holds {len(first)} sentences; the bilingual measure needs two or more")
    return list(zip(first, second, strict=True))[: settings.sentences]


def bilingual(
    decoder: Decoder,
    tokenizer: Tokenizer,
    pairs: Sequence[tuple[str, str]],
    *,
    languages: tuple[str, str] = ("en", "zh"),
    seed: int = 0,
    batch_size: int = 16,
) -> dict[str, Any]:
    """Returns retrieval and translation gain of a decoder as JSON values; shows progress.

    Args:
        decoder: the model; every process of a run makes the same call.
        tokenizer: its tokenizer.
        pairs: sentences and their translations, two or more.
        languages: names of the two sides.
        seed: draws the wrong sources.
        batch_size: packed rows per batch.

    The result has `sentences`, `chance`, and for each direction ("en-zh"): `retrieval` (accuracy at 1), `pieces`,
    `bits_per_byte` of the targets after no context, a wrong source and the source, `gain_over_none` and
    `gain_over_wrong` in bits per UTF-8 byte of the target, and standard errors over sentences (`_stderr`). `too_long`
    sentences, whose target is beyond Model.max_seq_len behind one of the sources, are not in bits and gains.

    The prompt is the source and a line break; its target is encoded alone, so that it has the same tokens everywhere.

    Raises ValueError, before anything is computed, where fewer than two sentences fit.
    """
    sides = [tokenizer.encode_batch([pair[side] for pair in pairs]) for side in (0, 1)]
    directions = {
        f"{languages[source]}-{languages[target]}": (
            source,
            target,
            _queries(decoder, tokenizer, pairs, source, sides[target], seed),
        )
        for source, target in ((0, 1), (1, 0))
    }
    states = [
        mean_states(decoder, tokenizer.doc_id, ids, batch_size=batch_size, title=f"hidden states, {language}")
        for ids, language in zip(sides, languages, strict=True)
    ]
    counts = shared_counts(*sides)
    result: dict[str, Any] = {"sentences": len(pairs), "chance": 1 / len(pairs)}
    for name, (source, target, queries) in directions.items():
        right = float(retrieved(states[source], states[target]).mean())
        fitting = [number for number, of_pair in enumerate(queries) if of_pair]
        sizes = np.array([len(pairs[number][target].encode()) for number in fitting])
        asked = [query for of_pair in queries for query in of_pair]
        answers = likelihoods(decoder, asked, batch_size=batch_size, title=f"translation, {name}")
        bits = np.array([-answer.log for answer in answers]).reshape(-1, len(CONDITIONS)).T / math.log(2)
        result[name] = {
            "retrieval": right,
            "retrieval_stderr": math.sqrt(right * (1 - right) / (len(pairs) - 1)),
            "pieces": float(retrieved(counts[source], counts[target]).mean()),
            "bits_per_byte": dict(zip(CONDITIONS, (bits.sum(1) / sizes.sum()).tolist(), strict=True)),
            "too_long": len(pairs) - len(fitting),
        }
        for condition, of_condition in zip(CONDITIONS[:2], bits[:2], strict=True):
            gain, error = ratio(of_condition - bits[2], sizes)
            result[name] |= {f"gain_over_{condition}": gain, f"gain_over_{condition}_stderr": error}
    return result


def _queries(
    decoder: Decoder,
    tokenizer: Tokenizer,
    pairs: Sequence[tuple[str, str]],
    source: int,
    targets: Sequence[np.ndarray],
    seed: int,
) -> list[list[Query]]:
    """Returns a query per condition for each pair, none where one is too long; targets: ids of the other side."""
    longest = decoder.config.max_seq_len
    prompts = tokenizer.encode_batch([f"{pair[source]}\n" for pair in pairs])
    wrong = derangement(len(pairs), seed)
    queries: list[list[Query]] = []
    for number, target in enumerate(targets):
        contexts = ([], prompts[wrong[number]], prompts[number])
        fits = 1 + max(map(len, contexts)) + len(target) <= longest + 1  # nothing is read after the last token
        queries.append([Query([tokenizer.doc_id, *ids], target.tolist()) for ids in contexts] if fits else [])
    if sum(map(bool, queries)) < 2:
        raise ValueError(
            f"fewer than two of {len(pairs)} sentences fit behind a source into Model.max_seq_len = {longest}: the"
            " bilingual measure needs shorter ones"
        )
    return queries


def retrieved(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns whether each source's nearest target is the one of its number, bool [N], of hidden states [N D].

    Hidden states are centred by language and compared by cosine; a target that is as near as the right one counts as
    nearer.
    """
    units = []
    for states in (sources.astype(np.float64), targets.astype(np.float64)):
        centred = states - states.mean(0)
        units.append(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-30))
    cosines = units[0] @ units[1].T
    right = np.diagonal(cosines).copy()
    np.fill_diagonal(cosines, -np.inf)
    return right > cosines.max(1)


def shared_counts(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns how often each sentence has each id that occurs in both languages, float32 [N ids], by language."""
    shared = np.intersect1d(np.concatenate(first), np.concatenate(second))

    def counts(sentences: Sequence[np.ndarray]) -> np.ndarray:
        table = np.zeros((len(sentences), len(shared)), np.float32)
        for row, ids in zip(table, sentences, strict=True):
            known = ids[np.isin(ids, shared)]
            np.add.at(row, np.searchsorted(shared, known), 1)
        return table

    return counts(first), counts(second)


def derangement(count: int, seed: int) -> list[int]:
    """Returns for each of `count` numbers, two or more, another one: a random cycle through all of them."""
    order = np.random.default_rng(seed).permutation(count)
    other = np.empty(count, np.int64)
    other[order] = np.roll(order, 1)
    return other.tolist()


def ratio(values: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Returns the sum of values [N] over the sum of sizes [N], and its standard error over the N items."""
    share, count = values.sum() / sizes.sum(), len(values)
    residuals = values - share * sizes
    return float(share), float(math.sqrt(count / (count - 1) * (residuals**2).sum()) / sizes.sum())


def mean_states(
    decoder: Decoder,
    doc_id: int,
    sentences: Sequence[np.ndarray],
    *,
    batch_size: int = 16,
    title: str = "hidden states",
) -> np.ndarray:
    """Returns the mean of the hidden states after the last norm over the tokens of each sentence, float32 [N D].

    `<doc>` comes first and does not count. Sentences are packed into rows and lose what is longer than
    Model.max_seq_len. Shows progress.
    """
    longest = decoder.config.max_seq_len
    texts = [[doc_id, *ids[: longest - 1].tolist()] for ids in sentences]
    lengths = [len(ids) for ids in texts]
    length = min(longest, multiple_of(ROW_LENGTH, max(lengths)))
    order = np.argsort([-size for size in lengths], kind="stable")  # longest first, which packs well
    rows = [order[members] for members in first_fit([lengths[i] for i in order], length).bins]
    segments = power_of_two(max(map(len, rows)))
    placement = decoder.layout.placement
    count = placement.even_rows(batch_size)
    definition, params = nnx.split(decoder)
    states = np.zeros((len(texts), decoder.config.width), np.float32)
    console = Console(stderr=True, quiet=jax.process_index() != 0)
    for start in track(range(0, len(rows), count), title, console=console, transient=True):
        batch = rows[start : start + count]
        tokens, segment_ids, positions = np.zeros((3, count, length), np.int32)
        for row, members in enumerate(batch):
            begin = 0
            for segment, number in enumerate(members, start=1):
                end = begin + lengths[number]
                tokens[row, begin:end], segment_ids[row, begin:end] = texts[number], segment
                positions[row, begin:end] = range(end - begin)
                begin = end
        arrays = [placement.place(array, "batch", "length") for array in (tokens, segment_ids, positions)]
        means = jax.device_get(_segment_means(definition, params, *arrays, segments=segments))
        for row, members in enumerate(batch):
            states[members] = means[row, : len(members)]
    return states


@partial(jax.jit, static_argnames=("definition", "segments"))
def _segment_means(
    definition: nnx.GraphDef[Decoder],
    params: nnx.State,
    tokens: jax.Array,
    segment_ids: jax.Array,
    positions: jax.Array,
    *,
    segments: int,
) -> jax.Array:
    """Returns the mean hidden state of each segment without its first token, float32 [B segments D]."""
    decoder = nnx.merge(definition, params)
    hidden = decoder(tokens, segment_ids=segment_ids, positions=positions).astype(jnp.float32)
    member = (segment_ids[..., None] == jnp.arange(1, segments + 1)) & (positions[..., None] > 0)
    member = member.astype(jnp.float32)
    sums = jnp.einsum("bts,btd->bsd", member, hidden, precision=jax.lax.Precision.HIGHEST)
    # Replicated, so that every process can read all of it.
    return decoder.layout.placement.constrain(sums / jnp.maximum(member.sum(1), 1)[..., None])


def _sentences(path: Path) -> list[str]:
    try:
        lines = path.read_bytes().decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte {error.start}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise ValueError(f"{path}, line {number}: empty, where a sentence was expected")
    return [line.removesuffix("\r") for line in lines]
