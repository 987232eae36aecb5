"""Scores per conversation, made of the raw quantities by their published definitions."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

COLUMNS: dict[str, str] = {
    "answer_loss": "loss of the answers given the prompt, nats per token",
    "answer_entropy": "predictive entropy at the answers' tokens, nats per token",
    "whole_loss": "loss of the whole conversation, nats per token",
    "header_loss": "loss of the answers after the bare response header, nats per token",
    "alone_loss": "loss of the answers alone without the first token of each, nats per token",
    "end_loss": "loss of the symbols that end the answers, nats per answer",
    "answer_bits_per_byte": "loss of the answers given the prompt, bits per UTF-8 byte",
    "whole_bits_per_byte": "loss of the whole conversation, bits per UTF-8 byte",
    "entropy_bits_per_byte": "predictive entropy at the answers' tokens, bits per UTF-8 byte",
    "ifd_loss_ratio": "IFD of Cherry LLM (arXiv 2308.12032): answer_loss / header_loss",
    "ifd_ppl_ratio": "IFD of Superfiltering (arXiv 2402.00530): exp(answer_loss) / exp(alone_loss)",
    "answer_tokens": "tokens of the answers",
    "whole_tokens": "tokens of the conversation",
    "zlib_ratio": "UTF-8 bytes of the texts over those of zlib at level 9 (ZIP, arXiv 2407.06645, one row by itself)",
    "record_score": "the record's own score, of its field metadata.score or score",
    "d_nll": "InstructDiff (arXiv 2601.23006): answer_loss minus that of the tuned run",
    "d_entropy": "InstructDiff: answer_entropy minus that of the tuned run",
}
"""Columns by name, and what each is."""


def columns(raw: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the columns of `COLUMNS`, float64 [n], from the raw quantities of `scoring.shards`, each [n].

    NaN stands where a quantity is missing: conversations that were not scored, answers of one token alone, records
    without a score of their own, no tuned run.
    """
    raw = {name: np.asarray(values, np.float64) for name, values in raw.items()}
    answer_loss = _ratio(raw["answer_nll"], raw["answer_tokens"])
    scored = np.isfinite(answer_loss)
    answer_entropy = _ratio(raw["answer_entropy"], raw["answer_tokens"])
    header_loss = _ratio(raw["header_nll"], raw["answer_tokens"])
    alone_loss = _ratio(raw["alone_nll"], raw["alone_tokens"])
    return {
        "answer_loss": answer_loss,
        "answer_entropy": answer_entropy,
        "whole_loss": _ratio(raw["whole_nll"], raw["whole_tokens"]),
        "header_loss": header_loss,
        "alone_loss": alone_loss,
        "end_loss": _ratio(raw["end_nll"], raw["turns"]),
        "answer_bits_per_byte": _ratio(raw["answer_nll"], raw["answer_bytes"]) / math.log(2),
        "whole_bits_per_byte": _ratio(raw["whole_nll"], raw["whole_bytes"]) / math.log(2),
        "entropy_bits_per_byte": _ratio(raw["answer_entropy"], raw["answer_bytes"]) / math.log(2),
        "ifd_loss_ratio": _ratio(answer_loss, header_loss),
        "ifd_ppl_ratio": np.exp(answer_loss - alone_loss),
        # With what the model did not see: a selection holds conversations whole.
        "answer_tokens": raw["answer_tokens"] + raw["cut_answer_tokens"],
        "whole_tokens": raw["whole_tokens"] + raw["cut_tokens"],
        "zlib_ratio": np.where(scored, _ratio(raw["text_bytes"], raw["zlib_bytes"]), np.nan),
        "record_score": np.where(scored, raw["quality"], np.nan),
        "d_nll": answer_loss - _ratio(raw["tuned_nll"], raw["answer_tokens"]),
        "d_entropy": answer_entropy - _ratio(raw["tuned_entropy"], raw["answer_tokens"]),
    }


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns a / b, NaN where b is 0."""
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0)
