"""Runs of tasks and groups with a model that answers as planted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mindllm_jax.evaluation.harness.cloze import with_cloze_forms, without_letters
from mindllm_jax.evaluation.harness.results import HarnessResults, sample_lines
from mindllm_jax.evaluation.harness.run import draw_samples, item_count, members, run_task
from mindllm_jax.evaluation.harness.tasks import load_tasks
from mindllm_jax.evaluation.protocol import Protocol

pytest.importorskip("lm_eval", reason="lm-eval (the extra `eval`) is not installed")
from lm_eval.api.model import LM

SUBJECTS = ("agronomy", "anatomy")
Likelihood = Callable[[str, str], float]


def planted(likelihood: Likelihood, *, protocol: Protocol = Protocol()) -> Any:  # noqa: B008  frozen
    """A model whose log-likelihood of a continuation is a function of context and continuation."""

    class Planted(LM):
        def __init__(self) -> None:
            super().__init__()
            self.protocol, self.cut, self.seam_differs = protocol, 0, 0

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            self.cut += 3
            self.seam_differs += 1
            return [(likelihood(*request.args), False) for request in requests]

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            raise NotImplementedError

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            return ["The answer is 5." for _ in requests]

    return Planted()


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def question(number: int, answer: str) -> dict[str, str]:
    return {"Question": f"第{number}题", "A": "一", "B": "二二", "C": "三三三", "D": "四", "Answer": answer}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects of CMMLU, 12 and 4 items, and GSM8K; the right answer of every item but the first is B."""
    folder = tmp_path_factory.mktemp("data")
    for subject, count in zip(SUBJECTS, (12, 4), strict=True):
        write(folder / f"haonan-li/cmmlu/{subject}/dev.jsonl", [question(90 + n, "A") for n in range(2)])
        rows = [question(n, "B" if n else "C") for n in range(count)]
        write(folder / f"haonan-li/cmmlu/{subject}/test.jsonl", rows)
    sums = [{"question": f"{n} + 1?", "answer": f"One more.\n#### {n + 1}"} for n in range(6)]
    write(folder / "openai/gsm8k/main/test.jsonl", sums)
    write(folder / "openai/gsm8k/main/train.jsonl", sums)
    return folder


@pytest.fixture(scope="module")
def subjects(data: Path) -> Any:
    """A group of two subjects, weighted by size, as the whole of CMMLU."""
    from lm_eval.api.group import AggMetricConfig, Group

    names = [f"cmmlu_{subject}" for subject in SUBJECTS]
    tasks = load_tasks(names, data=str(data), shots=dict.fromkeys(names, 1))
    group = Group("subjects", aggregate_metric_list=[AggMetricConfig("acc", weight_by_size=True)])
    for task in tasks.values():
        group.add(task)
    return group


def prefers_b(context: str, continuation: str) -> float:
    return {" A": -2.0, " B": -1.0, " C": -3.0, " D": -4.0}[continuation]


def test_a_group_of_letters(subjects: Any) -> None:
    model = planted(prefers_b)
    model.cut = model.seam_differs = 7  # of a task before
    samples = draw_samples({"subjects": subjects}, None, 0)
    assert item_count(subjects, samples) == 16 and {name: len(s) for name, s in samples.items()} == {
        "cmmlu_agronomy": 12,
        "cmmlu_anatomy": 4,
    }
    result = run_task("subjects", subjects, model, samples=samples)
    share = math.exp(-1) / sum(map(math.exp, (-1, -2, -3, -4)))
    first = math.exp(-3) / sum(map(math.exp, (-1, -2, -3, -4)))
    assert result.metrics["acc"] == pytest.approx(14 / 16) and result.chance == 0.25
    assert result.metrics["probability"] == pytest.approx((14 * share + 2 * first) / 16)
    assert result.metrics["bits_per_byte"] == pytest.approx((14 * 1 + 2 * 3) / 16 / math.log(2))
    assert result.metrics["probability_stderr"] == pytest.approx((share - first) * math.sqrt(14 / 16 * 2 / 16 / 15))
    assert (result.items, result.requests, result.cut_requests, result.seam_differs, result.shots) == (16, 64, 3, 1, 1)
    assert result.harness["group_subtasks"] == {"subjects": list(samples)}
    assert result.harness["n-samples"]["cmmlu_anatomy"] == {"original": 4, "effective": 4}
    assert result.samples["cmmlu_anatomy"][1]["right"] == [1]
    assert result.summary()["acc"] == result.metrics["acc"] and result.summary()["chance"] == 0.25


