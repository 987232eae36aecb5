"""The suite of tasks that runs during training."""

import json
import math
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest
from flax import nnx

from mindllm_jax.evaluation.evaluate import Evaluate, evaluate
from mindllm_jax.evaluation.harness.index import leaves, task_manager
from mindllm_jax.evaluation.harness.model import harness_model
from mindllm_jax.evaluation.harness.run import run_task
from mindllm_jax.evaluation.harness.tasks import tasks_of
from mindllm_jax.evaluation.suite import load_suite, suite_items, suite_measurement, suite_metrics
from mindllm_jax.launch import train
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.load_run import load_decoder
from mindllm_jax.training.task_suite import TaskSuite

PRESET = Path(__file__).parents[2] / "configs/model/ladder_1m.gin"

pytest.importorskip("lm_eval", reason="lm-eval (the extra `eval`) is not installed")


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "mindllm/continuation/zh/test.jsonl"
    path.parent.mkdir(parents=True)
    texts = ("甲乙", "河。", "天下大势", "公民的")
    items = [
        {"id": str(n), "context": f"第{n}条，", "choices": [texts[(n + i) % 4] for i in range(4)], "answer": n % 3}
        for n in range(8)
    ]
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return str(tmp_path)


@pytest.mark.long
def test_a_measurement_is_that_of_an_evaluation(run: Path, decoder: Decoder, tokenizer: Tokenizer, data: str) -> None:
    """Each time the same, with other parameters another."""
    measure = suite_measurement(TaskSuite(("continuation_zh",), data, samples=5), tokenizer, 64)
    loaded = load_decoder(run).decoder
    found = measure(loaded)
    config = Evaluate(str(run), bits_per_byte=False, tasks=("continuation_zh",), data=data, samples=5)
    task = evaluate(config)["tasks"]["continuation_zh"]
    assert task["items"] == 5
    assert found["tasks/continuation_zh/bits_per_byte"] == pytest.approx(task["bits_per_byte"], rel=1e-6)
    assert {"acc", "probability"} < {name.rpartition("/")[2] for name in found} and "stderr" not in "".join(found)
    assert measure(loaded) == found != measure(decoder)


