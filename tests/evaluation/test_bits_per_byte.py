import dataclasses
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import jax
import numpy as np
import pytest
from flax import nnx

from mindllm_jax.evaluation.bits_per_byte import Bits, by_position, held_out_bits, held_out_sources, split_bits
from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.rows import Batch
from mindllm_jax.store.rows import SplitRows
from mindllm_jax.store.store import TokenStore
from mindllm_jax.store.texts import split_texts
from mindllm_jax.training import measure as training_measure

LogProbabilities = Callable[[Decoder, Sequence[int]], np.ndarray]


class Target(NamedTuple):
    nats: float
    id: int
    in_row: int  # tokens before it
    in_document: int


def targets_by_hand(
    decoder: Decoder, store: TokenStore, source: str, length: int, logs_of: LogProbabilities
) -> list[list[Target]]:
    """The split's stream cut into rows, each document of a row on its own through the decoder; float64."""
    documents = list(split_texts(store, source, "held_out"))
    rows: list[list[Target]] = []
    doc = store.tokenizer.doc_id
    stream = [doc] + [id for text in documents for id in (*store.tokenizer.encode(text.decode()), doc)]
    for start in range(0, len(stream) - 1, length):
        targets = stream[start + 1 : start + 1 + length]
        row = stream[start : start + len(targets)]
        begins = [0, *(i for i, id in enumerate(row) if id == doc and i > 0), len(row)]
        rows.append([])
        for begin, end in pairwise(begins):
            logs = logs_of(decoder, row[begin:end])
            rows[-1] += [
                Target(-logs[i - begin, targets[i]], targets[i], i + 1, i - begin + 1) for i in range(begin, end)
            ]
    return rows


def rows_by_hand(
    decoder: Decoder, store: TokenStore, source: str, length: int, logs_of: LogProbabilities
) -> list[Bits]:
    return [bits_of(store, row) for row in targets_by_hand(decoder, store, source, length, logs_of)]


def bits_of(store: TokenStore, targets: Sequence[Target]) -> Bits:
    nats = sum(target.nats for target in targets)
    return Bits(nats / math.log(2), len(store.tokenizer.decode_bytes([target.id for target in targets])))


@pytest.mark.parametrize("length", [32, 47])
def test_bits_are_those_of_every_target(
    decoder: Decoder, store: TokenStore, length: int, log_probabilities: LogProbabilities
) -> None:
    expected = sum(rows_by_hand(decoder, store, "laws", length, log_probabilities), Bits())
    found = split_bits(decoder, store, "laws", length)
    assert found.bytes == expected.bytes == store.split("laws", "held_out").bytes
    assert found.bits == pytest.approx(expected.bits, rel=2e-6)


@pytest.mark.parametrize("length", [32, 47])
def test_bits_by_position_are_those_of_the_targets_there(
    decoder: Decoder, store: TokenStore, length: int, log_probabilities: LogProbabilities
) -> None:
    rows = targets_by_hand(decoder, store, "laws", length, log_probabilities)
    targets = [target for row in rows for target in row]
    found = split_bits(decoder, store, "laws", length)
    for field, parts in (("in_row", found.in_row), ("in_document", found.in_document)):
        assert len(parts) == length.bit_length()
        for k, part in enumerate(parts):
            there = bits_of(store, [target for target in targets if 2**k <= getattr(target, field) < 2 ** (k + 1)])
            assert part.bytes == there.bytes and part.bits == pytest.approx(there.bits, rel=2e-6)
        total = sum(parts, Bits())
        assert total.bytes == found.bytes and total.bits == pytest.approx(found.bits, rel=1e-6)


def test_positions_of_sources_add_up(decoder: Decoder, store: TokenStore) -> None:
    laws, novel = split_bits(decoder, store, "laws", 32), split_bits(decoder, store, "novel", 16)
    both = laws + novel + Bits()
    assert (both.bits, both.bytes) == (laws.bits + novel.bits, laws.bytes + novel.bytes)
    assert both.in_row[1] == laws.in_row[1] + novel.in_row[1] and both.in_row[5] == laws.in_row[5]
    found = by_position(both)
    for parts in found.values():
        assert sum(part["bytes"] for part in parts) == both.bytes
        assert sum(part["bits"] for part in parts) == pytest.approx(both.bits, rel=1e-6)
    assert [part["tokens_before"] for part in found["row"]] == ["1", "2-3", "4-7", "8-15", "16-31", "32-63"]
    assert found["row"][1]["bits_per_byte"] == both.in_row[1].per_byte


def test_a_range_of_document_ends_alone_has_no_bytes() -> None:
    (part,) = by_position(Bits(2.0, 0, (Bits(), Bits(2.0, 0))))["row"]
    assert part == {"tokens_before": "2-3", "bits": 2.0, "bytes": 0, "bits_per_byte": None}


def test_positions_cost_no_gradients(decoder: Decoder, store: TokenStore) -> None:
    definition, params = nnx.split(decoder)
    batch = SplitRows(store, "laws", "held_out", 32).read(np.arange(8))
    sizes = decoder.layout.placement.place(store.tokenizer.token_bytes)
    plain, by_place = (
        function.lower(definition, params, batch, sizes).compile().cost_analysis()["flops"]  # pyright: ignore
        for function in (training_measure._totals, training_measure._place_totals)  # pyright: ignore
    )
    assert by_place < 1.02 * plain


def test_devices_change_nothing(
    decoder: Decoder, bare_decoder: Decoder, wide_decoder: Decoder, store: TokenStore
) -> None:
    one = split_bits(decoder, store, "wiki", 32)
    for other in (bare_decoder, wide_decoder):
        found = split_bits(other, store, "wiki", 32)
        assert found.bytes == one.bytes and found.bits == pytest.approx(one.bits, rel=1e-6)
        for a, b in zip(found.in_row + found.in_document, one.in_row + one.in_document, strict=True):
            assert a.bytes == b.bytes and a.bits == pytest.approx(b.bits, rel=1e-5)


