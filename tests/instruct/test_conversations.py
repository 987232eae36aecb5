"""Instruction files in the shapes that published sets come in, and bad lines in them."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mindllm_jax.batching.chat_template import Message
from mindllm_jax.instruct.conversations import read_conversations

PUBLISHED = Path(__file__).parents[3] / "shared/data/sft"

USER, ASSISTANT = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
GPT = {"from": "gpt", "value": "A"}

SHAPES: dict[str, tuple[Any, list[tuple[str, ...]]]] = {
    "messages": ({"messages": [USER, ASSISTANT, USER, ASSISTANT]}, [("Q", "A"), ("Q", "A")]),
    "system": (
        {"messages": [{"role": "system", "content": "Be brief."}, USER, ASSISTANT]},
        [("Be brief.",), ("Q", "A")],
    ),
    "instruction": ({"instruction": "翻译", "input": "", "output": " A\n"}, [("翻译", "A")]),
    "instruction and input": ({"instruction": "翻译", "input": "你好", "response": "Hello"}, [("翻译\n你好", "Hello")]),
    "no input, in words": ({"instruction": "I", "input": "<noinput>", "output": "A"}, [("I", "A")]),
    "no input of an instance": (
        {"instruction": "I", "instances": [{"input": "Noinput", "output": "A"}]},
        [("I", "A")],
    ),
    "input is null": ({"instruction": "I", "input": None, "output": "A"}, [("I", "A")]),
    "input alone": ({"id": 7, "input": "Q", "output": "A"}, [("Q", "A")]),
    "history": (
        {"instruction": "Q2", "output": "A2", "history": [["Q0", "A0"], ["Q1", "A1"]]},
        [("Q0", "A0"), ("Q1", "A1"), ("Q2", "A2")],
    ),
    "empty history": ({"instruction": "Q", "output": "A", "history": []}, [("Q", "A")]),
    "MOSS": (
        {
            "chat": {
                "turn_2": {"Human": "<|Human|>: 2<eoh>\n", "Inner Thoughts": "?", "MOSS": "<|MOSS|>: zwei<eom>\n"},
                "turn_1": {"Human": "1", "MOSS": "eins"},
            }
        },
        [("1", "eins"), ("2", "zwei")],
    ),
    "list of messages": ([USER, ASSISTANT, USER, ASSISTANT], [("Q", "A"), ("Q", "A")]),
    "list of one row": ([{"instruction": "1", "output": "eins"}], [("1", "eins")]),
    "empty system": ({"messages": [{"role": "system", "content": ""}, USER, ASSISTANT]}, [("Q", "A")]),
    "conversations": (
        {"conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"}, GPT]},
        [("S",), ("Q", "A")],
    ),
    "conversations of roles": ({"conversations": [USER, ASSISTANT]}, [("Q", "A")]),
    "list of from and value": ([{"from": "user", "value": "Q"}, GPT], [("Q", "A")]),
    "input of blanks": ({"instruction": "翻译", "input": " \n", "output": "A"}, [("翻译", "A")]),
    "the answer that is there": ({"instruction": "Q", "output": "", "response": "A"}, [("Q", "A")]),
    "the same answer twice": ({"instruction": "Q", "output": "A", "response": "A "}, [("Q", "A")]),
    "Firefly": ({"kind": "NLI", "input": "Q", "target": "A"}, [("Q", "A")]),
    "prompt": ({"prompt": "Q", "completion": "A"}, [("Q", "A")]),
    "prompt and input": ({"prompt": "P", "input": "Q", "response": "A"}, [("P\nQ", "A")]),
    "system field": ({"system": "S", "instruction": "Q", "output": "A"}, [("S",), ("Q", "A")]),
    "system field before history": (
        {"system": "S", "instruction": "Q", "output": "A", "history": [["Q0", "A0"]]},
        [("S",), ("Q0", "A0"), ("Q", "A")],
    ),
    "system field beside conversations": ({"system": "S", "conversations": [USER, ASSISTANT]}, [("S",), ("Q", "A")]),
    "TRL's lists": ({"prompt": [USER], "completion": [ASSISTANT]}, [("Q", "A")]),
    "TRL's lists of turns": (
        {"prompt": [{"role": "system", "content": "S"}, USER, ASSISTANT, USER], "completion": [ASSISTANT]},
        [("S",), ("Q", "A"), ("Q", "A")],
    ),
    "minimind": ({"q": "Q", "a": "A", "history": []}, [("Q", "A")]),
    "BELLE's evaluation": ({"question": "Q", "std_answer": "A", "class": "qa"}, [("Q", "A")]),
    "input is NaN": ('{"instruction": "I", "input": NaN, "output": "A"}', [("I", "A")]),
    "statutes": ({"query": "Q", "laws": ["第一条"], "response": "A"}, [("Q", "A")]),
    "a consultation": (
        {"query": "Q", "laws": [], "history": ["[客户] Q", "[律师] A", "[客户] Q", "[律师] A"]},
        [("Q", "A"), ("Q", "A")],
    ),
    "columns of other rows": (
        {"messages": None, "chat": None, "system": None, "instruction": "Q", "output": "A"},
        [("Q", "A")],
    ),
}


def messages(*turns: tuple[str, ...]) -> tuple[Message, ...]:
    """Questions and answers as messages; a text alone is the system's."""
    roles = {1: ("system",), 2: ("user", "assistant")}
    return tuple(Message(role, text) for turn in turns for role, text in zip(roles[len(turn)], turn, strict=True))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_shapes_of_a_line(write, shape: str, name: str) -> None:
    row, turns = SHAPES[shape]
    (conversation,) = read_conversations(write(row, name=name))
    assert conversation.messages == messages(*turns)


