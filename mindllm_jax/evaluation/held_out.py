"""Held-out text of a token store: bits per byte of a run on it, and of compressors on the same bytes."""

from __future__ import annotations

from typing import Any, NamedTuple

from mindllm_jax.evaluation.bits_per_byte import Bits, by_position, held_out_sources, split_bits
from mindllm_jax.evaluation.compression import NGram, xz_bits
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.store.store import TokenStore
from mindllm_jax.store.texts import split_texts
from mindllm_jax.training.load_run import RunRecord

XZ, FIVE_GRAM = "xz -9", "byte 5-gram"


class HeldOut(NamedTuple):
    """The held-out text of a token store, read in rows of `sequence_length` tokens."""

    store: TokenStore
    sources: dict[str, list[str]]  # by language, those with held-out text
    sequence_length: int


def find_held_out(record: RunRecord, run: str, store: str | None, sequence_length: int | None) -> HeldOut:
    """Opens the token store whose held-out text a run is measured on.

    Args:
        record: the checkpoint's metadata.
        run: the folder of the run, for messages.
        store: the token store; None: the one that the run was pre-trained on.
        sequence_length: T of the rows; None: that of pre-training, or else Model.max_seq_len.

    Raises ValueError where there is no store or no held-out split, or where T is longer than the model's context.
    """
    pretraining = record.identity.get("Pretrain", {}).get("data", {})
    url = store or pretraining.get("store")
    if url is None:
        raise ValueError(
            f"{run} does not record the token store that it was trained on: set Evaluate.store to a store with "
            "held-out documents, or Evaluate.bits_per_byte = False to run tasks alone"
        )
    opened = TokenStore.open(url, record.tokenizer)
    sources = held_out_sources(opened)
    if not sources:
        raise ValueError(f"the token store {url} has no held-out split; write it with a larger PrepareData.held_out")
    length = sequence_length or pretraining.get("sequence_length") or record.model.max_seq_len
    if length > record.model.max_seq_len:
        raise ValueError(
            f"Evaluate.sequence_length = {length} is longer than the run's Model.max_seq_len ="
            f" {record.model.max_seq_len}"
        )
    return HeldOut(opened, sources, length)


def held_out_results(decoder: Decoder, held_out: HeldOut) -> dict[str, dict[str, Any]]:
    """Returns `held_out_bytes` and `bits_per_byte` by language, the latter also by source and by position."""
    store, by_language, length = held_out
    of_sources = {
        source: split_bits(decoder, store, source, length, title=f"bits per byte of {source}")
        for sources in by_language.values()
        for source in sources
    }
    of_languages = {
        language: sum((of_sources[source] for source in sources), Bits()) for language, sources in by_language.items()
    }
    return {
        "held_out_bytes": {language: bits.bytes for language, bits in of_languages.items()},
        "bits_per_byte": {language: bits.per_byte for language, bits in of_languages.items()},
        "bits_per_byte_of_sources": {source: bits.per_byte for source, bits in of_sources.items()},
        "bits_per_byte_by_position": {language: by_position(bits) for language, bits in of_languages.items()},
    }


def baselines(held_out: HeldOut, language: str, max_bytes: int) -> dict[str, float]:
    """Returns bits per byte of the compressors on a language's held-out text, and the bytes that the 5-gram counted.

    Without training text there is no 5-gram.
    """
    store = held_out.store
    texts = [text for source in held_out.sources[language] for text in split_texts(store, source, "held_out")]
    size = sum(map(len, texts))
    sources = store.languages()[language]
    counted = sum(store.split(source, "train").bytes for source in sources)
    if not counted:
        return {XZ: xz_bits(texts) / size}
    share = min(1.0, max_bytes / counted)
    training = (text for source in sources for text in split_texts(store, source, "train", share))
    five_gram = NGram(training, order=5).bits(texts) / size
    return {XZ: xz_bits(texts) / size, FIVE_GRAM: five_gram, "counted_bytes": min(counted, max_bytes)}
