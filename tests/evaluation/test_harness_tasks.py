import json
import math
from pathlib import Path
from typing import Any

import pytest

from mindllm_jax.evaluation.harness import index
from mindllm_jax.evaluation.harness.model import harness_model
from mindllm_jax.evaluation.harness.tasks import fit_generation, load_tasks, tasks_of
from mindllm_jax.evaluation.likelihood import Query, likelihoods
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer

pytest.importorskip("lm_eval", reason="lm-eval (the extra `eval`) is not installed")

pytestmark = pytest.mark.long
ITEM = {
    "id": "laws-1#0",
    "context": "第一条　公民的合法权益",
    "choices": ["受法律保护。", "不得侵犯。", "天下大势。", "分久必合，合久必分。"],
    "answer": 1,
}
MMLU = {"question": "1 + 1?", "subject": "anatomy", "choices": ["1", "2", "3", "4"], "answer": 1}


def items(count: int) -> list[dict]:
    starts = ["第一条　公民的", "却说", "任何人\n", "The river was "]
    return [ITEM | {"id": str(n), "context": starts[n % 4] + str(n), "answer": n % 4} for n in range(count)]


def write(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def continuation(data: Path, rows: list[Any]) -> Any:
    """The Chinese continuation task on these items."""
    write(data / "mindllm/continuation/zh/test.jsonl", rows)
    return load_tasks(["continuation_zh"], data=str(data))["continuation_zh"]


def measured(task: Any, decoder: Decoder, tokenizer: Tokenizer) -> dict[str, Any]:
    from lm_eval.evaluator import evaluate

    model: Any = harness_model(decoder, tokenizer)
    result: Any = evaluate(model, {"tasks": {task.task_name: task}}, log_samples=False)
    return result["results"][task.task_name]


def test_the_continuation_task_scores_by_likelihoods(decoder: Decoder, tokenizer: Tokenizer, tmp_path: Path) -> None:
    # No piece of the tokenizer reaches over these borders, so that encoding together or apart is the same.
    rows = [row | {"context": row["context"].rstrip() + "。"} for row in items(13)]
    result = measured(continuation(tmp_path, rows), decoder, tokenizer)

    hits, hits_by_gain = [], []
    for row in rows:
        context = [tokenizer.doc_id, *tokenizer.encode(row["context"])]
        queries = [Query(context, tokenizer.encode(choice).tolist()) for choice in row["choices"]]
        logs = [answer.log for answer in likelihoods(decoder, queries)]
        hits.append(logs.index(max(logs)) == row["answer"])
        alone = [Query([tokenizer.doc_id], tokenizer.encode(choice).tolist()) for choice in row["choices"]]
        gains = [log - answer.log for log, answer in zip(logs, likelihoods(decoder, alone), strict=True)]
        hits_by_gain.append(gains.index(max(gains)) == row["answer"])
    accuracy, by_gain = sum(hits) / 13, sum(hits_by_gain) / 13
    assert result["acc_mutual_info,none"] == pytest.approx(by_gain)
    assert 0 < accuracy < 1 and accuracy != by_gain
    assert result["acc,none"] == pytest.approx(accuracy)
    assert result["acc_stderr,none"] == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / 12))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("continuation_cz", r"Evaluate\.tasks: there is no task 'continuation_cz'; did you mean 'continuat"),
        ("piqaa", r"Evaluate\.tasks: there is no task 'piqaa'; did you mean 'piqa'"),
        ("cmmlu_virology_cloze", r"no task 'cmmlu_virology_cloze'; the cloze form runs with 'cmmlu_virology'"),
    ],
)
def test_an_unknown_task_is_reported(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_tasks([name], data=None)


def test_tasks_of_the_harness_are_found_but_not_fetched() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"'piqa' are not on this machine.*--gin.Evaluate.download=True fetches"
    ):
        load_tasks(["piqa"], data=None)
    with pytest.raises(ValueError, match="the data of task 'continuation_zh' are local files: set Evaluate"):
        load_tasks(["continuation_zh"], data=None)