def test_a_group_of_single_items_has_a_standard_error(subjects: Any) -> None:
    """Two items, of which the harness's pooled error is undefined."""
    samples = {"cmmlu_agronomy": [0], "cmmlu_anatomy": [1]}
    result = run_task("subjects", subjects, planted(prefers_b), samples=samples)
    assert result.metrics["acc"] == 0.5 and result.metrics["acc_stderr"] == pytest.approx(0.5)
    assert result.harness["results"]["subjects"]["acc_stderr,none"] == "N/A"


def test_samples_are_the_same_items_in_every_run(subjects: Any) -> None:
    tasks = with_cloze_forms({"subjects": subjects})
    samples = draw_samples(tasks, 5, 1)
    agronomy = samples["cmmlu_agronomy"]
    assert len(agronomy) == 5 and agronomy == sorted(agronomy) and len(samples["cmmlu_anatomy"]) == 4
    assert samples == draw_samples(tasks, 5, 1) and agronomy == samples["cmmlu_agronomy_cloze"]
    assert agronomy != draw_samples(tasks, 5, 2)["cmmlu_agronomy"] and agronomy != list(range(5))
    result = run_task("subjects", subjects, planted(prefers_b), samples=samples)
    records = result.samples["cmmlu_agronomy"]
    assert [record["doc_id"] for record in records] == agronomy
    assert [record["doc"]["Question"] for record in records] == [f"第{n}题" for n in agronomy]
    assert result.harness["n-samples"]["cmmlu_agronomy"] == {"original": 12, "effective": 5}


def test_the_cloze_form_scores_the_texts(subjects: Any) -> None:
    """B's text is the likeliest per byte and gains most from the prompt; D's alone is the likeliest."""

    def likelihood(context: str, continuation: str) -> float:
        with_prompt = {"一": -9.0, "二二": -4.0, "三三三": -18.0, "四": -3.0}
        alone = {"一": -9.0, "二二": -8.0, "三三三": -18.0, "四": -3.0}
        return (with_prompt if context else alone)[continuation]

    tasks = with_cloze_forms({"subjects": subjects})
    assert list(tasks) == ["subjects", "subjects_cloze"]
    cloze = tasks["subjects_cloze"]
    result = run_task("subjects_cloze", cloze, planted(likelihood), samples=draw_samples(tasks, None, 0))
    assert result.metrics["acc"] == 0 and result.metrics["acc_bytes"] == result.metrics["acc_mutual_info"] == 14 / 16
    assert result.requests == 64  # the choices without their prompt do not count
    assert result.shots == 1 and set(result.samples) == {"cmmlu_agronomy_cloze", "cmmlu_anatomy_cloze"}
    record = result.samples["cmmlu_agronomy_cloze"][3]
    assert record["choices"] == ["一", "二二", "三三三", "四"] and record["right"] == [1]
    context = record["arguments"][0][0]
    assert context.endswith("问题：第90题\n答案：一\n\n问题：第3题\n答案：") and "A." not in context
    # The letters are as they were.
    letters = run_task("subjects", subjects, planted(prefers_b), samples=draw_samples(tasks, None, 0))
    assert letters.samples["cmmlu_agronomy"][0]["arguments"][0][0].endswith("A. 一\nB. 二二\nC. 三三三\nD. 四\n答案：")


