import json
import math
from pathlib import Path

import pytest

from mindllm_jax.evaluation.harness import tasks as harness_tasks
from mindllm_jax.evaluation.harness.run import run_task
from mindllm_jax.evaluation.harness.tasks import fit_generation, load_tasks
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


def items(count: int) -> list[dict]:
    starts = ["第一条　公民的", "却说", "任何人\n", "The river was "]
    return [ITEM | {"id": str(n), "context": starts[n % 4] + str(n), "answer": n % 4} for n in range(count)]


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_the_continuation_task_scores_by_likelihoods(decoder: Decoder, tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = items(13)
    tasks = load_tasks({"continuation_zh": write(tmp_path / "zh.jsonl", rows)})
    result = run_task("continuation_zh", tasks["continuation_zh"], decoder, tokenizer)

    hits, hits_by_gain = [], []
    for row in rows:
        stem = row["context"].rstrip()
        space = row["context"][len(stem) :]
        context = [tokenizer.doc_id, *tokenizer.encode(stem)]
        queries = [Query(context, tokenizer.encode(space + choice).tolist()) for choice in row["choices"]]
        logs = [answer.log for answer in likelihoods(decoder, queries)]
        hits.append(logs.index(max(logs)) == row["answer"])
        alone = [Query([tokenizer.doc_id], tokenizer.encode(choice).tolist()) for choice in row["choices"]]
        gains = [log - answer.log for log, answer in zip(logs, likelihoods(decoder, alone), strict=True)]
        hits_by_gain.append(gains.index(max(gains)) == row["answer"])
    accuracy, by_gain = sum(hits) / 13, sum(hits_by_gain) / 13
    assert result["acc_mutual_info"] == pytest.approx(by_gain)
    assert 0 < accuracy < 1 and accuracy != by_gain
    assert result["acc"] == pytest.approx(accuracy)
    assert result["acc_stderr"] == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / 12))
    assert result["chance"] == 0.25 and result["items"] == 13


def measured(file: str, decoder: Decoder, tokenizer: Tokenizer, limit: int | None = None) -> dict[str, float]:
    return run_task(
        "continuation_zh", load_tasks({"continuation_zh": file})["continuation_zh"], decoder, tokenizer, limit=limit
    )


def test_limit_takes_the_first_items(decoder: Decoder, tokenizer: Tokenizer, tmp_path: Path) -> None:
    limited = measured(write(tmp_path / "all.jsonl", items(9)), decoder, tokenizer, limit=5)
    assert limited == measured(write(tmp_path / "few.jsonl", items(5)), decoder, tokenizer)
    assert limited["items"] == 5


def test_too_long_items_are_counted(decoder: Decoder, tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [*items(2), ITEM | {"context": "天下大势，分久必合。" * 40}]
    assert measured(write(tmp_path / "zh.jsonl", rows), decoder, tokenizer)["cut_requests"] == 4


def test_an_unknown_task_is_reported() -> None:
    with pytest.raises(
        ValueError, match=r"Evaluate\.tasks: there is no task 'continuation_cz'; did you mean 'continuat"
    ):
        load_tasks({"continuation_cz": "x.jsonl"})


@pytest.mark.slow  # the harness looks through its own tasks
def test_tasks_of_the_harness_are_found_but_not_fetched() -> None:
    with pytest.raises(ValueError, match=r"Evaluate\.harness_tasks: there is no task 'piqaa'; did you mean 'piqa'"):
        load_tasks({}, ["piqaa"])
    with pytest.raises(FileNotFoundError, match=r"not on this machine.*--gin.Evaluate.download=True fetches them"):
        load_tasks({}, ["piqa"])


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*absent.jsonl"):
        load_tasks({"continuation_zh": str(tmp_path / "absent.jsonl")})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"context": "a", "choices": ["b"', "line 2: wrong JSON at column"),
        (b"\xff\xfe", "line 2: not UTF-8"),
        ("[]", "line 2: a JSON list where the object of an item was expected"),
        (r'{"context": "\ud800", "choices": ["a"], "answer": 0}', r"line 2: an escape \\ud800"),
        (json.dumps(ITEM | {"context": None}), "line 2: no `context`"),
        (json.dumps(ITEM | {"choices": "abcd"}), "line 2: `choices` is not a list of texts"),
        (json.dumps(ITEM | {"choices": ["a", ""]}), "line 2: `choices` is not a list of texts"),
        (json.dumps(ITEM | {"answer": 4}), "line 2: `answer` is not the number of a choice"),
        (json.dumps(ITEM | {"answer": "1"}), "line 2: `answer` is not the number of a choice"),
        (json.dumps(ITEM | {"answer": True}), "line 2: `answer` is not the number of a choice"),
    ],
)
def test_a_bad_item_is_reported_with_its_line(line: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes(json.dumps(ITEM).encode() + b"\n" + (line if isinstance(line, bytes) else line.encode()) + b"\n")
    with pytest.raises(ValueError, match=message):
        load_tasks({"continuation_zh": str(path)})


def test_an_empty_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").touch()
    with pytest.raises(ValueError, match="is empty: it holds no items"):
        load_tasks({"continuation_zh": str(tmp_path / "items.jsonl")})


def test_a_generating_task_may_have_any_fields(generating: str, tmp_path: Path) -> None:
    load_tasks({generating: write(tmp_path / "a.jsonl", [{"context": "a", "choices": "no list"}])})
    with pytest.raises(ValueError, match="line 1: a JSON int where the object of an item was expected"):
        load_tasks({generating: write(tmp_path / "b.jsonl", [3])})  # pyright: ignore[reportArgumentType]


def test_a_task_of_multiple_choices_names_its_fields(generating: str, tmp_path: Path) -> None:
    """As its YAML file says; nothing else has to be written."""
    fields = "doc_to_text: question\ndoc_to_choice: answers\ndoc_to_target: right\n"
    (harness_tasks.TASKS / "quiz.yaml").write_text(
        f"task: quiz\ndataset_path: json\ntest_split: test\noutput_type: multiple_choice\n{fields}"
    )
    load_tasks({"quiz": write(tmp_path / "a.jsonl", [{"question": "1 + 1?", "answers": ["2", "3"], "right": 0}])})
    with pytest.raises(ValueError, match="line 1: `right` is not the number of a choice"):
        load_tasks({"quiz": write(tmp_path / "b.jsonl", [{"question": "1 + 1?", "answers": ["2", "3"], "right": 2}])})


def test_generation_is_held_against_the_positions(
    generating: str, decoder: Decoder, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    def load() -> dict:
        return load_tasks({generating: write(tmp_path / "items.jsonl", items(3))})

    with pytest.raises(
        ValueError,
        match=r"task 'gen_demo' generates up to max_gen_toks = 256 tokens, .* Model\.max_seq_len = 256; "
        r"set Evaluate\.max_gen_toks, for example to 128",
    ):
        fit_generation(load(), 256)
    fit_generation(load(), 257)
    with pytest.raises(ValueError, match="generates up to max_gen_toks = 64 tokens"):
        fit_generation(load(), 64, max_gen_toks=64)
    tasks = load()
    fit_generation(tasks, 64, max_gen_toks=5)
    assert run_task(generating, tasks[generating], decoder, tokenizer)["items"] == 3
    tasks[generating].set_config("generation_kwargs", {"do_sample": True, "top_p": 0.9}, update=True)
    with pytest.raises(ValueError, match=r"task 'gen_demo': generation settings \['top_p'\] are not supported"):
        fit_generation(tasks, 64)