def test_a_missing_split_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Evaluate\.data = .*absent: there is no such folder"):
        load_tasks(["piqa"], data=str(tmp_path / "absent"))
    with pytest.raises(
        FileNotFoundError, match=r"'piqa' scores the split validation: there is no file .*baber/piqa/def"
    ):
        load_tasks(["piqa"], data=str(tmp_path))
    write(tmp_path / "baber/piqa/default/validation.jsonl", [{"goal": "a", "sol1": "b", "sol2": "c", "label": 1}])
    assert len(load_tasks(["piqa"], data=str(tmp_path))["piqa"].eval_docs) == 1  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(
        FileNotFoundError, match=r"takes 2 few-shot examples from the split train: .*default/train.jsonl"
    ):
        load_tasks(["piqa"], data=str(tmp_path), shots={"piqa": 2})


def test_a_group_keeps_its_members_and_their_prompts(tmp_path: Path) -> None:
    """All 19 subjects of MMLU's STEM part; the data's location is all that differs from the harness's definition."""
    from lm_eval.tasks import TaskManager

    library = TaskManager(include_path=str(next(iter(index._folders()["mmlu"]))), include_defaults=False)
    subjects = sorted(library.task_index["mmlu_stem_tasks"].tags)
    for subject in subjects:
        for split, count in (("dev", 5), ("test", 2)):
            rows = [MMLU | {"question": f"{split} {n}?"} for n in range(count)]
            write(tmp_path / f"cais/mmlu/{subject.removeprefix('mmlu_')}/{split}.jsonl", rows)
    group: Any = load_tasks(["mmlu_stem"], data=str(tmp_path), shots={"mmlu_stem": 2, "mmlu_anatomy": 0})["mmlu_stem"]
    tasks = {task.task_name: task for task in tasks_of(group)}
    assert sorted(tasks) == subjects and group.aggregate_metric_list[0].weight_by_size
    assert tasks["mmlu_astronomy"].config.num_fewshot == 2 and tasks["mmlu_anatomy"].config.num_fewshot == 0
    task = tasks["mmlu_astronomy"]
    options = "\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
    assert task.fewshot_context(task.eval_docs[1], 2) == (
        "The following are multiple choice questions (with answers) about astronomy.\n\n"
        f"dev 0?{options} B\n\ndev 1?{options} B\n\ntest 1?{options}"
    )
    assert (task.DATASET_PATH, task.DATASET_NAME) == ("cais/mmlu", "astronomy")


