"""Records of a domain as conversations: templates, labels, statutes, the three set-ups, and bad records."""

import gzip
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mindllm_jax import configuration
from mindllm_jax.instruct.conversations import read_conversations
from mindllm_jax.instruct.domains.ask import AskRationales
from mindllm_jax.instruct.domains.prepare import PrepareInstructions, asked_records, prepare_instructions
from mindllm_jax.instruct.domains.rationale_rules import RULES
from mindllm_jax.instruct.domains.rationales import Rationales, write_rationales
from mindllm_jax.instruct.domains.records import filled

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("MINDLLM_RESEARCH_DATA", ROOT.parent / "shared/data")) / "sft"
SENTIMENTS = [
    ["补仓补的心力憔悴", 0],
    ["钼已成粥", 1],
    ["封板了，可以下周一再出", 2],
    ["今天入住，第一次拥抱抱团股", 2],
]


@pytest.fixture
def config(write, tmp_path: Path) -> PrepareInstructions:
    return PrepareInstructions(
        inputs=(str(write(*SENTIMENTS, name="finfe.jsonl")),),
        output=str(tmp_path / "out"),
        name="sentiment",
        question="情绪？{0}",
        answer="{1}",
        labels={"0": "消极", "1": "中性", "2": "积极"},
        rationales=str(tmp_path / "rationales.jsonl"),
    )


def with_rationales(config: PrepareInstructions, setup: Any) -> PrepareInstructions:
    counts = write_rationales(Rationales(by="clause"), Path(config.rationales), asked_records(config, Counter()))
    assert counts == {"by the rule": len(SENTIMENTS)}
    return replace(config, setup=setup)


def written(config: PrepareInstructions, name: str = "sentiment") -> list[list[str]]:
    """The texts of the messages, as tuning reads them."""
    path = Path(config.output) / f"{name}.jsonl.gz"
    return [[message.content for message in one.messages] for one in read_conversations(path)]


def test_labels_alone(config: PrepareInstructions) -> None:
    table = prepare_instructions(config)
    assert table.rows == [("sentiment", 4, 3)]
    assert written(config)[:2] == [["情绪？补仓补的心力憔悴", "消极"], ["情绪？钼已成粥", "中性"]]


def test_a_chain_of_thought_ends_with_the_label(config: PrepareInstructions) -> None:
    config = with_rationales(config, "chain_of_thought")
    prepare_instructions(config)
    question, answer = written(config)[2]
    assert question == "情绪？封板了，可以下周一再出\n请先说明理由，再给出答案。"
    assert answer == "可以下周一再出\n答案：积极"


def test_auxiliary_is_two_datasets_of_the_same_records(config: PrepareInstructions) -> None:
    config = with_rationales(config, "auxiliary")
    assert prepare_instructions(config).rows == [("sentiment", 4, 3), ("sentiment_rationale", 4, 4)]
    labels, rationales = written(config), written(config, "sentiment_rationale")
    assert [answer for _, answer in labels] == ["消极", "中性", "积极", "积极"]
    assert rationales[0] == ["情绪？补仓补的心力憔悴\n请只说明理由，不给出答案。", "补仓补的心力憔悴"]


def test_records_with_one_question_have_one_id(write, config: PrepareInstructions) -> None:
    """So that a split by ids has them on one side: posts have been labelled twice."""
    twice = replace(config, inputs=(str(write(["涨", 0], ["涨", 2], ["跌", 0], name="twice.jsonl")),))
    prepare_instructions(twice)
    ids = [one.id for one in read_conversations(Path(config.output) / "sentiment.jsonl.gz")]
    assert len(ids) == 3 and ids[0] == ids[1] != ids[2]

    # Another order or a repetition of fields changes nothing.
    prepare_instructions(replace(twice, question="{0} {0}"))
    assert [one.id for one in read_conversations(Path(config.output) / "sentiment.jsonl.gz")] == ids
    # Another wording asks for the same records: `Labels` compares runs by their ids.
    prepare_instructions(replace(twice, question="{0}\n请先说明理由，再给出答案。"))
    assert [one.id for one in read_conversations(Path(config.output) / "sentiment.jsonl.gz")] == ids