ROWS = [{"instruction": f"把数字 {n} 写成汉字", "input": "", "output": f"答案是第{n}个"} for n in range(200)]
MESSAGES = [{"messages": [USER | {"content": f"Q{n}"}, ASSISTANT]} for n in range(9)]


ROLE_PLAY = [{"role": "a doctor", "instruction": "Q", "output": "A"}] * 2


@pytest.mark.parametrize("rows", [ROWS, MESSAGES, [row["messages"] for row in MESSAGES], ROLE_PLAY])
@pytest.mark.parametrize("layout", ["one line", "indented", "a row a line", "gzip", "byte order mark, blank lines"])
def test_an_array_is_its_rows(tmp_path: Path, write, rows: list[Any], layout: str) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = {
        "one line": json.dumps(rows, ensure_ascii=False),
        "a row a line": "[" + ",\n".join(lines) + "]",
        "byte order mark, blank lines": "\ufeff[\n\n" + ",\n\n".join(lines) + "\n]\n",
    }.get(layout, json.dumps(rows, ensure_ascii=False, indent=2))
    path = write(text, name="rows.json.gz" if layout == "gzip" else "rows.json")
    found = list(read_conversations(path))
    one_a_line = list(read_conversations(write(*rows)))
    assert [(one.id, one.messages, one.lang) for one in found] == [
        (one.id, one.messages, one.lang) for one in one_a_line
    ]
    assert len(found) == len(rows)


def test_one_conversation_over_many_lines(write) -> None:
    (conversation,) = read_conversations(write(json.dumps([USER, ASSISTANT], indent=1)))
    assert conversation.messages == messages(("Q", "A"))


def test_a_bad_row_of_an_array_is_named(write) -> None:
    rows = [*ROWS[:16], {"instruction": "Q"}, ROWS[17]]
    for text, where in ((json.dumps(rows), r"line 1, row 17"), (json.dumps(rows, indent=1), "row 17")):
        path = write(text)
        with pytest.raises(ValueError, match=rf"some\.jsonl, {where}: no answer"):
            list(read_conversations(path))
        skipped = Counter[str]()
        assert len(list(read_conversations(path, on_bad="skip", skipped=skipped))) == 17
        assert skipped == {"no answer": 1}


def test_a_damaged_array_is_reported_with_its_line(write) -> None:
    text = json.dumps(ROWS, indent=1)
    cut = write(text[:5000])
    for on_bad in ("error", "skip"):
        with pytest.raises(ValueError, match=r"some\.jsonl, line \d+: wrong JSON at column \d+ .* in an array"):
            list(read_conversations(cut, on_bad=on_bad))
    lines = json.dumps([{"instruction": "Q", "output": "A"}] * 5, indent=1).splitlines()
    lines[7] = '"instruction" "Q",'
    with pytest.raises(ValueError, match=r"some\.jsonl, line 9: wrong JSON at column 15"):
        list(read_conversations(write("\n" + "\n".join(lines))))