def test_names_choose_form_and_examples(run: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """The cloze form of a task that asks for letters, without and with examples, beside the letters."""
    fields = ("Question", "A", "B", "C", "D", "Answer")
    items = [dict(zip(fields, (f"问题{n}？", "甲", "乙", "丙", "丁", "ABCD"[n % 4]), strict=True)) for n in range(6)]
    for split in ("test", "dev"):
        path = tmp_path / f"haonan-li/cmmlu/anatomy/{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
    names = ("cmmlu_anatomy", "cmmlu_anatomy_cloze@0", "cmmlu_anatomy_cloze@2")
    suite = TaskSuite(names, str(tmp_path), {"cmmlu_anatomy": 1})
    tasks = load_suite(suite, 64)
    assert list(tasks) == list(names)
    assert [one.config.num_fewshot for task in tasks.values() for one in tasks_of(task)] == [1, 0, 2]
    cloze = load_suite(TaskSuite(names[1:], str(tmp_path)), 64)
    assert len(suite_items(cloze)) == 2 * 64 and suite_items(cloze) == suite_items(tasks)
    found = suite_measurement(suite, tokenizer, 64)(load_decoder(run).decoder)
    assert set(suite_metrics(tasks)) <= found.keys()
    assert found["tasks/cmmlu_anatomy_cloze@0/bits_per_byte"] != found["tasks/cmmlu_anatomy_cloze@2/bits_per_byte"]


def test_an_answer_that_is_scored_alone_has_bits(decoder: Decoder, tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "mindllm/arithmetic/2da/test.jsonl"
    path.parent.mkdir(parents=True)
    items = [{"context": f"Question: What is {n} plus 4?\nAnswer:", "completion": f" {n + 4}"} for n in (7, 95)]
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    suite = TaskSuite(("arithmetic_ours_2da",), str(tmp_path))
    tasks = load_suite(suite, 64)
    assert suite_metrics(tasks) == [f"tasks/arithmetic_ours_2da/{name}" for name in ("acc", "bits_per_byte")]
    model, samples = harness_model(decoder, tokenizer), {"arithmetic_ours_2da": [0, 1]}
    result = run_task("arithmetic_ours_2da", tasks["arithmetic_ours_2da"], model, samples=samples)
    logs = [record["filtered_resps"][0][0] for record in result.samples["arithmetic_ours_2da"]]
    assert result.chance is None and result.metrics["acc"] == 0
    assert result.metrics["bits_per_byte"] == pytest.approx(-(logs[0] / 3 + logs[1] / 3) / math.log(2) / 2, rel=1e-12)
    found = suite_measurement(suite, tokenizer, 64)(decoder)
    assert found["tasks/arithmetic_ours_2da/bits_per_byte"] == pytest.approx(result.metrics["bits_per_byte"], rel=1e-6)


def test_a_tag_keeps_a_task_whose_cloze_form_is_asked_for(tmp_path: Path) -> None:
    manager = task_manager(["mmlu_stem_tasks"], "TaskSuite")
    members = sorted(leaves("mmlu_stem_tasks", manager.task_index))
    for member in members:
        for split in ("test", "dev"):
            path = tmp_path / f"cais/mmlu/{member.removeprefix('mmlu_')}/{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            item = {"question": "1 + 1?", "subject": "anatomy", "choices": ["1", "2", "3", "4"], "answer": 1}
            path.write_text(json.dumps(item) + "\n")
    tasks = load_suite(TaskSuite(("mmlu_stem_tasks", f"{members[0]}_cloze"), str(tmp_path)), 64)
    assert sorted(tasks) == sorted([*members, f"{members[0]}_cloze"])
    alone = load_suite(TaskSuite((members[1], f"{members[0]}_cloze"), str(tmp_path)), 64)
    assert sorted(alone) == sorted([members[1], f"{members[0]}_cloze"])


def test_a_tag_has_the_tasks_of_all_folders(caplog: pytest.LogCaptureFixture) -> None:
    manager = task_manager(["math_word_problems"], "TaskSuite")
    members = {"gsm8k", "mathqa", "hendrycks_math_algebra", "minerva_math_algebra"}
    assert members <= set(leaves("math_word_problems", manager.task_index))
    assert not caplog.records


def test_a_model_that_is_not_finite_has_nan_in_all_metrics(decoder: Decoder, tokenizer: Tokenizer, data: str) -> None:
    """So that a training run goes on, and its resume does not end at the same evaluation."""
    suite = TaskSuite(("continuation_zh",), data, samples=2)
    broken = nnx.clone(decoder)
    broken.embedding[...] = jnp.full_like(broken.embedding[...], jnp.nan)
    found = suite_measurement(suite, tokenizer, 64)(broken)
    assert list(found) == suite_metrics(load_suite(suite, 64)) and all(map(math.isnan, found.values()))


def test_metrics_of_a_task_that_scores_something_else(tmp_path: Path) -> None:
    path = tmp_path / "truthfulqa/truthful_qa/multiple_choice/validation.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"question": "q?", "mc2_targets": {"choices": ["a", "b"], "labels": [1, 0]}}) + "\n")
    tasks = load_suite(TaskSuite(("truthfulqa_mc2",), str(tmp_path)), 512)
    assert suite_metrics(tasks) == ["tasks/truthfulqa_mc2/acc"]


def test_metrics_of_generating_tasks_have_their_filters(tmp_path: Path) -> None:
    for split in ("train", "test"):
        path = tmp_path / f"openai/gsm8k/main/{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"question": "1 + 1?", "answer": "#### 2"}) + "\n")
    tasks = load_suite(TaskSuite(("gsm8k@0",), str(tmp_path)), 1024)
    expected = ["tasks/gsm8k@0/exact_match,strict-match", "tasks/gsm8k@0/exact_match,flexible-extract"]
    assert suite_metrics(tasks) == expected


def test_bad_settings_raise_before_training(tokenizer: Tokenizer, data: str) -> None:
    with pytest.raises(ValueError, match=r"TaskSuite\.every = 0: must be at least 1"):
        TaskSuite(every=0)
    with pytest.raises(ValueError, match=r"TaskSuite\.tasks: there is no task 'continuation_xx'"):
        suite_measurement(TaskSuite(("continuation_xx",), data), tokenizer, 64)
    with pytest.raises(FileNotFoundError, match=r"continuation/en/test\.jsonl"):
        suite_measurement(TaskSuite(("continuation_en",), data), tokenizer, 64)
    with pytest.raises(ValueError, match=r"'continuation_zh_cloze': only tasks and groups that ask for letters"):
        suite_measurement(TaskSuite(("continuation_zh_cloze",), data), tokenizer, 64)
    for name in ("cmmlu@five", "@5", "cmmlu@"):
        with pytest.raises(ValueError, match=rf"TaskSuite\.tasks: '{name}': a task, @ and its examples"):
            TaskSuite((name,), data)
    with pytest.raises(ValueError, match=r"TaskSuite\.shots: all tasks name their examples"):
        suite_measurement(TaskSuite(("continuation_zh@0",), data, {"piqa": 1}), tokenizer, 64)
    with pytest.raises(ValueError, match=r"TaskSuite\.shots: 'piqa' is none of the tasks"):
        suite_measurement(TaskSuite(("continuation_zh",), data, {"piqa": 1}), tokenizer, 64)


def test_a_dry_run_checks_the_suite(
    data: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown task and missing data are reported before a machine is rented."""

    def dry_run(task: str, folder: str) -> None:
        suite = (f"--gin.TaskSuite.tasks=('{task}',)", f"--gin.TaskSuite.data='{folder}'")
        monkeypatch.setattr(sys, "argv", ["train.py", "--gin", str(PRESET), *suite, "--dry_run"])
        train.main()

    dry_run("continuation_zh", data)
    assert "parameters" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match=r"TaskSuite\.data = .*absent: there is no such folder"):
        dry_run("continuation_zh", f"{data}/absent")
    with pytest.raises(ValueError, match=r"TaskSuite\.tasks: there is no task 'continuation_xx'"):
        dry_run("continuation_xx", data)