@pytest.mark.parametrize("setup", ["label", "auxiliary", "chain_of_thought"])
def test_questions_that_are_scored_are_left_out_of_every_set_up(write, config: PrepareInstructions, setup: Any) -> None:
    """Whatever stands behind the question, and whatever its label is in the other file."""
    if setup != "label":
        config = with_rationales(config, setup)
    scored = write([SENTIMENTS[1][0], 0], name="eval.jsonl")
    table = prepare_instructions(replace(config, exclude=(str(scored),)))
    assert {count for _, count, _ in table.rows} == {3}
    assert "1 left out: its question is in PrepareInstructions.exclude" in table.caption
    assert not any(SENTIMENTS[1][0] in question for question, _ in written(config))


def test_records_to_exclude_need_no_answer_and_no_statutes(write, config: PrepareInstructions) -> None:
    rows = [{"q": f"Q{i}", "a": "A", "laws": [f"law {i}"]} for i in range(4)]
    scored = write({"q": "Q0"}, {"q": "Q1", "a": "other", "laws": ["another"]}, {"text": "Q2"}, name="scored.jsonl")
    law = replace(
        config, inputs=(str(write(*rows)),), exclude=(str(scored),), question="{q}", answer="{a}", context="{laws}",
        labels={"A": "A"}, on_bad="skip",
    )  # fmt: skip
    caption = prepare_instructions(law).caption
    assert "2 left out: its question is in PrepareInstructions.exclude" in caption
    assert "1 left out: record of PrepareInstructions.exclude, not compared (field missing)" in caption
    assert [question for question, _ in written(law)] == ["law 2\n\nQ2", "law 3\n\nQ3"]
    with pytest.raises(ValueError, match=r"there is no field `q`"):
        prepare_instructions(replace(law, on_bad="error"))
    write({"text": "Q2"}, name="scored.jsonl")
    with pytest.raises(
        ValueError, match=r"PrepareInstructions\.exclude: no record of .*scored\.jsonl has the fields of"
    ):
        prepare_instructions(law)


def test_a_record_without_a_rationale_is_left_out_and_counted(config: PrepareInstructions) -> None:
    config = with_rationales(config, "chain_of_thought")
    path = Path(config.rationales)
    kept = path.read_text("utf-8").splitlines(keepends=True)
    assert all(json.loads(line)["from"] == RULES["clause"].origin for line in kept)
    path.write_text("".join(kept[1:]), "utf-8")
    assert prepare_instructions(config).caption == "1 left out: no rationale; 3 rationales by rule: longest clause"
    assert len(written(config)) == 3
    path.write_text("".join([*kept, "{\n", *kept]), "utf-8")
    with pytest.raises(ValueError, match=r"rationales\.jsonl, line 5: wrong JSON .*; remove the line"):
        prepare_instructions(config)


def test_a_rationale_of_another_answer_is_left_out_and_counted(config: PrepareInstructions) -> None:
    """As of labels that were spelt wrong when it was asked for."""
    config = replace(with_rationales(config, "chain_of_thought"), labels={"0": "积极", "1": "中性", "2": "消极"})
    assert prepare_instructions(config).caption.startswith(
        "3 left out: its rationale is of another answer; 1 rationales"
    )
    assert [answer for _, answer in written(config)] == ["钼已成粥\n答案：中性"]

    path = Path(config.rationales)  # lines of an older version do not say which answer they are of
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    path.write_text("".join(json.dumps({**row, "answer": None}) + "\n" for row in rows))
    assert len(prepare_instructions(config).rows) == 1 and len(written(config)) == len(rows)


def test_rationales_of_an_earlier_set_up_do_not_stay(config: PrepareInstructions) -> None:
    config = with_rationales(config, "auxiliary")
    prepare_instructions(config)
    prepare_instructions(replace(config, setup="label"))
    assert [path.name for path in Path(config.output).iterdir()] == ["sentiment.jsonl.gz"]


def test_statutes_stand_in_front_of_the_question_where_there_are_some(write, config: PrepareInstructions) -> None:
    rows = [
        {"query": "能离婚吗", "laws": ["第一条：可以。", "第二条：需要。"], "response": "可以。"},
        {"query": "能上诉吗", "laws": [], "response": "能。"},
    ]
    law = replace(
        config, inputs=(str(write(*rows)),), question="{query}", answer="{response}", labels={},
        context="相关法条：\n{laws}", system="你是律师。",
    )  # fmt: skip
    prepare_instructions(law)
    assert written(law) == [
        ["你是律师。", "相关法条：\n第一条：可以。\n第二条：需要。\n\n能离婚吗", "可以。"],
        ["你是律师。", "能上诉吗", "能。"],
    ]


