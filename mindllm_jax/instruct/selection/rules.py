"""Rules: which conversations are admitted, and in which order they are taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mindllm_jax.hashing import hash64, permute
from mindllm_jax.instruct.selection.clusters import bucket_numbers
from mindllm_jax.instruct.selection.settings import Selection


class _ByColumn(NamedTuple):
    """An order by a column, with the values that are admitted."""

    column: str
    highest_first: bool
    maximum: float = np.inf


_PUBLISHED = {
    "longest": _ByColumn("answer_tokens", True),
    # Ratios above 1 mean that the question makes the answer less likely: both papers leave them out.
    "ifd_loss": _ByColumn("ifd_loss_ratio", True, 1.0),
    "ifd_ppl": _ByColumn("ifd_ppl_ratio", True, 1.0),
    "zlib": _ByColumn("zlib_ratio", False),
}


def admitted(columns: Mapping[str, np.ndarray], config: Selection) -> np.ndarray:
    """Returns the conversations that the rule admits, int64, the first to be taken first.

    columns: see `columns.columns`, each [n]. Rows without a value of the rule's column are not admitted. "zip" is
    ordered by `zip_order` afterwards. Ties, and rules without an order, are random by the seed.
    """
    score = columns[config.score]
    allowed = np.isfinite(columns["answer_loss"])
    if config.minimum is not None:
        allowed &= score >= config.minimum
    if config.maximum is not None:
        allowed &= score <= config.maximum
    if config.rule in ("bucket", "range", "highest", "lowest"):
        allowed &= np.isfinite(score)
    key = np.zeros(len(score))
    if config.rule == "bucket":
        allowed &= np.isin(bucket_numbers(score, config.buckets), config.chosen_buckets)
    elif config.rule in ("highest", "lowest"):
        key = -score if config.rule == "highest" else score
    elif config.rule == "instruct_diff":
        d_nll = columns["d_nll"]
        low, high = np.nanquantile(d_nll[allowed], (config.end_share, 1 - config.end_share))
        allowed &= (d_nll >= low) & (d_nll <= high)
        key = columns["d_entropy"]
    elif config.rule in _PUBLISHED:
        rule = _PUBLISHED[config.rule]
        values = columns[rule.column]
        allowed &= values <= rule.maximum
        key = -values if rule.highest_first else values
    rows = np.flatnonzero(allowed)
    drawn = hash64(config.seed, "selection")
    random = np.array([permute(int(row), len(score), drawn) for row in rows], np.int64)
    return rows[np.lexsort((random, key[rows]))]
