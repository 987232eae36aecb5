"""A model with planted preferences gets exactly the expected score for each type of task."""

import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mindllm_jax.evaluation.harness.tasks import load_tasks, tasks_of
from mindllm_jax.text.documents import write_json_lines

pytest.importorskip("lm_eval", reason="lm-eval (the extra `eval`) is not installed")

pytestmark = pytest.mark.long
Likes = Callable[[str, str], float]


def planted(likes: Likes, answers: Mapping[str, str]) -> Any:
    """A model: `likes` gives the log-likelihood of a continuation after a context, `answers` a text by a part of it."""
    from lm_eval.api.model import LM

    class Planted(LM):
        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            logs = [likes(*request.args) for request in requests]
            return [(log, log == 0) for log in logs]

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            raise NotImplementedError

        def generate_until(self, requests: list[Any]) -> list[str]:
            return [next(text for part, text in answers.items() if part in request.args[0]) for request in requests]

    return Planted()


def scores(
    data: Path,
    name: str,
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    likes: Likes = lambda context, continuation: 0.0,
    answers: Mapping[str, str] | None = None,
    shots: Mapping[str, int] | None = None,
) -> dict[str, float]:
    """The harness's metrics of a task on these items, which lie where the task looks for them."""
    from lm_eval.evaluator import evaluate

    for path, items in splits.items():
        write_json_lines(data / f"{path}.jsonl", map(dict, items))
    (task,) = tasks_of(load_tasks([name], data=str(data), shots=shots)[name])
    result: Any = evaluate(planted(likes, answers or {}), {"tasks": {name: task}}, log_samples=False)
    return {metric: value for metric, value in result["results"][name].items() if isinstance(value, float)}


def letter(wanted: str) -> Likes:
    return lambda context, continuation: 0.0 if continuation.strip() == wanted else -1.0


def exam(answers: str) -> list[dict[str, str]]:
    options = {"A": "一", "B": "二", "C": "三", "D": "四"}
    return [{"Question": f"{n}+1？", **options, "Answer": answer} for n, answer in enumerate(answers)]


@pytest.mark.parametrize(
    ("name", "folder"),
    [("cmmlu_agronomy", "haonan-li/cmmlu/agronomy"), ("financeiq_economic_analyst", "mindllm/financeiq/经济师")],
)
def test_letters(name: str, folder: str, tmp_path: Path) -> None:
    splits = {f"{folder}/dev": exam("DCBAD"), f"{folder}/test": exam("ABBCBD")}
    assert scores(tmp_path, name, splits, letter("B"))["acc,none"] == 3 / 6


def test_the_prompt_of_financeiq_is_that_of_opencompass(tmp_path: Path) -> None:
    prompts: list[str] = []

    def likes(context: str, continuation: str) -> float:
        prompts.append(context + continuation)
        return 0.0

    folder = "mindllm/financeiq/经济师"
    splits = {f"{folder}/dev": exam("DCBAD"), f"{folder}/test": exam("A")}
    scores(tmp_path, "financeiq_economic_analyst", splits, likes)
    head = "以下是关于经济师的单项选择题，请直接给出正确答案的选项。\n题目："
    shots = [f"{head}{n}+1？\nA. 一\nB. 二\nC. 三\nD. 四\n答案是: {answer}" for n, answer in enumerate("DCBAD")]
    assert prompts[0] == "\n".join([*shots, f"{head}0+1？\nA. 一\nB. 二\nC. 三\nD. 四\n答案是: A"])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("opencompass") is None, reason="opencompass is not installed")
