"""Published files become items in the hub's schema; a wrong row raises an error with its line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from mindllm_jax.evaluation.benchmarks.agieval import render
from mindllm_jax.evaluation.benchmarks.convert import BENCHMARKS, PrepareBenchmarks, convert, notes, write
from mindllm_jax.evaluation.benchmarks.splits import Item

MMLU_ROW = '"What, then?",one,"two, or more",three,four,B\n'
CMMLU_HEADER = ",Question,A,B,C,D,Answer\n"


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def converted(source: Path, name: str, files: dict[str, str]) -> dict[str, list[Item]]:
    """The items of each split of a benchmark, by path, from its published files."""
    for file, content in files.items():
        path = source / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode()
        path.write_bytes(gzip.compress(data) if file.endswith(".gz") else data)
    (splits,) = convert(PrepareBenchmarks(str(source), (name,))).splits.values()
    return {split.path: list(split.items) for split in splits}


def test_mmlu(tmp_path: Path) -> None:
    files = {"dev/anatomy_dev.csv": MMLU_ROW, "val/anatomy_val.csv": MMLU_ROW, "test/anatomy_test.csv": MMLU_ROW * 2}
    found = converted(tmp_path, "mmlu", files)
    assert list(found) == [f"cais/mmlu/anatomy/{split}.jsonl" for split in ("dev", "validation", "test")]
    choices = ["one", "two, or more", "three", "four"]
    assert (
        found["cais/mmlu/anatomy/test.jsonl"]
        == [{"question": "What, then?", "subject": "anatomy", "choices": choices, "answer": 1}] * 2
    )


def test_chinese_examinations(tmp_path: Path) -> None:
    row = {"Question": "水？", "A": "甲", "B": "乙", "C": "丙", "D": "丁", "Answer": "C"}
    csv = f"{CMMLU_HEADER}0,水？,甲,乙,丙,丁,C\n"
    found = converted(tmp_path, "cmmlu", {"test/arts.csv": csv})
    assert found == {"haonan-li/cmmlu/arts/test.jsonl": [row]}
    assert converted(tmp_path, "financeiq", {"test/经济师.csv": csv}) == {"mindllm/financeiq/经济师/test.jsonl": [row]}
    files = {
        "dev/law_dev.csv": "id,question,A,B,C,D,answer,explanation\n0,水？,甲,乙,丙,丁,C,因为\n",
        "val/law_val.csv": "id,question,A,B,C,D,answer\n0,水？,甲,乙,丙,丁,C\n",
        "test/law_test.csv": "id,question,A,B,C,D\n0,水？,甲,乙,丙,丁\n",
    }
    found = converted(tmp_path, "ceval", files)
    base = {"id": "0", "question": "水？", "A": "甲", "B": "乙", "C": "丙", "D": "丁", "answer": "C"}
    assert found == {
        "ceval/ceval-exam/law/dev.jsonl": [base | {"explanation": "因为"}],
        "ceval/ceval-exam/law/val.jsonl": [base | {"explanation": ""}],
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (MMLU_ROW.replace(",B", ",E"), r"anatomy_test.csv, line 2: the answer 'E' is none of A, B, C, D"),
        (MMLU_ROW.replace("three", " "), r"line 2: option C is empty"),
        (MMLU_ROW.replace(",four", ""), r"line 2: 5 cells, expected 6"),
        ('"What,', r"line 2: not CSV \(unexpected end of data\)"),
    ],
)
def test_a_malformed_row_is_reported_with_its_line(row: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        converted(tmp_path, "mmlu", {"test/anatomy_test.csv": MMLU_ROW + row})


def test_a_file_of_another_encoding_or_header_is_reported(tmp_path: Path) -> None:
    (tmp_path / "cmmlu/test").mkdir(parents=True)
    (tmp_path / "cmmlu/test/arts.csv").write_bytes(CMMLU_HEADER.encode() + "0,水利".encode("gb18030"))
    with pytest.raises(ValueError, match=r"arts.csv, line 2: not UTF-8; convert it"):
        convert(PrepareBenchmarks(str(tmp_path), ("cmmlu",)))
    for header in ("Question,A", ",Question,A,B,C,D"):
        with pytest.raises(ValueError, match=r"arts.csv, line 1: the header is \['.*'\], expected"):
            converted(tmp_path, "cmmlu", {"test/arts.csv": f"{header}\n"})


@pytest.mark.parametrize("value", [None, 7, " "])
def test_a_field_without_a_text_is_reported_with_its_line(value: Any, tmp_path: Path) -> None:
    row = {"question": "1 + 1?", "answer": "#### 2"}
    message = rf"test\.jsonl, line 2: the field 'answer' is {json.dumps(value)}, expected a text"
    with pytest.raises(ValueError, match=message):
        converted(tmp_path, "gsm8k", {"test.jsonl": lines(row, row | {"answer": value})})


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    row = {"goal": "Wash", "sol1": "water", "sol2": "sand"}
    found = converted(tmp_path, "piqa", {"valid.jsonl": lines(row, row), "valid-labels.lst": "0\r\n1\r\n"})
    assert [item["label"] for items in found.values() for item in items] == [0, 1]


def test_agieval_renders_the_prompts_of_the_hub() -> None:
    """An item of each wording, as `hails/agieval-gaokao-physics` and `hails/agieval-aqua-rat` have them."""
    options = ["(A)甲", "(B)乙", "(C)丙", "(D)丁"]
    row = {"passage": None, "question": "下列说法正确的是（ ）", "options": options, "label": "C"}
    assert render(row, "gaokao-physics") == {
        "query": "问题：下列说法正确的是（ ） 选项：(A)甲 (B)乙 (C)丙 (D)丁\n答案：从A到D, 我们应选择",
        "choices": options,
        "gold": [2],
    }
    row = {"passage": None, "question": "How far?", "options": ["(A)1", "(B)2", "(C)3", "(D)4", "(E)5"], "label": "A"}
    assert render(row, "aqua-rat")["query"] == (
        "Q: How far? Answer Choices: (A)1 (B)2 (C)3 (D)4 (E)5\nA: Among A through E, the answer is"
    )
    assert render(row | {"passage": "Text. "}, "lsat-rc")["query"].startswith("Text. Q: How far? Answer Choices: (A)1")
    cloze = {"passage": None, "question": "$a=$", "options": None, "label": None, "answer": "2"}
    assert render(cloze, "gaokao-mathcloze") == {"query": "问题：$a=$\n答案：", "answer": "2"}
    assert render(cloze, "math") == {"query": "Q: $a=$\nA: The answer is", "answer": "2"}


def test_agieval_reads_its_labels(tmp_path: Path) -> None:
    row = {"passage": None, "question": "哪些？", "options": ["(A)甲", "(B)乙", "(C)丙"], "answer": None}
    labels = ["A", "A C", ["A", "B", "。"], []]
    found = converted(tmp_path, "agieval", {"v1/jec-qa-kd.jsonl": lines(*(row | {"label": label} for label in labels))})
    (items,) = found.values()
    assert [item["gold"] for item in items] == [[0], [0, 2], [0, 1]]
    for backup in ("aqua-rat.jsonl~", "aqua-rat.jsonl.orig", "._aqua-rat.jsonl"):
        (tmp_path / "agieval/v1" / backup).write_text("x")
    (split,) = convert(PrepareBenchmarks(str(tmp_path), ("agieval",))).splits["agieval"]
    assert split.left_out == {"no label": 1}
    with pytest.raises(
        ValueError, match=r"jec-qa-ca.jsonl, line 1: the label 'D' names an option that is not among the"
    ):
        converted(tmp_path, "agieval", {"v1/jec-qa-ca.jsonl": lines(row | {"label": "D"})})


def test_mathematics(tmp_path: Path) -> None:
    row = {"question": "1 + 1?", "answer": "#### 2"}
    assert converted(tmp_path, "gsm8k", {"test.jsonl": lines(row)}) == {"openai/gsm8k/main/test.jsonl": [row]}
    problem = {"problem": "p", "level": "Level 5", "solution": r"\boxed{2}"}
    subjects = ["Algebra", "Counting & Probability", "Geometry", "Intermediate Algebra", "Number Theory", "Prealgebra"]
    rows = [problem | {"type": subject} for subject in [*subjects, "Precalculus"]]
    found = converted(tmp_path, "math", {"test.jsonl.gz": lines(*rows)})
    assert len(found) == 7
    path = "EleutherAI/hendrycks_math/counting_and_probability/test.jsonl"
    assert found[path] == [problem | {"type": "Counting & Probability"}]
    row = dict.fromkeys(("rationale", "annotated_formula", "linear_formula", "type"), "")
    row |= {"problem": "x?", "options": "a ) 1 , b ) 2 , c ) 3 , d ) 4 , e ) 5", "correct": "b"}
    (items,) = converted(tmp_path, "mathqa", {"test_1000.jsonl": lines(row, row | {"options": "a ) 1"})}).values()
    assert [(item["Problem"], item["correct"]) for item in items] == [("x?", "b")]


def test_common_sense(tmp_path: Path) -> None:
    endings = {"endings": ["a", "b", "c", "d"], "label": 2}
    rows = [
        {"ind": 0, "ctx": "A man sits on a roof. he"} | endings,
        {"ind": 1, "ctx": "[header] How to sew [title] Begin. Take"} | endings,
    ]
    (items,) = converted(tmp_path, "hellaswag", {"val_subset.jsonl": lines(*rows)}).values()
    assert [(item["ctx_a"], item["ctx_b"], item["label"]) for item in items] == [
        ("A man sits on a roof.", "he", "2"),
        ("[header] How to sew [title] Begin. Take", "", "2"),
    ]
    row = {"goal": "g", "sol1": "a", "sol2": "b"}
    files = {"valid.jsonl": lines(row, row), "valid-labels.lst": "0\n1\n"}
    (items,) = converted(tmp_path, "piqa", files).values()
    assert items == [row | {"label": 0}, row | {"label": 1}]
    with pytest.raises(ValueError, match=r"valid-labels.lst: 1 labels for 2 items of"):
        converted(tmp_path, "piqa", files | {"valid-labels.lst": "0\n"})
    row = {"sentence": "a _ b", "option1": "x", "option2": "y", "answer": "1"}
    assert list(converted(tmp_path, "winogrande", {"dev.jsonl": lines(row | {"qID": "0"})}).values()) == [[row]]


def test_logiqa(tmp_path: Path) -> None:
    """In English two characters are cut off each option, as on the hub; in Chinese options are put in order."""
    english = "\na\nOne.Two\nWhich?\nA.x\nB.y.z\nC.u\nD.v\n"
    chinese = "\nb\n35.某镇\n哪项？\nA．甲\nC. 丙\nB 乙\nD、丁\n"
    found = converted(tmp_path, "logiqa", {"Test.txt": english, "zh_test.txt": chinese})
    assert found == {
        "EleutherAI/logiqa/logiqa/test.jsonl": [
            {"label": "a", "context": "One. Two", "question": "Which?", "options": ["x", "y. z", "u", "v"]}
        ],
        "mindllm/logiqa_zh/default/test.jsonl": [
            {"label": "b", "context": "某镇", "question": "哪项？", "options": ["甲", "乙", "丙", "丁"]}
        ],
    }
    with pytest.raises(ValueError, match=r"Test.txt: 7 lines, expected eight per question"):
        converted(tmp_path, "logiqa", {"Test.txt": english[1:]})


def test_reading(tmp_path: Path) -> None:
    bbh = {"canary": "", "examples": [{"input": "not True is", "target": "False"}]}
    found = converted(tmp_path, "bbh", {"bbh/boolean_expressions.json": json.dumps(bbh)})
    assert found == {"SaylorTwift/bbh/boolean_expressions/test.jsonl": bbh["examples"]}
    row = {"QUESTION": "q?", "CONTEXTS": ["c"], "LABELS": [], "MESHES": [], "YEAR": "2011", "LONG_ANSWER": "l"}
    row |= {"reasoning_required_pred": "yes", "reasoning_free_pred": "yes", "final_decision": "maybe"}
    files = {"ori_pqal.json": json.dumps({"1": row, "2": row}), "test_ground_truth.json": '{"2": "maybe"}'}
    assert list(converted(tmp_path, "pubmedqa", files).values()) == [[row]]


def test_translation(tmp_path: Path) -> None:
    languages = ("eng_Latn", "zho_Hans", "zho_Hant")
    files = {f"{split}/{name}.{split}": f"{name} 1\n{name} 2\n" for split in ("dev", "devtest") for name in languages}
    found = converted(tmp_path, "flores200", files)
    assert found["mindllm/flores200/default/devtest.jsonl"][1] == {name: f"{name} 2" for name in languages}
    with pytest.raises(ValueError, match=r"zho_Hans.dev: 1 lines, but 2 in"):
        converted(tmp_path, "flores200", {"dev/zho_Hans.dev": "一\n"})


def test_law(tmp_path: Path) -> None:
    row = {"instruction": "i", "question": "q"}
    answers = ["刑期:4个月", "刑期:无期"]
    files = {"zero_shot/3-4.json": json.dumps([row | {"answer": answer} for answer in answers])}
    found = converted(tmp_path, "lawbench", files)
    assert found == {"mindllm/lawbench/3-4/test.jsonl": [{"task": "3-4", **row, "answer": answers[0]}]}


def test_an_example_does_not_stand_in_its_own_prompt(tmp_path: Path) -> None:
    """And as many of every other label are left out: the rarest label of the rest would tell the answer."""
    examples = [("ran", "No"), ("said", "Yes"), ("slept", "No"), ("wrote", "Yes")]
    files = {
        "hearsay/train.tsv": "index\tanswer\ttext\n" + "".join(f"{n}\t{a}\t{t}\n" for n, (t, a) in enumerate(examples)),
        "hearsay/base_prompt.txt": "Is it hearsay?\n\n"
        + "".join(f"Q: {text}?\nA: {answer}\n\n" for text, answer in examples)
        + "Q: {{text}}?\nA:",
    }
    items = converted(tmp_path, "legalbench", files)["mindllm/legalbench_train/default/test.jsonl"]
    assert items[1] == {
        "task": "hearsay",
        "query": "Is it hearsay?\n\nQ: slept?\nA: No\n\nQ: wrote?\nA: Yes\n\nQ: said?\nA:",
        "choices": ["No", "Yes"],
        "gold": 1,
    }
    shown = [[item["query"].count(f"A: {label}") for label in ("No", "Yes")] for item in items]
    assert shown == [[1, 1]] * 4
    uneven = {**files, "hearsay/train.tsv": files["hearsay/train.tsv"].replace("2\tNo", "2\tYes")}
    uneven["hearsay/base_prompt.txt"] = uneven["hearsay/base_prompt.txt"].replace("slept?\nA: No", "slept?\nA: Yes")
    assert list(converted(tmp_path / "uneven", "legalbench", uneven)) == ["nguha/legalbench/hearsay/train.jsonl"]


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        ("", ValueError, r"train\.tsv, line 1: no column 'answer'"),
        ("index\tanswer\ttext\n", FileNotFoundError, "holds none of the published files of legalbench"),
    ],
)
def test_legalbench_without_rows(tmp_path: Path, content: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        converted(tmp_path, "legalbench", {"rule_qa/train.tsv": content})


def test_finance(tmp_path: Path) -> None:
    files = {"fin_cuge_finfe_eval.jsonl": '["涨停", 2]\n', "fin_cuge_finfe_train.jsonl.gz": '["出货", 0]\n'}
    assert converted(tmp_path, "fincuge", files) == {
        "mindllm/finfe/default/train.jsonl": [{"text": "出货", "label": 0}],
        "mindllm/finfe/default/test.jsonl": [{"text": "涨停", "label": 2}],
    }
    posts = [["a", 1], ["b", 0], ["c", 1], ["d", 0], ["e", 1], ["f", 2], ["g", 2]]
    files = {"fin_cuge_finfe_train.jsonl.gz": "".join(json.dumps(post) + "\n" for post in posts)}
    train = converted(tmp_path, "fincuge", files)["mindllm/finfe/default/train.jsonl"]
    assert [post["label"] for post in train] == [0, 1, 2, 0, 1, 2, 1], "the examples have all labels"
    with pytest.raises(ValueError, match="line 1: the label 3 is none of 0, 1, 2"):
        converted(tmp_path, "fincuge", {"fin_cuge_finfe_eval.jsonl": '["涨停", 3]\n'})


def test_arithmetic_is_right() -> None:
    items = {split.name: split.items for split in BENCHMARKS["arithmetic"].read(Path())}
    assert len(items) == 10 and all(len(kind) == 2000 for kind in items.values())
    words = {"plus": "+", "minus": "-", "times": "*"}
    for item in (item for kind in items.values() for item in kind):
        problem = item["context"].removeprefix("Question: What is ").removesuffix("?\nAnswer:")
        for word, sign in words.items():
            problem = problem.replace(word, sign)
        assert item["completion"] == f" {eval(problem)}"
    assert items["2da"][0] == {"context": "Question: What is 62 plus 74?\nAnswer:", "completion": " 136"}


def noted(source: Path, name: str, files: dict[str, str]) -> list[str]:
    """What the manifest notes on this copy of a benchmark."""
    converted(source, name, files)
    write(convert(PrepareBenchmarks(str(source), (name,))), source / "data")
    manifest = json.loads((source / "data/manifest.json").read_text())
    return [note for note in manifest[name]["notes"] if note not in BENCHMARKS[name].notes]


def test_notes_are_true_of_the_copy(tmp_path: Path) -> None:
    """Sizes are counted, and a published subset is named where the copy has its size."""
    row = {"instruction": "i", "question": "q", "answer": "a"}
    first = "A zero-shot file of 100 items holds the first 100 of LawBench's 500."
    assert noted(tmp_path / "a", "lawbench", {"zero_shot/1-1.json": json.dumps([row] * 100)}) == [first]
    assert noted(tmp_path / "b", "lawbench", {"zero_shot/1-1.json": json.dumps([row] * 99)}) == []
    problem = {"problem": "p", "level": "Level 5", "solution": r"\boxed{2}", "type": "Algebra"}
    assert noted(tmp_path, "math", {"test.jsonl": lines(problem, problem)}) == ["2 of the 5,000 test problems."]
    ending = {"ind": 0, "ctx": "A man sits.", "endings": ["a", "b", "c", "d"], "label": 2}
    (count,) = noted(tmp_path, "hellaswag", {"val_subset.jsonl": lines(ending)})
    assert count == "1 of the 10,042 validation items."
    posts = {"fin_cuge_finfe_train.jsonl": '["a", 0]\n["b", 1]\n', "fin_cuge_finfe_eval.jsonl": '["a", 0]\n["c", 1]\n'}
    assert noted(tmp_path, "fincuge", posts) == ["1 of the 2 posts of eval stand in train as well."]
    choice = {"sentence": "a _ b", "option1": "x", "option2": "y", "answer": "1"}
    assert noted(tmp_path / "a", "winogrande", {"dev.jsonl": lines(choice)}) == []
    (rendered,) = noted(tmp_path / "b", "winogrande", {"dev.jsonl": lines(choice | {"qID": "llmf-dev-0"})})
    assert rendered.startswith("Reconstructed")


@pytest.mark.parametrize("end", ["", ".gz"])
def test_json_lines_may_be_plain_or_gzip(tmp_path: Path, end: str) -> None:
    """A subject of MATH without problems is no split."""
    sums = {"question": "1 + 1?", "answer": "#### 2"}
    found = converted(tmp_path, "gsm8k", {f"{split}.jsonl{end}": lines(sums) for split in ("train", "test")})
    assert [path.rpartition("/")[2] for path in found] == ["train.jsonl", "test.jsonl"]
    problem = {"problem": "p", "level": "Level 5", "solution": r"\boxed{2}", "type": "Algebra"}
    found = converted(tmp_path, "math", {f"test.jsonl{end}": lines(problem)})
    assert list(found) == ["EleutherAI/hendrycks_math/algebra/test.jsonl"]
    row = {"passage": None, "question": "q", "options": ["(A)x", "(B)y"], "label": "B", "answer": None}
    assert list(converted(tmp_path, "agieval", {f"v1/sat-en.jsonl{end}": lines(row)})) == [
        "hails/agieval-sat-en/default/test.jsonl"
    ]


def test_files_that_the_source_has_no_more_are_removed(tmp_path: Path) -> None:
    source, data = tmp_path / "source", tmp_path / "data"
    converted(source, "mmlu", {f"test/{subject}_test.csv": MMLU_ROW for subject in ("law", "art")})
    write(convert(PrepareBenchmarks(str(source), ("mmlu",))), data)
    (source / "mmlu/test/law_test.csv").unlink()
    write(convert(PrepareBenchmarks(str(source), ("mmlu",))), data)
    assert [path.parent.name for path in data.rglob("*.jsonl")] == ["art"]
    assert list(notes(data, ("cais/mmlu",))["cais/mmlu"]["files"]) == ["cais/mmlu/art/test.jsonl"]


def test_the_manifest_keeps_what_it_says_of_others(tmp_path: Path) -> None:
    source, data = tmp_path / "source", tmp_path / "data"
    row = {"question": "1 + 1?", "answer": "#### 2"}
    converted(source, "gsm8k", {"test.jsonl": lines(row)})
    converted(source, "mmlu", {"test/anatomy_test.csv": MMLU_ROW})
    for name in ("gsm8k", "mmlu"):
        write(convert(PrepareBenchmarks(str(source), (name,))), data)
    assert (data / "openai/gsm8k/main/test.jsonl").read_text() == lines(row)
    both = notes(data, ("openai/gsm8k", "cais/mmlu"))
    (entry,) = both["openai/gsm8k"]["files"].values()
    assert entry["items"] == 1 and len(entry["sources"]["gsm8k/test.jsonl"]) == 64
    assert both["cais/mmlu"] and notes(data, ("cai",)) == notes(tmp_path, ("cais/mmlu",)) == {}
