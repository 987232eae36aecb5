"""The settings of `launch/rank_answers.py`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mindllm_jax.checks import require_at_least, require_local, require_seed
from mindllm_jax.instruct.domains.records import fields_of, require_template
from mindllm_jax.instruct.endpoint import Endpoint

REFERENCE = "reference"
"""The name of the reference answers among the models."""


@dataclass(frozen=True)
class Judge(Endpoint):
    """Settings of the judge, and of the endpoint that it is where it is one.

    Attributes:
        by: "endpoint" asks a model which answer is better, in both orders; "likelihood" takes the answer that has the
            higher log-likelihood per byte under a run; "file" reads the choices of people.
        prompt: template of the message to the endpoint; its fields are {question}, {first} and {second}. The reply has
            to hold one of A, B and C (a tie); what stands below a first line that is the letter is not read.
        max_tokens: of a reply.
        run: the folder of the run that judges by likelihood.
        tie: nats per byte within which two likelihoods are a tie.
        file: people's choices, CSV with the header id,first,second,winner: the prompt, two models, and first, second
            or tie.
    """

    max_tokens: int = 8
    by: Literal["endpoint", "likelihood", "file"] = "endpoint"
    prompt: str = (
        "Two answers to a question follow. Which is better: correct, helpful, in the language of the question? "
        "A long answer is not better for its length.\n\n[Question]\n{question}\n\n[Answer A]\n{first}\n\n"
        "[Answer B]\n{second}\n\nReply with one letter: A, B, or C for a tie."
    )
    run: str = ""
    tie: float = 0.01
    file: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_local(self, "run", "file")
        require_at_least(self, 0, "tie")
        require_template("Judge.prompt", self.prompt)
        if set(fields_of(self.prompt)) != {"question", "first", "second"}:
            raise ValueError(f"Judge.prompt = {self.prompt!r}: its fields must be {{question}}, {{first}}, {{second}}")
        if self.by == "endpoint":
            self.require_model()
        if self.by == "likelihood" and not self.run:
            raise ValueError("Judge.run is empty: name the folder of the run that judges")
        if self.by == "file" and not self.file:
            raise ValueError("Judge.file is empty: name the CSV file of people's choices")

    @property
    def name(self) -> str:
        """The model, run or file that judges."""
        return {"endpoint": self.model, "likelihood": self.run, "file": self.file}[self.by]


@dataclass(frozen=True)
class RankAnswers:
    """Settings of a ranking.

    Attributes:
        runs: the folder of each run, by the name that it has in the ranking.
        prompts: files of conversations in the shapes that `instruct.conversations` reads, or folders of them. What is
            before the last answer is the prompt.
        judge: of two answers.
        with_reference: whether the last answers take part, as a model with the name `reference`.
        on_bad: "error" raises on a malformed record of the prompts, "skip" skips and counts it.
        limit: prompts that are drawn at random from all; None: all.
        max_tokens: of an answer.
        batch_size: answers decoded, or scored, at a time.
        resamples: of the bootstrap over prompts that gives 95% intervals.
        seed: of the bootstrap, and of the prompts that are drawn.
    """

    runs: dict[str, str]
    prompts: tuple[str, ...]
    judge: Judge
    with_reference: bool = False
    on_bad: Literal["error", "skip"] = "error"
    limit: int | None = None
    max_tokens: int = 256
    batch_size: int = 16
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        require_local(self, "runs", "prompts")
        require_at_least(self, 1, "limit", "max_tokens", "batch_size", "resamples")
        require_seed(self, "seed")
        for name in self.runs:
            if not re.fullmatch(r"[\w-][\w.-]*", name):
                raise ValueError(f"RankAnswers.runs: {name!r} names a file: take letters, digits, _, - and . alone")
        if self.with_reference and REFERENCE in self.runs:
            raise ValueError(f"RankAnswers.runs: {REFERENCE!r} is the name of the reference answers: take another one")
        if len(self.names) < 2:
            raise ValueError(f"RankAnswers.runs names {len(self.runs)}: a ranking needs two models at least")

    @property
    def names(self) -> list[str]:
        """The names of all models."""
        return [*self.runs, *([REFERENCE] if self.with_reference else [])]