def test_the_prompts_of_financeiq_are_those_of_opencompass(tmp_path: Path) -> None:
    """All ten subjects, as the text of its configuration has them; it scores the likelihoods of the same letters."""
    spec = importlib.util.find_spec("opencompass")
    assert spec is not None and spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0], "configs/datasets/FinanceIQ")
    text = (folder / "FinanceIQ_ppl_42b9bd.py").read_text("utf-8")
    asked, answered = re.findall(r"prompt=f'(.+)'", text)
    subjects = dict(re.findall(r"'([a-z_]+)': '(.+)',", text))
    assert len(subjects) == 10
    for name, subject in subjects.items():
        path = f"mindllm/financeiq/{subject}"
        for split, items in (("dev", exam("A")), ("test", exam("B"))):
            write_json_lines(tmp_path / path / f"{split}.jsonl", map(dict, items))
        (task,) = tasks_of(load_tasks([f"financeiq_{name}"], data=str(tmp_path))[f"financeiq_{name}"])
        item: Any = next(iter(task.eval_docs))
        template = (asked + "\\n" + answered).replace("{_ch_name}", subject).replace("{answer}", "B")
        expected = template.replace("\\n", "\n").replace("{{", "{").replace("}}", "}")
        expected = expected.format(question=item["Question"], **{letter: item[letter] for letter in "ABCD"})
        assert f"{task.doc_to_text(item)} B" == expected


def test_answers_in_words_and_their_norm(tmp_path: Path) -> None:
    """One log per character: the shorter answer is likelier, and normalised by its length no answer is."""
    items = [
        {"goal": "a", "sol1": "short", "sol2": "much longer", "label": 0},
        {"goal": "b", "sol1": "short", "sol2": "much longer", "label": 1},
        {"goal": "c", "sol1": "much longer", "sol2": "short", "label": 1},
    ]
    likes: Likes = lambda context, continuation: -float(len(continuation.strip()))  # noqa: E731
    result = scores(tmp_path, "piqa", {"baber/piqa/default/validation": items}, likes)
    assert result["acc,none"] == 2 / 3
    assert result["acc_norm,none"] == 1 / 3  # a tie goes to the first


def test_choices_in_the_context(tmp_path: Path) -> None:
    """WinoGrande scores the same ending after each option."""
    row = {"sentence": "Ann met Bo because _ was early.", "option1": "Ann", "option2": "Bo"}
    items = [row | {"answer": "1"}, row | {"answer": "2"}, row | {"answer": "2"}]
    likes: Likes = lambda context, continuation: 0.0 if context.endswith("Bo") else -1.0  # noqa: E731
    path = "allenai/winogrande/winogrande_xl/validation"
    assert scores(tmp_path, "winogrande", {path: items}, likes)["acc,none"] == 2 / 3


def test_several_right_answers(tmp_path: Path) -> None:
    """AGIEval's questions may have more than one; each of them counts."""
    items = [
        {"query": f"q{n}", "choices": ["(A)甲", "(B)乙"], "gold": gold} for n, gold in enumerate(([0, 1], [1], [0]))
    ]
    path = "hails/agieval-jec-qa-kd/default/test"
    assert scores(tmp_path, "agieval_jec_qa_kd", {path: items}, letter("(A)甲"))["acc,none"] == 2 / 3


def test_greedy_answers(tmp_path: Path) -> None:
    items = [{"context": f"Question: What is {n} plus 1?\nAnswer:", "completion": f" {n + 1}"} for n in range(4)]
    likes: Likes = lambda context, continuation: 0.0 if continuation == " 3" else -1.0  # noqa: E731
    assert scores(tmp_path, "arithmetic_ours_2da", {"mindllm/arithmetic/2da/test": items}, likes)["acc,none"] == 1 / 4


def test_the_number_is_taken_out_of_a_generated_answer(tmp_path: Path) -> None:
    items = [{"question": f"q{n}?", "answer": "4 + 4 = 8\n#### 8"} for n in range(4)]
    answers = {
        "q0?\nAnswer:": "4 + 4 = 8\n#### 8",
        "q1?\nAnswer:": "that makes $8.",
        "q2?\nAnswer:": "#### 9",
        "q3?": "",
    }
    shots = [{"question": f"s{n}?", "answer": "1 + 1 = 2\n#### 2"} for n in range(5)]
    splits = {"openai/gsm8k/main/train": shots, "openai/gsm8k/main/test": items}
    result = scores(tmp_path, "gsm8k", splits, answers=answers)
    assert result["exact_match,strict-match"] == 1 / 4
    assert result["exact_match,flexible-extract"] == 2 / 4


