"""Settings of scoring and selecting instruction data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from mindllm_jax.checks import require_at_least, require_local, require_seed, suggestion
from mindllm_jax.instruct.selection.clusters import Buckets
from mindllm_jax.instruct.selection.columns import COLUMNS
from mindllm_jax.parallel.mesh import MeshAxes


@dataclass(frozen=True)
class Selection:
    """Settings of which conversations are selected, once all are scored.

    A rule orders the conversations that it admits; they are taken in that order until the budget is spent.

    Attributes:
        rule: "random" admits all, in a random order, "bucket" and "range" those of some buckets, or of `minimum` to
            `maximum`, in a random order; "highest" and "lowest" order by `score`. The others are published: "longest"
            answers; "ifd_loss" and "ifd_ppl", the highest IFD up to 1; "zlib", the lowest compression ratio of single
            conversations; "zip", ZIP's greedy choice; "instruct_diff", without the ends of d_nll, the lowest d_entropy.
        score: the column that is divided into buckets, and that the first rules are about.
        buckets: how.
        chosen_buckets: numbers of the buckets of the rule "bucket", from 0 for the lowest.
        minimum: conversations with a lower `score` are not admitted, whatever the rule.
        maximum: nor are those with a higher one.
        conversations: maximum number; None: no limit.
        tokens: maximum tokens of the conversations in the chat format; None: no limit.
        balance: the budget is shared evenly by these, as far as there are conversations.
        min_similarity: a conversation that shares this part of its n-grams with one selected before it is left out
            (MinHash, 0 to 1); None: near-duplicates stay.
        end_share: of "instruct_diff", the share of conversations that are left out at either end of d_nll.
        seed: of random orders.
    """

    rule: Literal[
        "random",
        "bucket",
        "range",
        "highest",
        "lowest",
        "longest",
        "ifd_loss",
        "ifd_ppl",
        "zlib",
        "zip",
        "instruct_diff",
    ] = "range"
    score: str = "answer_loss"
    buckets: Buckets = field(default_factory=Buckets)
    chosen_buckets: tuple[int, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    conversations: int | None = None
    tokens: int | None = None
    balance: tuple[Literal["dataset", "lang", "task"], ...] = ()
    min_similarity: float | None = None
    end_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.score not in COLUMNS:
            raise ValueError(f"Selection.score = {self.score!r}: unknown{suggestion(self.score, COLUMNS)}")
        if (self.rule == "bucket") != bool(self.chosen_buckets):
            raise ValueError(
                f"Selection.chosen_buckets = {self.chosen_buckets}: give them exactly with Selection.rule = 'bucket'"
            )
        if self.rule == "zip" and (self.balance or self.min_similarity is not None):
            raise ValueError("Selection.rule = 'zip' has its own order: set no Selection.balance and min_similarity")
        if self.min_similarity is not None and not 0 < self.min_similarity <= 1:
            raise ValueError(f"Selection.min_similarity = {self.min_similarity}: must be above 0 and at most 1")
        if not 0 <= self.end_share < 0.5:
            raise ValueError(f"Selection.end_share = {self.end_share}: must be at least 0 and below 0.5")
        for name in ("minimum", "maximum"):
            if (bound := getattr(self, name)) is not None and not math.isfinite(bound):
                raise ValueError(f"Selection.{name} = {bound}: must be a finite number")
        if None not in (self.minimum, self.maximum) and not self.minimum <= self.maximum:  # pyright: ignore
            raise ValueError(f"Selection.minimum = {self.minimum} is more than Selection.maximum = {self.maximum}")
        require_at_least(self, 1, "conversations", "tokens")
        require_seed(self, "seed")


@dataclass(frozen=True)
class SelectInstructions:
    """Settings of scoring instruction data by a base model, and of selecting from it.

    Attributes:
        run: folder of the run that scores: pre-trained here, or imported.
        inputs: instruction files as `instruct.conversations` reads them, or folders of them.
        step: step of its checkpoint; None: the latest.
        tuned: folder of a second run, the first one lightly tuned, for d_nll and d_entropy; "" for none.
        tuned_step: step of its checkpoint; None: the latest.
        on_bad: "error" raises on a malformed record, "skip" lists it in refused.jsonl.
        on_long: a conversation longer than Model.max_seq_len: "cut" its end, or "drop" it.
        sample: conversations that are drawn at random and scored; None: all.
        sample_seed: of that draw.
        batch_tokens: tokens of a batch, over all devices.
        scores: folder of the scores, where several selections share them; "" for WORKDIR/scores.
        selection: which conversations are selected.
        mesh: devices.
    """

    run: str
    inputs: tuple[str, ...]
    step: int | None = None
    tuned: str = ""
    tuned_step: int | None = None
    on_bad: Literal["error", "skip"] = "skip"
    on_long: Literal["cut", "drop"] = "cut"
    sample: int | None = None
    sample_seed: int = 0
    batch_tokens: int = 16_384
    scores: str = ""
    selection: Selection = field(default_factory=Selection)
    mesh: MeshAxes = field(default_factory=MeshAxes)

    def __post_init__(self) -> None:
        require_at_least(self, 1, "sample", "batch_tokens")
        require_seed(self, "sample_seed")
        require_at_least(self, 0, "step", "tuned_step")
        require_local(self, "run", "inputs", "tuned", "scores")
        needs_tuned = ("d_nll", "d_entropy")
        if not self.tuned and (self.selection.rule == "instruct_diff" or self.selection.score in needs_tuned):
            raise ValueError("Selection.rule or score needs a second run: set SelectInstructions.tuned")