def test_shots_of_a_task_that_is_not_loaded_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Evaluate\.shots: 'continuation_en' is none of the tasks; did you mean"):
        load_tasks(["continuation_zh"], data=str(tmp_path), shots={"continuation_en": 1})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"context": "a", "choices": ["b"', "line 2: wrong JSON at column"),
        (b"\xff\xfe", "line 2: not UTF-8"),
        ("[]", "line 2: a JSON list where the object of an item was expected"),
        (r'{"id": "", "context": "\ud800", "choices": ["a"], "answer": 0}', r"line 2: an escape \\ud800"),
        ('{"context": "a"}', "line 2: no field 'id', 'choices', 'answer', which the first item has"),
        (json.dumps(ITEM | {"context": None}), "line 2: `context` is None, not a text"),
        (json.dumps(ITEM | {"choices": "abcd"}), "line 2: `choices` is a JSON str, in the first item a JSON list"),
        (json.dumps(ITEM | {"choices": ["a", ""]}), "line 2: the choices are not a list of texts"),
        (
            json.dumps(ITEM | {"choices": ["a", 1]}),
            r"line 2: `choices\[1\]` is a JSON int, in the first item",
        ),
        (json.dumps(ITEM | {"choices": [["a"], "b"]}), r"line 2: `choices\[0\]` is a JSON list, in the first item"),
        (json.dumps(ITEM | {"answer": 4}), "line 2: the answer 4 is none of the 4 choices"),
        (json.dumps(ITEM | {"answer": "1"}), "line 2: `answer` is a JSON str, in the first item a JSON int"),
        (json.dumps(ITEM | {"answer": True}), "line 2: `answer` is a JSON bool, in the first item a JSON int"),
    ],
)
def test_a_bad_item_is_reported_with_its_line(line: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mindllm/continuation/zh/test.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(json.dumps(ITEM).encode() + b"\n" + (line if isinstance(line, bytes) else line.encode()) + b"\n")
    with pytest.raises(ValueError, match=f"test.jsonl, {message}"):
        load_tasks(["continuation_zh"], data=str(tmp_path))


def test_values_that_no_table_holds_are_reported(tmp_path: Path) -> None:
    """In the first item itself, in objects, and where types alone do not tell it."""
    with pytest.raises(ValueError, match=r"test.jsonl, line 1: `choices\[1\]` is a JSON int"):
        continuation(tmp_path, [ITEM | {"choices": ["a", 1]}])
    rows = [ITEM | {"meta": {"source": source}} for source in ("a", ["a"])]
    with pytest.raises(ValueError, match=r"test.jsonl, line 2: `meta.source` is a JSON list, in the first item"):
        continuation(tmp_path, rows)
    with pytest.raises(ValueError, match=r"test.jsonl: its items do not fit together in one table: "):
        continuation(tmp_path, [ITEM | {"marks": marks} for marks in ([], [1], ["a"])])
    with pytest.raises(ValueError, match=r"test.jsonl: its items do not fit together in one table: "):
        continuation(tmp_path, [ITEM | {"answer": 2**64}])
    assert continuation(tmp_path, [ITEM | {"marks": [1, 0.5]}]).eval_docs[0]["marks"] == [1, 0.5]


def test_an_empty_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is empty: it holds no items"):
        continuation(tmp_path, [])


def test_an_empty_reference_is_reported(generating: str, tmp_path: Path) -> None:
    write(tmp_path / f"mindllm/{generating}/default/test.jsonl", [ITEM, ITEM | {"choices": [" "]}])
    with pytest.raises(ValueError, match="line 2: the answer is empty"):
        load_tasks([generating], data=str(tmp_path))


@pytest.mark.parametrize("split", ["test", "dev"])
def test_labels_outside_the_choices_of_a_template_are_reported(split: str, tmp_path: Path) -> None:
    """CMMLU's answer is a letter that a template looks up; an example with a wrong one would stand in every prompt."""
    row = {"Question": "1 + 1?", "A": "1", "B": "2", "C": "3", "D": "4", "Answer": "B"}
    for one in ("dev", "test"):
        rows = [row, row | {"Answer": "E"}] if one == split else [row, row]
        write(tmp_path / f"haonan-li/cmmlu/agronomy/{one}.jsonl", rows)
    with pytest.raises(ValueError, match=rf"{split}.jsonl, line 2: it does not fit the task \(ValueError: 'E'"):
        load_tasks(["cmmlu_agronomy"], data=str(tmp_path), shots={"cmmlu_agronomy": 2})


def test_more_shots_than_examples_are_reported(tmp_path: Path) -> None:
    row = {"Question": "1 + 1?", "A": "1", "B": "2", "C": "3", "D": "4", "Answer": "B"}
    for split in ("dev", "test"):
        write(tmp_path / f"haonan-li/cmmlu/agronomy/{split}.jsonl", [row, row])
    load_tasks(["cmmlu_agronomy"], data=str(tmp_path), shots={"cmmlu_agronomy": 2})
    with pytest.raises(
        ValueError, match=r"dev\.jsonl: task 'cmmlu_agronomy' takes 3 few-shot examples, and there are 2;"
    ):
        load_tasks(["cmmlu_agronomy"], data=str(tmp_path), shots={"cmmlu_agronomy": 3})


def test_generation_is_held_against_the_positions(
    generating: str, decoder: Decoder, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    write(tmp_path / f"mindllm/{generating}/default/test.jsonl", items(3))

    def load() -> dict[str, Any]:
        return load_tasks([generating], data=str(tmp_path))

    with pytest.raises(
        ValueError,
        match=r"task 'gen_demo' generates up to max_gen_toks = 256 tokens, .* Model\.max_seq_len = 256; "
        r"set Evaluate\.max_gen_toks, for example to half of it",
    ):
        fit_generation(load(), 256)
    fit_generation(load(), 257)
    with pytest.raises(ValueError, match="generates up to max_gen_toks = 64 tokens"):
        fit_generation(load(), 64, max_gen_toks=64)
    tasks = load()
    fit_generation(tasks, 64, max_gen_toks=5)
    assert measured(tasks[generating], decoder, tokenizer)["sample_len"] == 3
    tasks[generating].set_config("generation_kwargs", {"num_beams": 4}, update=True)
    with pytest.raises(ValueError, match=r"task 'gen_demo': generation settings \['num_beams'\] are not supported"):
        fit_generation(tasks, 64)