def test_translations(tmp_path: Path) -> None:
    """BLEU counts Chinese by characters: with words between spaces a sentence would be right or wrong as a whole."""
    sacrebleu = pytest.importorskip("sacrebleu")
    chinese = ["今天早上河水很冷，孩子们没有去游泳。", "他们在山上的小屋里住了三天三夜。"]
    items = [
        {"eng_Latn": f"sentence {n}", "zho_Hans": text, "zho_Hant": text} for n, text in enumerate([*chinese, *chinese])
    ]
    splits = {"mindllm/flores200/default/dev": items * 2, "mindllm/flores200/default/devtest": items[:2]}
    given = ["今天早上河水很冷，孩子们去游泳了。", chinese[1]]
    answers = {f"English: sentence {n}\n中文：": text for n, text in enumerate(given)}
    result = scores(tmp_path, "flores_en_zh", splits, answers=answers, shots={"flores_en_zh": 0})
    expected = sacrebleu.corpus_bleu(given, [chinese], tokenize="zh").score
    assert result["bleu,none"] == pytest.approx(expected)
    assert 50 < expected < 100 and sacrebleu.corpus_bleu(given, [chinese]).score < expected - 10
    assert result["chrf++,none"] == pytest.approx(sacrebleu.corpus_chrf(given, [chinese], word_order=2).score)


def test_choices_of_translations(tmp_path: Path) -> None:
    """The source's number tells the translation; a sentence that is likely anyway wins by likelihood alone."""
    numbers = [f"{n:02}" for n in range(10)]
    items = [{"eng_Latn": f"sentence {n}", "zho_Hans": f"句子{n}", "zho_Hant": "句子"} for n in numbers]
    splits = {"mindllm/flores200/default/devtest": items}
    for name, likely in (("flores_choice_en_zh", "句子03"), ("flores_choice_zh_en", "sentence 03")):

        def likes(context: str, continuation: str, likely: str = likely) -> float:
            alone = 0.0 if continuation == likely else -9.0
            return alone + (context.strip()[-2:] == continuation[-2:])

        found = scores(tmp_path, name, splits, likes)
        assert found["acc_mutual_info,none"] == 1
        assert 0 < found["acc,none"] < 1
    (task,) = tasks_of(load_tasks([name], data=str(tmp_path))[name])
    docs: list[Any] = list(task.eval_docs)
    assert all(len(set(doc["choices"])) == 4 and doc["choices"][doc["answer"]] == doc["eng_Latn"] for doc in docs)
    with pytest.raises(ValueError, match="3 sentences of Flores-200: a choice of translations needs 4 or more"):
        scores(tmp_path, "flores_choice_zh_en", {"mindllm/flores200/default/devtest": items[:3]}, likes)


def test_labels_by_f1_with_abstentions(tmp_path: Path) -> None:
    """LawBench 2-3: two of three labels found and none wrong is an F1 of 0.8."""
    items = [
        {"task": "2-3", "instruction": "确定类别", "question": question, "answer": f"类别:{labels}。"}
        for question, labels in (("甲", "准予离婚、损害赔偿、适当帮助"), ("乙", "准予离婚"), ("丙", "法定离婚"))
    ]
    answers = {"甲": "准予离婚和适当帮助", "乙": "准予离婚", "丙": "不知道"}
    result = scores(tmp_path, "lawbench_2_3", {"mindllm/lawbench/2-3/test": items}, answers=answers)
    assert result["score,none"] == pytest.approx((0.8 + 1 + 0) / 3)
    assert result["abstention_rate,none"] == 1 / 3


def test_sentiments(tmp_path: Path) -> None:
    items = [{"text": f"帖子{n}", "label": n % 3} for n in range(6)]
    splits = {"mindllm/finfe/default/train": items, "mindllm/finfe/default/test": items}
    assert scores(tmp_path, "finfe", splits, letter("中性"))["acc,none"] == 2 / 6