def test_agieval_items_may_have_several_right_choices(data: Path) -> None:
    query = "问题：哪个大? 选项：(A)一 (B)二 (C)三\n答案：从A到C, 我们应选择"
    item = {"query": query, "choices": ["(A)一", "(B)二", "(C)三"], "gold": [1, 2]}
    write(data / "hails/agieval-jec-qa-kd/default/test.jsonl", [item, item | {"gold": [0]}])
    tasks = with_cloze_forms(load_tasks(["agieval_jec_qa_kd"], data=str(data)))
    assert list(tasks) == ["agieval_jec_qa_kd", "agieval_jec_qa_kd_cloze"]
    texts = {"一": -3.0, "二": -2.0, "三": -9.0, " (A)一": -3.0, " (B)二": -4.0, " (C)三": -2.0}
    model, samples = planted(lambda _, continuation: texts[continuation]), draw_samples(tasks, None, 0)
    letters, cloze = (run_task(name, task, model, samples=samples) for name, task in tasks.items())
    share = {text: math.exp(log) for text, log in texts.items()}
    for result, both, alone in ((letters, (" (B)二", " (C)三"), " (A)一"), (cloze, ("二", "三"), "一")):
        total = sum(share[text] for text in (*both, alone))
        expected = (sum(share[text] for text in both) + share[alone]) / total / 2
        assert result.metrics["acc"] == 0.5 and result.metrics["probability"] == pytest.approx(expected)
        assert result.chance == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert cloze.samples["agieval_jec_qa_kd_cloze"][0]["arguments"][0] == ("问题：哪个大?\n答案：", "一")
    assert cloze.metrics["acc_mutual_info"] == 0.5  # all differences are 0: the first choice


@pytest.mark.parametrize(
    ("choices", "texts"),
    [
        (["(A)一", "(B)A 二"], ["一", "A 二"]),
        (["A．G和I", "B．G和X"], ["G和I", "G和X"]),
        (["A No ginseng", "B No Shouwu"], ["No ginseng", "No Shouwu"]),
        (["A cat", "Dogs"], ["A cat", "Dogs"]),
        (["(A)A careful analysis", "(B)B-side"], ["A careful analysis", "B-side"]),
        (["（A） 一", "二"], ["一", "二"]),
        (["(A)No. 2", "(C)No. 3", "(B)No. 4"], ["No. 2", "No. 3", "No. 4"]),
        (["A.", "B."], ["A.", "B."]),
        (["(A)①②", "(D)"], ["①②", "(D)"]),
        (["A one", "B "], ["A one", "B "]),
    ],
)
def test_letters_before_choices(choices: list[str], texts: list[str]) -> None:
    assert without_letters(choices) == texts


def test_a_cloze_form_speaks_the_language_of_its_task(tmp_path: Path) -> None:
    """An English paper may gloss a word in Chinese, and a Chinese one quote English."""
    queries = {
        "en": "It rained(下雨).Q: Why? Answer Choices: (A)one (B)two\nA: Among A through B, the answer is",
        "zh": "问题：Why? 选项：(A)one (B)two\n答案：从A到B, 我们应选择",
    }
    forms = {}
    for language, query in queries.items():
        item = {"query": query, "choices": ["(A)one", "(B)two"], "gold": [0]}
        write(tmp_path / language / "hails/agieval-gaokao-english/default/test.jsonl", [item])
        tasks = load_tasks(["agieval_gaokao_english"], data=str(tmp_path / language))
        task: Any = with_cloze_forms(tasks)["agieval_gaokao_english_cloze"]
        forms[language] = task.fewshot_context(task.eval_docs[0], 0), task.config.target_delimiter
    assert forms["en"] == ("Question: It rained(下雨).\nWhy?\nAnswer:", " ")
    assert forms["zh"] == ("问题：Why?\n答案：", "")


def test_an_item_that_the_cloze_form_cannot_score_is_reported(tmp_path: Path) -> None:
    """Its letters are complete, so that the original task takes it."""
    write(tmp_path / "haonan-li/cmmlu/anatomy/test.jsonl", [question(0, "A"), question(1, "A") | {"C": ""}])
    tasks = load_tasks(["cmmlu_anatomy"], data=str(tmp_path))
    with pytest.raises(ValueError, match=r"anatomy/test.jsonl, line 2: the choices are not a list of texts"):
        with_cloze_forms(tasks)


