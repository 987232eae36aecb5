"""Verdicts of an endpoint's replies, and people's choices in a file."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from mindllm_jax.batching.chat_template import Message
from mindllm_jax.instruct.ranking.choices import read_choices
from mindllm_jax.instruct.ranking.comparisons import Comparison, Judgement, Winner, judgements, requests, verdict_of
from mindllm_jax.instruct.ranking.prompts import Prompt, read_prompts
from mindllm_jax.instruct.ranking.settings import Judge, RankAnswers

QUESTION = Prompt("p1", (Message("user", "1+1?"),), "2")


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("A", "first"),
        ("B.", "second"),
        ("C", "tie"),
        ("A。", "first"),
        ("A更好", "first"),
        ("**A**\n\nB is wrong, and so is C.", "first"),
        ("答案：B", "second"),
        ("**B**", "second"),
        ("[[C]]", "tie"),
        ("The better one is B", "second"),
        ("A better answer is B", None),
        ("A tie.", None),
        ("A's answer is worse", None),
        ("A closer look shows that the second", None),
        ("A or B", None),
        ("A不如B", None),
        ("A和B一样好，选C", None),
        ("A/B are equal: C", None),
        ("A<B", None),
        ("A=B. C", None),
        ("A:\nnot as good as B", None),
        ("Both", None),
        ("ABC", None),
        ("", None),
    ],
)
def test_the_verdict_of_a_reply(reply: str, verdict: str | None) -> None:
    assert verdict_of(reply) == verdict


@pytest.mark.parametrize(
    ("both", "winner"),
    [
        (("first", "second"), "first"),
        (("second", "first"), "second"),
        (("tie", "tie"), "tie"),
        (("first", "first"), "tie"),
        (("first", "tie"), "tie"),
    ],
)
def test_both_orders_have_to_agree(both: tuple[Winner, Winner], winner: Winner) -> None:
    judge = Judge(model="m")
    pair = Comparison(QUESTION, ("x", "y"), ("2", "3"))
    asked = requests(judge, "m", pair)
    assert [one.names for one in asked] == [("x", "y"), ("y", "x")]
    assert "[Answer A]\n3" in asked[1].text and "[Question]\n1+1?" in asked[1].text
    verdicts = {one.key: {"verdict": verdict} for one, verdict in zip(asked, both, strict=True)}
    found, counts = judgements(judge, "m", [pair], verdicts)
    assert found == [Judgement("p1", "x", "y", winner)]
    assert counts["orders disagree"] == (both[0] == "first" and winner == "tie")
    assert judgements(judge, "m", [pair], {})[1]["without a verdict"] == 1


def test_equal_answers_are_not_asked_about_and_an_empty_one_is_shown_as_such() -> None:
    judge = Judge(model="m")
    equal = Comparison(QUESTION, ("x", "y"), ("2", "2 "))
    assert requests(judge, "m", equal) == []
    assert judgements(judge, "m", [equal], {})[0] == [Judgement("p1", "x", "y", "tie")]
    assert "(no answer)" in requests(judge, "m", Comparison(QUESTION, ("x", "y"), ("", "2")))[0].text


def test_choices_of_people(tmp_path: Path) -> None:
    path = tmp_path / "choices.csv"
    path.write_text("\ufeffid,first,second,winner\np1,x,y,first\n\np1, y ,x,tie\n", encoding="utf-8")
    assert read_choices(path, ["p1"], ["x", "y"]) == [
        Judgement("p1", "x", "y", "first"),
        Judgement("p1", "y", "x", "tie"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "id,a,b,winner\n",
            r"choices\.csv, line 1: the header is 'id,a,b,winner': it has to be id,first,second,winner",
        ),
        ("{}", r"choices\.csv holds no choice: it needs lines such as p1,x,y,tie"),
        ("{}p1,x,y,first\np2,x,y,first\n", r"line 3: id = 'p2': there is no such prompt; did you mean 'p1'\?"),
        ("{}p1,x,z,first\n", r"line 2: second = 'z': there is no such model; there are x, y"),
        ("{}p1,x,x,first\n", r"line 2: first and second are both 'x'"),
        ("{}p1,x,y,x\n", r"line 2: winner = 'x': it has to be first, second, tie"),
        ("{}p1,x,y\n", r"line 2: 3 fields: it has to have 4"),
    ],
)
def test_a_wrong_file_of_choices(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "choices.csv"
    path.write_text(content.format("id,first,second,winner\n"))
    with pytest.raises(ValueError, match=message):
        read_choices(path, ["p1"], ["x", "y"])
    path.write_bytes(b"id,first,second,winner\np1,x,y,\xff\n")
    with pytest.raises(ValueError, match=r"choices\.csv: not UTF-8"):
        read_choices(path, ["p1"], ["x", "y"])


def test_prompts_of_conversations(write) -> None:
    turns = [{"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", "Yo"), ("user", "So?"))]
    rows = [
        {"id": "n1", "messages": [*turns, {"role": "assistant", "content": "Good"}]},
        {"id": "n2", "input": "Q", "output": "A"},
        {"id": "n2", "input": "Q", "output": "another"},
    ]
    config = RankAnswers({"x": "x", "y": "y"}, (str(write(*rows)),), Judge(model="m"))
    first, second = read_prompts(config, Counter())
    assert first.text == "user: Hi\n\nassistant: Yo\n\nuser: So?" and first.reference == "Good"
    assert second.text == "Q" and second.reference == "A", "the first of equal prompts counts"
    write(*rows, {"id": "n2", "input": "another question", "output": "A"})
    *_, third = read_prompts(config, Counter())
    assert third.text == "another question" and third.id.startswith("n2-")


def test_prompts_are_drawn_from_all_files_and_bad_records_skipped(write) -> None:
    files = [
        write(*({"id": f"{name}{i}", "input": f"{name} {i}", "output": "A"} for i in range(50)), name=f"{name}.jsonl")
        for name in ("a", "b")
    ]
    bad = write({"input": "Q", "output": ""}, {"id": "c", "input": "Q", "output": "A"}, name="c.jsonl")
    config = RankAnswers(
        {"x": "x", "y": "y"}, tuple(map(str, (*files, bad))), Judge(model="m"), on_bad="skip", limit=20
    )
    skipped = Counter[str]()
    drawn = [prompt.id for prompt in read_prompts(config, skipped)]
    assert len(drawn) == 20 and {id[0] for id in drawn} >= {"a", "b"} and skipped == {"empty text": 1}
    assert set(drawn) < {prompt.id for prompt in read_prompts(replace(config, limit=40), Counter())}
    with pytest.raises(ValueError, match=r"c\.jsonl, line 1: .*on_bad = 'skip'"):
        read_prompts(replace(config, on_bad="error"), Counter())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"by": "endpoint"}, r"Judge\.model is empty"),
        ({"by": "likelihood"}, r"Judge\.run is empty"),
        ({"by": "file"}, r"Judge\.file is empty"),
        ({"model": "m", "prompt": "{first} {second}"}, r"its fields must be {question}, {first}, {second}"),
    ],
)
def test_settings_of_a_judge(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Judge(**settings)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"x": "x"}, "needs two models"),
        ({"../x": "x", "y": "y"}, "names a file"),
        ({"reference": "x", "y": "y"}, "is the name of the reference answers"),
    ],
)
def test_names_of_models(runs: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RankAnswers(runs, ("a",), Judge(model="m"), with_reference="reference" in runs)