def test_evaluations_of_a_run_share_one_program(decoder: Decoder, store: TokenStore) -> None:
    definition, params = nnx.split(decoder)
    later = nnx.merge(definition, jax.tree.map(lambda x: jax.device_put(1.1 * x, x.sharding), params))
    measure = held_out_bits(Mixture(store.url, sequence_length=32), store)
    first = measure(decoder)
    programs = training_measure._place_totals._cache_size()  # pyright: ignore
    second = measure(later)
    assert training_measure._place_totals._cache_size() == programs  # pyright: ignore
    assert first.keys() == second.keys() and first != second


def test_nothing_is_moved_behind_the_scenes(decoder: Decoder, store: TokenStore) -> None:
    with jax.transfer_guard("disallow"):
        split_bits(decoder, store, "novel", 32)


def test_a_sample_of_all_rows_is_the_whole(decoder: Decoder, store: TokenStore) -> None:
    measured = held_out_bits(Mixture(store.url, sequence_length=32), store, rows=10**6)(decoder)
    laws, novel = (split_bits(decoder, store, source, 32) for source in ("laws", "novel"))
    assert measured.keys() == {f"bits_per_byte/{name}" for name in ("zh", "en", "laws", "novel", "wiki")}
    assert measured["bits_per_byte/laws"] == laws.per_byte
    assert measured["bits_per_byte/zh"] == (laws + novel).per_byte
    assert measured["bits_per_byte/en"] == measured["bits_per_byte/wiki"]


def test_a_sample_is_drawn_from_all_rows_and_weighted_by_bytes(
    decoder: Decoder, store: TokenStore, log_probabilities: LogProbabilities, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[str, list[int]] = {}
    plain = SplitRows.read

    def recording(self: SplitRows, indices: np.ndarray) -> Batch:
        read.setdefault(self._source, []).extend(indices[indices < len(self)].tolist())
        return plain(self, indices)

    monkeypatch.setattr(SplitRows, "read", recording)
    measured = held_out_bits(Mixture(store.url, {"zh": 1}, sequence_length=8), store, rows=40)(decoder)
    tokens = {source: store.split(source, "held_out").tokens for source in ("laws", "novel")}
    bits, size = 0.0, 0
    for source, numbers in read.items():
        rows = rows_by_hand(decoder, store, source, 8, log_probabilities)
        assert len(set(numbers)) == len(numbers) == math.ceil(40 * tokens[source] / sum(tokens.values())) < len(rows)
        assert max(numbers) >= 0.8 * len(rows), "not the first rows"
        estimated = sum(rows[number].bits for number in numbers) * len(rows) / len(numbers)
        held_out = store.split(source, "held_out").bytes
        assert measured[f"bits_per_byte/{source}"] == pytest.approx(estimated / held_out, rel=2e-6)
        bits, size = bits + estimated, size + held_out
    assert len(read["laws"]) != len(read["novel"])
    assert measured["bits_per_byte/zh"] == pytest.approx(bits / size, rel=2e-6)


def test_the_log_says_the_same_on_any_devices(
    decoder: Decoder, on_devices: Callable[[int], Decoder], store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = held_out_bits(Mixture(store.url, sequence_length=16), store, rows=13)
    one = measure(decoder)
    for devices, batch_size in ((2, 8), (8, 8), (1, 3)):
        monkeypatch.setattr(training_measure, "BATCH_ROWS", batch_size)
        assert measure(on_devices(devices)) == pytest.approx(one, rel=1e-6)


def test_a_small_source_has_rows_enough(decoder: Decoder, store: TokenStore) -> None:
    """One row of a source may be its last, with hardly a token in it."""
    measured = held_out_bits(Mixture(store.url, sequence_length=32), store, rows=1)(decoder)
    whole = split_bits(decoder, store, "novel", 32).per_byte
    assert measured["bits_per_byte/novel"] == pytest.approx(whole, rel=0.1)


def test_only_sources_of_the_mixture_are_measured(decoder: Decoder, store: TokenStore) -> None:
    mixture = Mixture(store.url, {"zh": 1}, sources=("novel",), sequence_length=32)
    assert held_out_bits(mixture, store)(decoder).keys() == {"bits_per_byte/novel", "bits_per_byte/zh"}


def test_sources_that_hold_nothing_out_are_left_out(
    decoder: Decoder, store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = store.sources["wiki"]
    empty = dataclasses.replace(info, splits=info.splits | {"held_out": type(info.splits["held_out"])(0, 0, 0)})
    monkeypatch.setitem(store.manifest.sources, "wiki", empty)
    assert held_out_sources(store) == {"zh": ["laws", "novel"]}
    assert held_out_sources(store, Mixture(store.url, sources=("novel", "wiki"))) == {"zh": ["novel"]}
    assert held_out_sources(store, Mixture(store.url, {"en": 1})) == {}
    assert "bits_per_byte/en" not in held_out_bits(Mixture(store.url, sequence_length=32), store)(decoder)


def test_wrong_bytes_of_the_manifest_are_reported(
    decoder: Decoder, store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = store.sources["wiki"]
    held_out = dataclasses.replace(info.splits["held_out"], bytes=7)
    changed = dataclasses.replace(info, splits=info.splits | {"held_out": held_out})
    monkeypatch.setitem(store.manifest.sources, "wiki", changed)
    with pytest.raises(ValueError, match=r"manifest\.json: bytes = 7 of wiki held_out, and its tokens stand for \d+: "):
        split_bits(decoder, store, "wiki", 32)