BAD = {
    "unknown label": (["文", 7], "the answer '7' is none of 0, 1, 2"),
    "field empty": (["", 1], "the field `0` is empty"),
    "field missing": (["文"], r"there is no field `1`; it has 0"),
    "not a record": ("7", "a JSON int where an object or an array was expected"),
    "wrong JSON": ("[", "wrong JSON"),
    "broken Unicode": ('["\\ud800", 1]', "an escape .* without its other half"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_records(write, config: PrepareInstructions, kind: str) -> None:
    row, message = BAD[kind]
    bad = replace(config, inputs=(str(write(SENTIMENTS[0], row, SENTIMENTS[0])),))
    with pytest.raises(ValueError, match=message):
        prepare_instructions(bad)
    assert not Path(bad.output).exists()
    caption = prepare_instructions(replace(bad, on_bad="skip")).caption
    assert caption == "; ".join(sorted([f"1 left out: {kind}", "1 left out: duplicate"], key=lambda text: text[12:]))


def test_nan_fields_are_empty(write, config: PrepareInstructions) -> None:
    rows = ['["文", NaN]\n', ["字", "NaN"], SENTIMENTS[0]]
    bad = replace(config, inputs=(str(write(*rows)),), on_bad="skip")
    assert prepare_instructions(bad).caption == "2 left out: field empty"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": "no field"}, r"PrepareInstructions\.question = 'no field' has no field"),
        ({"answer": "{a"}, r"PrepareInstructions\.answer"),
        ({"answer": "{a} {a.b}"}, r"\{a\.b\} is no field"),
        ({"name": "a/b"}, r"PrepareInstructions\.name = 'a/b'"),
        ({"name": "a_rationale"}, r"names in '_rationale' are of rationales"),
        ({"remove": ("(",)}, r"PrepareInstructions\.remove: '\(' is not a regular expression"),
        ({"setup": "auxiliary", "rationales": ""}, r"needs PrepareInstructions\.rationales"),
    ],
)
def test_settings_that_are_refused(config: PrepareInstructions, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(config, **changes)
    with pytest.raises(ValueError, match=r"PrepareInstructions\.rationales is empty"):
        AskRationales(replace(config, rationales=""), Rationales(by="clause"))


def test_braces_of_a_text_are_no_fields() -> None:
    assert filled("{a}!", {"a": "{b} {", "b": "x"}) == "{b} {!"


def test_what_finance_is_scored_on_is_excluded_and_asked_as_it_is_tuned() -> None:
    def loaded(*words: str) -> PrepareInstructions:
        return configuration.load(PrepareInstructions, configuration.command_line("", list(words)))

    tuned = loaded("--gin", "configs/sft/finance.gin", "--gin.PrepareInstructions.setup=chain_of_thought")
    scored = loaded("--gin", "configs/sft/finance_thought_eval.gin")
    assert tuned.exclude == scored.inputs and not scored.exclude
    assert scored.question == filled(tuned.thought_question, {"asked": tuned.question})


RESEARCH = {
    "medicine": (("medical_tigerbot_zh.jsonl.gz",), (), 1900),
    "law": (("law_lawyer_llama_counsel_with_article_v2.jsonl.gz", "law_lawyer_llama_zixun_gpt4.jsonl.gz"), (), 1900),
    "finance": (("fin_cuge_finfe_train.jsonl.gz",), ("fin_cuge_finfe_eval.jsonl",), 4400),
}


@pytest.mark.parametrize("name", RESEARCH)
def test_research_data_by_the_gin_file_of_its_domain(name: str, tmp_path: Path) -> None:
    files, scored, least = RESEARCH[name]
    paths, excluded = (tuple(str(DATA / file) for file in some) for some in (files, scored))
    if not all(map(os.path.exists, (*paths, *excluded))):
        pytest.skip(f"{DATA} (MINDLLM_RESEARCH_DATA) does not hold {', '.join((*files, *scored))}")
    words = ["--gin", f"configs/sft/{name}.gin", f"--gin.PrepareInstructions.inputs={paths!r}"]
    words += [f"--gin.PrepareInstructions.exclude={excluded!r}", f"--gin.PrepareInstructions.output={tmp_path}"]
    config = configuration.load(PrepareInstructions, configuration.command_line("", words))
    ((_, conversations, _),) = prepare_instructions(config).rows
    assert conversations >= least
    text = gzip.decompress((tmp_path / f"{config.name}.jsonl.gz").read_bytes()).decode()
    assert "### Response" not in text and "### Instruction" not in text
    assert ("相关法条" in text) == (name == "law")
