"""The page that shows the first items of each task as the model read them, with its answers: prompts.html."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mindllm_jax.evaluation.encoding import Encoder
from mindllm_jax.evaluation.harness.generation_settings import generation_settings
from mindllm_jax.evaluation.harness.run import TaskResult
from mindllm_jax.evaluation.measures import probabilities, scored_item
from mindllm_jax.evaluation.tokens import Shown, shown
from mindllm_jax.reporting.page import Page, Section, render

SHOWN = 3
"""Items of a task, or members of a group with one item each."""

_TEMPLATE = Path(__file__).with_name("prompts.html")
_LEAD = (
    "The first items of each task, token by token. A box is a token; a small number says how many tokens share one"
    " character. · is a space, ↵ the end of a line, □ an ideographic space."
)


class Prompt(NamedTuple):
    """The tokens that the model reads, and those cut at the beginning because there is no room for them."""

    tokens: list[Shown]
    cut: list[Shown]
    size: int  # tokens of both


class Choice(NamedTuple):
    """A continuation whose likelihood was asked for."""

    prompt: Prompt | None  # its own; None: that of the item
    tokens: list[Shown]
    log: float  # nats
    per_byte: float  # log over the UTF-8 bytes of the continuation
    probability: float | None  # among the choices; None for a continuation alone
    chosen: bool
    right: bool


@dataclass(frozen=True)
class Item:
    """An item of a task with what the model answered."""

    task: str
    number: int
    prompt: Prompt | None  # None: each choice has its own
    choices: Sequence[Choice] = field(default_factory=tuple)
    answer: str | None = None  # generated text
    extracted: Mapping[str, str] = field(default_factory=dict)  # by filter
    target: str = ""
    scores: Mapping[str, str] = field(default_factory=dict)


class PromptPage:
    """Collects the first items of tasks and renders them; `longest` is the model's number of positions."""

    def __init__(self, title: str, encoder: Encoder, longest: int) -> None:
        self._title, self._encoder, self._longest = title, encoder, longest
        self._sections: list[Section] = []

    def add(self, result: TaskResult) -> None:
        """Adds the first items of a task, or the first of each of a group's first members."""
        each = SHOWN if len(result.samples) == 1 else 1
        items: list[Item] = []
        for name in list(result.samples)[:SHOWN]:
            numbers = list(dict.fromkeys(record["doc_id"] for record in result.samples[name]))[:each]
            items += [
                self._item(name, [record for record in result.samples[name] if record["doc_id"] == number])
                for number in numbers
            ]
        self._sections.append(Section(result.name, items))

    def html(self) -> str:
        """Returns the page as one HTML text that loads nothing."""
        return render(Page(f"Prompts of {self._title}", _LEAD, self._sections), _TEMPLATE)

    def _item(self, task: str, records: Sequence[Mapping[str, Any]]) -> Item:
        """Returns an item from its records, one per filter."""
        record, arguments = records[0], records[0]["arguments"]
        scores = {
            metric if of["filter"] == "none" else f"{metric}, {of['filter']}": f"{of[metric]:.4g}"
            for of in records
            for metric in of["metrics"]
            if isinstance(of[metric], int | float)
        }
        target = str(record["target"])
        if isinstance(arguments[0][-1], Mapping):
            context, settings = arguments[0][:2]
            sampling, _ = generation_settings(settings)
            (ids,) = self._encoder.prompts([context])
            return Item(
                task,
                record["doc_id"],
                self._prompt(ids, self._longest - sampling.new_tokens(self._longest)),
                answer=str(record["resps"][0][0]),
                extracted={of["filter"]: str(of["filtered_resps"][0]) for of in records if of["filter"] != "none"},
                target=target,
                scores=scores,
            )
        if len(arguments[0]) == 1:  # a text whose every token is scored
            (ids,) = self._encoder.prompts([arguments[0][0]])
            return Item(task, record["doc_id"], self._prompt(ids, len(ids)), target=target, scores=scores)
        choices = list(self._choices(record))
        own = len({context for context, _ in arguments[: len(choices)]}) > 1
        return Item(
            task,
            record["doc_id"],
            None if own else choices[0].prompt,
            choices if own else [choice._replace(prompt=None) for choice in choices],
            target="" if "right" in record else target,
            scores=scores,
        )

    def _choices(self, record: Mapping[str, Any]) -> Iterator[Choice]:
        texts = record.get("choices", [record["arguments"][0][1]])
        pairs = self._encoder.pairs([tuple(pair) for pair in record["arguments"][: len(texts)]])
        item = scored_item(dict(record) | {"choices": texts, "right": record.get("right", [])})
        alone = len(texts) == 1
        for number, (query, *_) in enumerate(pairs):
            room = self._longest + 1 - len(query.continuation)
            yield Choice(
                self._prompt(query.context, room),
                list(shown(self._encoder.tokenizer, query.continuation)),
                float(item.logs[number]),
                float(item.logs[number] / item.sizes[number]),
                None if alone else float(probabilities(item)[number]),
                not alone and number == int(item.logs.argmax()),
                number in item.right,
            )

    def _prompt(self, ids: Sequence[int], room: int) -> Prompt:
        cut, tokenizer = min(len(ids), max(0, len(ids) - room)), self._encoder.tokenizer
        return Prompt(list(shown(tokenizer, ids[cut:])), list(shown(tokenizer, ids[:cut])), len(ids))