@pytest.mark.parametrize(
    ("fields", "score"),
    [
        ({"score": 4}, 4.0),
        ({"metadata": {"score": 2.5}, "score": 4}, 2.5),
        ({"metadata": "a text", "score": 4}, 4.0),
        ({"metadata": {"score": "5"}}, None),
        ({"score": True}, None),
        ({"score": 10**400}, None),
        ({"score": math.nan}, None),
        ({}, None),
    ],
)
def test_the_score_of_a_record_is_that_of_its_conversations(write, fields: dict[str, Any], score: float | None) -> None:
    pair = {"en_instruction": "Q", "en_output": "A", "zh_instruction": "问", "zh_output": "答"}
    read = list(read_conversations(write({"instruction": "Q", "output": "A", **fields}, {**pair, **fields})))
    assert [one.metadata.get("score") for one in read] == [score] * 3


def test_ids(write) -> None:
    named, same, again, other = read_conversations(
        write(
            {"id": "x", "input": "Q", "output": "A"},
            {"input": "Q", "output": "A"},
            {"input": "Q", "output": "B"},
            {"input": "R", "output": "A"},
        )
    )
    assert named.id == "x"
    assert same.id == again.id, "what has the same question falls on one side of a split"
    assert other.id != same.id


BAD: dict[str, tuple[Any, str, str]] = {
    "wrong JSON": ('{"input": "Q", "output"', "wrong JSON", r"wrong JSON at column 24"),
    "a number": (3, "not an object", r"a JSON int where an object of turns was expected"),
    "an empty list": ([], "not an object", r"a JSON list where an object of turns was expected"),
    "no question": (
        {"ask": "Q", "output": "A"},
        "no question",
        r"no question \(`instruction`, `prompt`, .*`input`\); its f",
    ),
    "no answer": (
        {"input": "Q", "reply": "A"},
        "no answer",
        r"no answer \(`output`, .*\); its fields: in",
    ),
    "empty answer": ({"input": "Q", "output": " \n"}, "empty text", r"`output` is empty; remove the line"),
    "answer is a list": ({"input": "Q", "output": ["A"]}, "text not a string", r"`output` is a list, not a string"),
    "history as strings": (
        {"input": "Q", "output": "A", "history": ["Q0", "A0"]},
        "history not pairs",
        r"`history` must be a list of pairs",
    ),
    "empty history turn": (
        {"input": "Q", "output": "A", "history": [["Q0", ""]]},
        "empty text",
        r"`history\[0\]\[1\]` is empty",
    ),
    "messages is an object": ({"messages": {}}, "messages not a list", r"`messages` must be a list of objects"),
    "no messages": ({"messages": []}, "no assistant", r"no turn of the role 'assistant'"),
    "no assistant": ({"messages": [USER]}, "no assistant", r"no turn of the role 'assistant'"),
    "assistant first": (
        {"messages": [ASSISTANT, USER]},
        "roles out of order",
        r"`messages\[0\]\.role` is 'assistant' where 'user' was expected: user and assistant take turns",
    ),
    "two questions": (
        {"messages": [{"role": "system", "content": "S"}, USER, USER, ASSISTANT]},
        "roles out of order",
        r"`messages\[2\]\.role` is 'user' where 'assistant' was expected",
    ),
    "a late system": (
        {"messages": [USER, ASSISTANT, {"role": "system", "content": "S"}]},
        "roles out of order",
        r"`messages\[2\]\.role` is 'system'",
    ),
    "a last question": ({"messages": [USER, ASSISTANT, USER]}, "no answer", r"a question without an answer"),
    "a speaker nobody knows": (
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "narrator", "value": "A"}]},
        "roles out of order",
        r"`conversations\[1\]\.from` is 'narrator' where 'assistant' was expected",
    ),
    "a tool": (
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "function_call", "value": "A"}]},
        "tool turn",
        r"`conversations\[1\]\.from`: a turn of a tool \(function_call\)",
    ),
    "a call of a tool": (
        {"messages": [USER, ASSISTANT | {"tool_calls": [{"function": {"name": "sum"}}]}]},
        "tool turn",
        r"`messages\[1\]\.tool_calls`: a turn of a tool",
    ),
    "MOSS with a tool": (
        {"chat": {"turn_1": {"Human": "Q", "Commands": '<|Commands|>: Search("x")<eoc>\n', "MOSS": "A"}}},
        "tool turn",
        r"`chat\.turn_1\.Commands` calls a tool \(Search",
    ),
    "an answer that is NaN": ('{"input": "Q", "output": NaN}', "text is NaN", r"`output` is NaN, a missing value"),
    "a completion beside a list": (
        {"prompt": [USER], "completion": "A"},
        "messages not a list",
        r"`completion` is a str, and the other one a list",
    ),
    "no instances": ({"instruction": "Q", "instances": []}, "instances not a list", r"`instances` must be a list"),
    "an instance without answer": (
        {"instruction": "Q", "instances": [{"output": "A"}, {"input": "I"}]},
        "text not a string",
        r"`instances\[1\]\.output` is a NoneType",
    ),
    "half a pair": (
        {"en_instruction": "Q", "en_output": "A", "zh_instruction": "问", "zh_output": ""},
        "empty text",
        r"`zh_output` is empty",
    ),
    "a consultation of two clients": (
        {"query": "Q", "laws": [], "history": ["[客户] 问", "[客户] 答"]},
        "roles out of order",
        r"`history\[1\]` begins with '\[客户\]' where \[律师\] was expected",
    ),
    "laws as a text": ({"query": "Q", "laws": "L", "response": "A"}, "laws not texts", r"`laws` must be a list"),
    "labels of a set that nobody knows": (
        {"text": "好", "label": "1"},
        "labels of no known set",
        r"`text` and `label` are read in files of FinGPT's tweets alone",
    ),
    "an id that is a list": ({"id": [1], "input": "Q", "output": "A"}, "bad id", r"`id` is a list"),
    "two answers in turn": (
        {"messages": [USER, ASSISTANT, ASSISTANT]},
        "roles out of order",
        r"`messages\[2\]\.role` is 'assistant' where 'user' was expected",
    ),
    "a role that is a list": (
        {"messages": [{"role": ["user"], "content": "Q"}, ASSISTANT]},
        "roles out of order",
        r"`messages\[0\]\.role` is \['user'\]",
    ),
    "different answers": (
        {"instruction": "Q", "output": "A", "response": "B"},
        "several answers",
        r"`output` and `response` are different answers; keep one",
    ),
    "different questions": (
        {"instruction": "Q", "prompt": "P", "output": "A"},
        "several questions",
        r"`instruction` and `prompt` are different questions; keep one",
    ),
    "system is a list": (
        {"system": ["S"], "instruction": "Q", "output": "A"},
        "text not a string",
        r"`system` is a list, not a string",
    ),
    "a list of strings": (["Q", "A"], "not an object", r"a JSON list where an object of turns was expected"),
    "content is null": (
        {"messages": [USER, {"role": "assistant", "content": None}]},
        "text not a string",
        r"`messages\[1\]\.content` is a NoneType, not a string",
    ),
    "MOSS without turns": ({"chat": {}}, "chat without turns", r"`chat` must be an object of objects `turn_1`"),
    "MOSS with a gap": (
        {"chat": {"turn_1": {"Human": "Q", "MOSS": "A"}, "turn_3": {"Human": "Q", "MOSS": "A"}}},
        "chat without turns",
        r"`turn_1`, `turn_2`",
    ),
    "MOSS without answer": (
        {"chat": {"turn_1": {"Human": "Q", "MOSS": "<|MOSS|>: <eom>\n"}}},
        "empty text",
        r"`chat\.turn_1\.MOSS` is empty",
    ),
    "half a surrogate pair in the id": (
        r'{"id": "\ud800", "input": "Q", "output": "A"}',
        "broken Unicode",
        r"an escape \\ud800",
    ),
    "half a surrogate pair": (r'{"input": "\ud800", "output": "A"}', "broken Unicode", r"an escape \\ud800"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_lines_raise_or_are_counted(write, case: str) -> None:
    row, kind, message = BAD[case]
    path = write({"input": "Q", "output": "A"}, row)
    with pytest.raises(ValueError, match=rf"some\.jsonl, line 2: .*{message}"):
        list(read_conversations(path))
    skipped = Counter[str]()
    assert len(list(read_conversations(path, on_bad="skip", skipped=skipped))) == 1
    assert skipped == {kind: 1}


def test_files_without_a_conversation(write) -> None:
    with pytest.raises(ValueError, match=r"some\.jsonl holds no conversation: the file is empty; it needs lines such"):
        list(read_conversations(write()))
    with pytest.raises(ValueError, match=r"every line was left out \(2 x no question\)"):
        list(read_conversations(write({"a": 1}, {"b": 2}), on_bad="skip"))
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere\.jsonl"):
        list(read_conversations(Path("nowhere.jsonl")))


def test_a_cut_off_file(write) -> None:
    path = write(*[{"input": str(i), "output": "A" * 50} for i in range(500)], name="cut.jsonl.gz")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"cut\.jsonl\.gz is cut off: the gzip file ends after line \d+"):
        list(read_conversations(path))
