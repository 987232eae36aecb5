"""The settings of a mixture of sources, and the rows of their epochs."""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NotRequired, TypedDict

from mindllm_jax.checks import require_at_least, require_seed, suggestion
from mindllm_jax.store.store import TokenStore


class Stage(TypedDict):
    """A range of steps with its own proportions; sources continue in it where the stage before left them.

    Attributes:
        name: for tables and messages.
        share: share of the run's steps, a whole number: stages of 1 and 3 are a quarter and three quarters, and so are
            stages of 500 and 1500 steps.
        weights: in place of `Mixture.weights`.
        source_weights: in place of `Mixture.source_weights`.
    """

    name: str
    share: int
    weights: NotRequired[dict[str, int]]
    source_weights: NotRequired[dict[str, float]]


@dataclass(frozen=True)
class Mixture:
    """The sources of a pre-training run, their proportions and order.

    Attributes:
        store: the token store.
        weights: whole numbers by language: of 5 rows `{"zh": 2, "en": 3}` takes 2 in Chinese and 3 in English. Inside a
            language each source has the share of its tokens.
        source_weights: `{"code": 2.0, "mathematics": 0.5}` multiplies the shares of these sources in their language; a
            source of weight 0 is left out.
        sources: take only these; if empty, all sources of the languages that have more tokens than a row.
        max_epochs: cap on the epochs of every source; the other sources of its language give what it cannot.
        source_max_epochs: in place of `max_epochs`, by source.
        stages: ranges of steps, in order; one stage with the settings above if empty.
        order: order of a stage's rows. `shuffled`: every window has the proportions. `blocked`: block after block.
        blocks: sources of each block, in the order of the blocks; unnamed sources follow, one block each.
        chunk_rows: `{"books": 64}` reads 64 consecutive rows of this source at a time; the others are shuffled.
        sequence_length: T, the tokens of a row.
        seed: decides the order of a source's rows and where documents are cut.
    """

    store: str
    weights: dict[str, int] = field(default_factory=lambda: {"zh": 2, "en": 3})
    source_weights: dict[str, float] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    max_epochs: float | None = None
    source_max_epochs: dict[str, float] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    order: Literal["shuffled", "blocked"] = "shuffled"
    blocks: tuple[tuple[str, ...], ...] = ()
    chunk_rows: dict[str, int] = field(default_factory=dict)
    sequence_length: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        _check_weights("Mixture", self.weights, self.source_weights)
        for number, stage in enumerate(self.stages):
            where = f"Mixture.stages[{number}]"
            _require_whole(f"{where}['share']", stage["share"])
            _check_weights(where, stage.get("weights", self.weights), stage.get("source_weights", {}))
        if len({stage["name"] for stage in self.stages}) < len(self.stages):
            raise ValueError("two stages of Mixture.stages have the same name; give each another")
        caps = {f"source_max_epochs[{name!r}]": epochs for name, epochs in self.source_max_epochs.items()}
        for name, epochs in ({"max_epochs": self.max_epochs} | caps).items():
            if epochs is not None and not 0 < epochs < math.inf:
                raise ValueError(f"Mixture.{name} must be greater than 0, not {epochs}; leave it out for no cap")
        blocked = [source for block in self.blocks for source in block]
        if twice := sorted({source for source in blocked if blocked.count(source) > 1}):
            raise ValueError(f"Mixture.blocks names {twice[0]!r} twice; a source is in one block")
        if self.blocks and self.order != "blocked":
            raise ValueError("Mixture.blocks needs the blocked order; set Mixture.order = 'blocked'")
        for source, rows in self.chunk_rows.items():
            _require_whole(f"Mixture.chunk_rows[{source!r}]", rows)
        if self.chunk_rows and self.order != "shuffled":
            raise ValueError("Mixture.chunk_rows needs the shuffled order: set Mixture.order = 'shuffled'")
        require_at_least(self, 2, "sequence_length")
        require_seed(self, "seed")

    def languages(self) -> list[str]:
        """Returns the languages that some stage reads, in order."""
        weights = [stage.get("weights", self.weights) for stage in self.stages] or [self.weights]
        return sorted(set().union(*weights))


def rows_in_epoch(mixture: Mixture, store: TokenStore) -> dict[str, dict[str, int]]:
    """Returns the rows in an epoch of each source of the mixture, by language; both in order of their names.

    Raises ValueError for a language or source that is not in the store, a source in `Mixture.sources` that is too short
    for one row, and a language without another source.
    """
    languages = mixture.languages()
    require_known("sources", mixture.sources, store.sources, f"not in the store {store.url}")
    for source in mixture.sources:
        if store.sources[source].language not in languages:
            raise ValueError(
                f"Mixture.sources names {source!r}, whose language {store.sources[source].language!r} has no weight in"
                " Mixture.weights"
            )
    short = short_sources(mixture, store)
    rows: dict[str, dict[str, int]] = {}
    for language in languages:
        in_store = store.languages().get(language, [])
        chosen = [source for source in in_store if source in (mixture.sources or set(in_store).difference(short))]
        if not in_store:
            raise ValueError(
                f"Mixture.weights names the language {language!r}, which no source of the store {store.url} has; it has"
                f" {', '.join(store.languages()) or 'no source'}"
            )
        if not chosen and mixture.sources:
            raise ValueError(f"Mixture.sources names no source of the language {language!r}, which has a weight")
        for source in chosen or in_store:  # where none is chosen, all are short
            tokens = store.split(source, "train").tokens
            if source in short:
                raise ValueError(
                    f"source {source} has {tokens} tokens to train on, too few for a row of {mixture.sequence_length}"
                    " and its last target; lower Mixture.sequence_length, or leave it out by Mixture.sources"
                )
            rows.setdefault(language, {})[source] = -(-tokens // mixture.sequence_length)
    return rows


def source_facts(mixture: Mixture, store: TokenStore) -> dict[str, Any]:
    """Returns what the store records of each source of the mixture, for the identity of a run.

    Raises ValueError as `rows_in_epoch` does.
    """
    names = [name for sources in rows_in_epoch(mixture, store).values() for name in sources]
    return {name: asdict(store.sources[name]) for name in names}


def short_sources(mixture: Mixture, store: TokenStore) -> list[str]:
    """Returns the sources of the store with too few tokens for one row and its last target.

    They are left out of a mixture that does not name its sources.
    """
    return [source for source in store.sources if store.split(source, "train").tokens <= mixture.sequence_length]


def require_known(setting: str, names: Collection[str], known: Collection[str], why: str) -> None:
    """Raises ValueError, with a suggestion, for a name of a setting that is not among the known sources."""
    for name in names:
        if name not in known:
            hint = suggestion(name, known) or f"; it has {', '.join(sorted(known))}"
            raise ValueError(f"Mixture.{setting} names {name!r}, {why}{hint}")


def _check_weights(where: str, weights: Mapping[str, int], source_weights: Mapping[str, float]) -> None:
    if not weights:
        raise ValueError(f"{where}.weights is empty; name at least one language, as {{'zh': 2, 'en': 3}}")
    for language, weight in weights.items():
        _require_whole(f"{where}.weights[{language!r}]", weight)
    for source, factor in source_weights.items():
        if not 0 <= factor < math.inf:
            raise ValueError(f"{where}.source_weights[{source!r}] must be 0 or more, not {factor}")


def _require_whole(where: str, number: object) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"{where} must be a whole number of at least 1, not {number!r}")
