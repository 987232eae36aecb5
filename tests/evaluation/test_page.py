"""The page of prompts."""

from html.parser import HTMLParser
from typing import Any

import pytest

from mindllm_jax.evaluation.encoding import Encoder
from mindllm_jax.evaluation.harness.run import TaskResult
from mindllm_jax.evaluation.page import PromptPage
from mindllm_jax.evaluation.protocol import Protocol
from mindllm_jax.tokenization.tokenizer import Tokenizer

pytest.importorskip("lm_eval", reason="lm-eval (the extra `eval`) is not installed")


class Text(HTMLParser):
    """The visible text of a page, and the classes of its spans."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.classes = "", list[str]()
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "img", "link")
        self.classes += [str(value) for name, value in attrs if name == "class"]


def record(arguments: list[tuple[Any, ...]], **more: Any) -> dict[str, Any]:
    return {"doc_id": 4, "filter": "none", "arguments": arguments, "metrics": ["acc"], "acc": 1.0, "target": 0} | more


def page(tokenizer: Tokenizer, samples: dict[str, list[dict[str, Any]]], longest: int = 64) -> Text:
    made = PromptPage("runs/<x>, step 3", Encoder(tokenizer, Protocol()), longest)
    made.add(TaskResult("quiz", {}, 0, 0, 0, 0, None, 0, 0.0, {}, samples))
    return Text(made.html())


def test_prompts_are_shown_token_by_token(tokenizer: Tokenizer) -> None:
    context = "第一条 <b>\nof the"
    choices = [(context, " law"), (context, " 🦉")]
    shown = page(
        tokenizer,
        {"quiz": [record(choices, choices=["law", "🦉"], right=[1], filtered_resps=[(-1.5, True), (-3.0, False)])]},
    )
    for part in ("runs/<x>, step 3", "item 4", "<doc>第一条·<b>↵\nof·the", "·law", "🦉4", "-1.500", "-3.000", "acc 1"):
        assert part in shown.text, part
    assert f"{100 * 2.718281828**-1.5 / (2.718281828**-1.5 + 2.718281828**-3):.1f}" in shown.text
    assert shown.text.index("-1.500") < shown.text.index("likeliest") < shown.text.index("✓ right")
    assert {"t0", "t1", "symbol"} <= set(shown.classes) and "tokens cut" not in shown.classes


def test_what_was_cut_is_marked(tokenizer: Tokenizer) -> None:
    words = "".join(f"第{n}条 " for n in range(40))
    ids = tokenizer.encode(words.rstrip()).tolist()
    choices = [(words, "甲"), (words, "乙")]
    of = record(choices, choices=["甲", "乙"], right=[0], filtered_resps=[(-1.0, True), (-2.0, False)])
    shown = page(tokenizer, {"quiz": [of]}, longest=32)
    after = len(tokenizer.encode(words.rstrip() + " 甲")) - len(ids)
    assert f"Prompt, {len(ids) + 1} tokens" in shown.text
    assert f"The first {len(ids) + 1 - (33 - after)} tokens were cut" in shown.text and "tokens cut" in shown.classes


def test_each_choice_may_have_its_own_prompt(tokenizer: Tokenizer) -> None:
    choices = [("Ann likes", " tea."), ("Bob likes", " tea.")]
    of = record(choices, choices=[" tea."] * 2, right=[0], filtered_resps=[(-1.0, True), (-2.0, False)])
    shown = page(tokenizer, {"quiz": [of]})
    assert "Ann·likes" in shown.text and "Bob·likes" in shown.text


def test_a_generated_answer_is_shown_with_what_filters_made_of_it(tokenizer: Tokenizer) -> None:
    settings = {"until": ["\n"], "max_gen_toks": 8, "do_sample": False}
    of = record([("1 + 1?", settings)], resps=[["It is <2>."]], filtered_resps=["2"], target="2</pre>")
    other = of | {"filter": "last", "filtered_resps": ["<2>"], "acc": 0.0}
    shown = page(tokenizer, {"quiz": [of, other]})
    for part in ("1·+·1?", "It is <2>.", "Extracted by last: <2>", "2</pre>", "acc 1", "acc, last 0"):
        assert part in shown.text, part


def test_a_group_shows_an_item_of_each_of_its_first_members(tokenizer: Tokenizer) -> None:
    def of(number: int) -> dict[str, Any]:
        return record([("a", " b")], doc_id=number, filtered_resps=[(-1.0, True)])

    alone = page(tokenizer, {"quiz": [of(n) for n in range(9)]}).text
    assert "item 2" in alone and "item 3" not in alone
    group = page(tokenizer, {f"quiz_{n}": [of(0), of(1)] for n in range(9)}).text
    assert "quiz_2" in group and "quiz_3" not in group and "item 1" not in group
