"""The tokens of a row do not change between versions: a run resumes with the rows it would have read."""

import hashlib
import json
from typing import Any

import numpy as np
import pytest

from mindllm_jax.mixture.rows import MixtureRows
from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.store.store import TokenStore

STAGES = ({"name": "English", "share": 1, "weights": {"en": 1}}, {"name": "both", "share": 3})

RECORDED: dict[str, tuple[dict[str, Any], str]] = {
    "shuffled": ({}, "8581cedf17ec0c46597a63b2f485a3278354f0822c01b1d3f72318d5081c09be"),
    "one language": (
        {"weights": {"en": 1}, "seed": 7},
        "16ff652dd5b05bd60e16e2e56ca96fe7486b84af0a9037313957f487c2fc3a0f",
    ),
    "source weights": (
        {"source_weights": {"poems": 0.1, "news": 3}},
        "1dc645d8c808abbd619492df95de4745f47e546f6befc4c7e2674135e8014035",
    ),
    "caps": (
        {"max_epochs": 30, "source_max_epochs": {"news": 4.5}},
        "22ddbf5d2f40a181c62b1253f87a8744611c4759ba2fd1360252bcbf111c17ad",
    ),
    "stages": (
        {"stages": STAGES, "max_epochs": 40},
        "8a614eab09dd6842549e12939f4c5398ae82d466bf14c19b07893a1e7bb9aef5",
    ),
    "blocked": (
        {"order": "blocked", "blocks": (("news", "poems"),), "stages": STAGES},
        "4f5162764b2fa09470c9e94c9754488ad20e6556cc1c97cf77099c4bd4916de9",
    ),
    "chunks": (
        {"chunk_rows": {"books": 5, "laws": 3}, "stages": STAGES, "seed": 3},
        "2f07efb7ae6c9a6134bf018baafe4da4453f73ea443a6797a50c3c9ef5a89742",
    ),
}


@pytest.fixture
def store(count_store) -> TokenStore:
    return count_store(
        {
            "poems": ("zh", [7] * 40),
            "laws": ("zh", [101] * 9),
            "books": ("en", [50, 3, 400, 1, 77, 150] * 2),
            "news": ("en", [12] * 30),
        }
    )


@pytest.mark.parametrize("name", RECORDED)
def test_the_first_rows_of_a_run_are_the_recorded_ones(store: TokenStore, name: str) -> None:
    changes, sha256 = RECORDED[name]
    rows = MixtureRows(Mixture("", sequence_length=16, **changes), store, steps=250, global_batch_size=8)
    places = json.dumps(rows.places(np.arange(2_000)))
    assert hashlib.sha256(places.encode()).hexdigest() == sha256