def test_a_task_that_scores_something_else_has_no_measures_of_a_right_choice(data: Path) -> None:
    """truthfulqa_mc2 scores the mass of all true answers, and names the first as its target."""
    item = {"question": "q?", "mc2_targets": {"choices": ["a", "b", "c", "d"], "labels": [1, 1, 0, 0]}}
    write(data / "truthfulqa/truthful_qa/multiple_choice/validation.jsonl", [item] * 2)
    tasks = load_tasks(["truthfulqa_mc2"], data=str(data))
    model = planted(lambda *_: -1.0)
    result = run_task("truthfulqa_mc2", tasks["truthfulqa_mc2"], model, samples=draw_samples(tasks, None, 0))
    assert result.metrics["acc"] == pytest.approx(0.5) and result.chance is None
    assert "probability" not in result.metrics and "right" not in result.samples["truthfulqa_mc2"][0]


def test_items_that_are_cloze_already_have_no_other_form(data: Path) -> None:
    item = {"ind": 1, "activity_label": "Cooking", "ctx_a": "She stirs (A) pot.", "ctx_b": "then she", "label": "1"}
    item |= {"ctx": "", "endings": ["eats.", "sleeps.", "runs.", "reads."], "source_id": "", "split": "val"}
    write(data / "Rowan/hellaswag/default/validation.jsonl", [item])
    tasks = load_tasks(["hellaswag"], data=str(data))
    assert list(with_cloze_forms(tasks)) == ["hellaswag"]


def test_a_generating_task_has_a_score_per_filter(data: Path) -> None:
    tasks = load_tasks(["gsm8k"], data=str(data))
    assert list(with_cloze_forms(tasks)) == ["gsm8k"]
    result = run_task("gsm8k", tasks["gsm8k"], planted(prefers_b), samples=draw_samples(tasks, None, 0))
    assert result.metrics["exact_match,flexible-extract"] == pytest.approx(1 / 6)
    assert result.metrics["exact_match,strict-match"] == 0 and result.chance is None
    assert result.metrics["exact_match,flexible-extract_stderr"] == pytest.approx(math.sqrt(1 / 6 * 5 / 6 / 5))
    assert (result.items, result.requests, result.shots) == (6, 6, 5) and len(result.samples["gsm8k"]) == 12


def test_results_are_in_the_format_of_the_harness(subjects: Any) -> None:
    """Whatever reads results.json and samples_TASK.jsonl of the harness finds what it looks for."""
    result = run_task("subjects", subjects, planted(prefers_b), samples=draw_samples({"s": subjects}, 3, 0))
    protocol = {"max_seq_len": 64, "system_prompt": None, "chat_template": False}
    results = HarnessResults("runs/x, step 3", protocol, {"model_num_parameters": 9})
    results.add(result)
    written = json.loads(results.json())
    assert written["results"]["subjects"]["acc,none"] == result.metrics["acc"]
    assert written["results"]["cmmlu_anatomy"]["alias"] == "cmmlu_anatomy" and "subjects" in written["groups"]
    for key in ("configs", "versions", "n-shot", "higher_is_better", "n-samples"):
        assert "cmmlu_anatomy" in written[key], key
    assert written["config"]["model_num_parameters"] == 9 and len(written["task_hashes"]["cmmlu_anatomy"]) == 64
    assert written["model_name_sanitized"] == "runs__x____step__3"
    lines = [json.loads(line) for line in sample_lines(result.samples["cmmlu_anatomy"])]
    assert len(lines) == 3 and lines[0]["arguments"]["gen_args_1"]["arg_1"] == " B"
    assert lines[0]["filtered_resps"][1] == ["-1.0", "False"] and lines[0]["target"] in ("1", "2")


def test_members_are_found_at_any_depth(subjects: Any) -> None:
    from lm_eval.api.group import Group

    outer = Group("outer")
    outer.add(subjects)
    assert list(members(outer)) == ["cmmlu_agronomy", "cmmlu_anatomy"]
    result = run_task("outer", outer, planted(prefers_b), samples=draw_samples({"outer": outer}, 2, 0))
    assert set(result.harness["group_subtasks"]) == {"outer", "subjects"}
    assert result.metrics["acc"] in (0.5, 0.75, 1.0)  # the group has no metric of its own: over all items
