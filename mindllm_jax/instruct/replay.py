"""Pre-training text in a tuning run, against forgetting."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from mindllm_jax import configuration
from mindllm_jax.mixture.settings import Mixture, source_facts
from mindllm_jax.store.store import TokenStore
from mindllm_jax.training.load_run import RunRecord


@dataclass(frozen=True)
class Replay:
    """Settings of replayed pre-training text, and of the text on which forgetting is measured."""

    share: float = 0.0  # of all tokens that are replayed ones; 0: none
    store: str | None = None  # their token store; None: the one that the base was pre-trained on

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"Replay.share = {self.share}: must be at least 0 and below 1")


@dataclass(frozen=True)
class PretrainingText:
    """A token store in the tokens of a base, and the mixture in which its text is read."""

    store: TokenStore
    mixture: Mixture

    @property
    def facts(self) -> dict[str, Any]:
        """The sources that are replayed, for the identity of a run."""
        return source_facts(self.mixture, self.store)


def pretraining_text(base: RunRecord, replay: Replay, sequence_length: int, seed: int) -> PretrainingText:
    """Opens the token store of a base's pre-training, or `Replay.store`, for rows of `sequence_length` tokens.

    The base's own store is mixed as in its pre-training, shuffled and without stages and caps; in another store the
    languages have equal parts.

    Raises:
        OSError: the store is missing.
        ValueError: the base records no store and `Replay.store` is not set, or the store is of another tokenizer.
    """
    recorded = base.identity.get("Pretrain", {}).get("data")
    url = replay.store or (recorded or {}).get("store")
    if url is None:
        raise ValueError(
            f"{base.folder} does not record the token store that it was trained on: set Replay.store to a store"
            " with the base's tokenizer"
        )
    store = TokenStore.open(url, base.tokenizer)
    own = Mixture(url, dict.fromkeys(store.languages(), 1))
    if recorded and replay.store is None:
        mixed = configuration.from_json(Mixture, recorded, str(base.folder))
        own = dataclasses.replace(
            own, weights=mixed.weights, source_weights=mixed.source_weights, sources=mixed.sources
        )
    return PretrainingText(store, dataclasses.replace(own, sequence_length=sequence_length, seed=seed))
