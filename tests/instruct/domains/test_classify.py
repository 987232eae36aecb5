"""Scores by labels: which label an answer gives, and the figures against scikit-learn and by hand."""

from pathlib import Path

import numpy as np
import pytest

from mindllm_jax.instruct.domains.classify import Classify, classify, scores_of, scores_table, write_result
from mindllm_jax.instruct.domains.labels import NO_LABEL, Labels, label_of, label_scores, read_labelled
from mindllm_jax.instruct.domains.prepare import PrepareInstructions, prepare_instructions
from mindllm_jax.training.load_run import load_decoder

metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn (the extra `labels`) is not installed")
LABELS = ["中性", "消极", "积极", "非常积极"]


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("积极", "积极"),
        ("消极。不是积极", "消极"),
        ("可能积极，因为……\n答案：消极", "消极"),
        ("答案：积极\n答案：中性", "中性"),
        ("非常积极", "非常积极"),
        ("答案：不知道，积极", "积极"),
        ("", NO_LABEL),
        ("good", NO_LABEL),
    ],
)
def test_the_label_of_an_answer(answer: str, label: str) -> None:
    assert label_of(answer, LABELS, "答案：") == label


@pytest.mark.parametrize(
    ("answer", "labels", "label"),
    [
        ("I do not know", ["yes", "no"], NO_LABEL),
        ("no.", ["yes", "no"], "no"),
        ("Another day: B", ["A", "B", "C", "D"], "B"),
        ("选B吧", ["A", "B"], "B"),
        ("10", ["1", "10"], "10"),
        ("不是", ["是", "否"], NO_LABEL),
        ("不是，否", ["是", "否"], "否"),
        ("是的", ["是", "否"], "是"),
        ("不是积极，是消极", LABELS, "消极"),
        ("Not positive, negative", ["positive", "negative"], "negative"),
        ("It isn't positive but negative", ["positive", "negative"], "negative"),
        ("违法", ["违法", "非违法"], "违法"),
        ("非违法", ["违法", "非违法"], "非违法"),
    ],
)
def test_a_label_inside_a_word_or_behind_a_negation(answer: str, labels: list[str], label: str) -> None:
    assert label_of(answer, labels, "答案：") == label


def test_an_answer_that_was_cut_before_its_mark_has_no_label() -> None:
    """Its rationale may name any of them."""
    assert label_of("语气积极，但", LABELS, "答案：", is_cut=True) == NO_LABEL
    assert label_of("语气积极，但\n答案：消极 因", LABELS, "答案：", is_cut=True) == "消极"
    assert label_of("积极", LABELS, "", is_cut=True) == "积极"


def test_labels_are_those_of_all_rows(write) -> None:
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    path = write(*({"id": str(i), "label": "ab"[i // 5], "messages": turns} for i in range(10)))
    rows, labels = read_labelled(Labels((str(path),), limit=3))
    assert [row.label for row in rows] == ["a"] * 3 and labels == ["a", "b"]


def test_scores_by_hand() -> None:
    truth, predicted = ["a", "a", "a", "b"], ["a", "a", NO_LABEL, "a"]
    scores = scores_of(truth, predicted, ["a", "b"], resamples=200, seed=0)
    assert scores["accuracy"] == 0.5 and scores["without_label"] == 0.25
    # a: precision 2/3, recall 2/3; b: nothing was found.
    assert scores["weighted_f1"] == pytest.approx(3 / 4 * 2 / 3)
    low, high = scores["accuracy_interval"]
    assert 0 <= low < 0.5 < high <= 1


@pytest.mark.slow
def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        right = draw.random(80) < 0.7
        truth = ["a"] * 80
        scores = scores_of(truth, np.where(right, "a", "b").tolist(), ["a", "b"], resamples=60, seed=trial)
        low, high = scores["accuracy_interval"]
        covered += low <= 0.7 <= high
    assert covered >= 48


@pytest.mark.long
def test_a_run_is_scored(base: Path, write, tmp_path: Path) -> None:
    rows = [[f"{i}?", i % 2] for i in range(6)]
    prepared = PrepareInstructions(
        (str(write(*rows)),),
        str(tmp_path / "data"),
        "odd",
        question="{0}",
        answer="{1}",
        labels={"0": "no", "1": "yes"},
    )
    prepare_instructions(prepared)
    config = Classify(str(base), Labels((str(tmp_path / "data"),), max_tokens=4, limit=5), resamples=10)
    run, labelled = load_decoder(base), read_labelled(config.labels)
    result = classify(config, run, labelled)
    assert (
        result["rows"] == 5
        and result["cut_answers"] <= 5
        and {row["label"] for row in result["predictions"]} == {"no", "yes"}
    )
    assert scores_table(result).rows[0][0] == "accuracy"
    assert write_result(result, tmp_path).read_text().startswith("{")
    scores = label_scores(config.labels, run.tokenizer, labelled)(run.decoder)
    assert scores["label_accuracy"] == result["scores"]["accuracy"]
    assert scores["label_f1"] == result["scores"]["weighted_f1"]
    assert scores["without_label"] == result["scores"]["without_label"]


def test_a_file_of_another_kind(write, tmp_path: Path) -> None:
    config = Labels((str(write({"input": "Q", "output": "A"})),))
    with pytest.raises(ValueError, match=r"line 1: not an object with `id`, `label` and `messages`"):
        read_labelled(config)
    half = {
        "id": "1",
        "label": "a",
        "messages": [{"from": "human", "value": "x"}, {"role": "assistant", "content": "x"}],
    }
    alone = half | {"messages": half["messages"][1:]}
    for row, message in ((half, "a message without `role` and `content`"), (alone, "not an object")):
        with pytest.raises(ValueError, match=f"line 1: {message}"):
            read_labelled(Labels((str(write(row)),)))
    for inputs, message in (((), "Labels.inputs is empty"), ((str(write()),), "Labels.inputs: there is no row in ")):
        with pytest.raises(ValueError, match=message):
            read_labelled(Labels(inputs))
