"""The tables of an evaluation."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mindllm_jax.evaluation.published import published_table
from mindllm_jax.evaluation.report import read_result, report_markdown, results_table

COUNTS = {"items": 9, "requests": 36, "cut_requests": 0, "seam_differs": 3, "shots": 5}
CHOICE = COUNTS | {
    "acc": 0.5,
    "acc_stderr": 0.025,
    "acc_mutual_info": 0.4,
    "probability": 0.3,
    "bits_per_byte": 2.5,
    "bits_per_byte_stderr": 0.125,
    "chance": 0.25,
}
RESULT: dict[str, Any] = {
    "run": "runs/x",
    "step": 3,
    "parameters": 3_000_000,
    "training_tokens": 2048,
    "protocol": {"seam": "together", "system_prompt": None, "tokenizer_sha256": "0123456789abcdef"},
    "bits_per_byte": {"zh": 2.0},
    "bits_per_byte_by_position": {
        "zh": {place: [{"tokens_before": "0-31", "bits_per_byte": 2.0}] for place in ("row", "document")}
    },
    "tasks": {"cmmlu": CHOICE, "gsm8k": COUNTS | {"exact_match,strict-match": 0.125}},
}


def cells(markdown: str, name: str) -> list[str]:
    line = next(line for line in markdown.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_puts_results_beside_each_other() -> None:
    results = {
        "before": {"bits_per_byte": {"zh": 8.0}},
        "after": {
            "bits_per_byte": {"zh": 2.0, "en": 3.0},
            "baselines": {"zh": {"xz -9": 2.5, "byte 5-gram": 2.25, "counted_bytes": 10}},
            "tasks": {"continuation_zh": CHOICE},
        },
    }
    table = results_table(results)
    assert table.columns == ["", "before", "after", "xz -9", "byte 5-gram", "chance"]
    assert table.rows == [
        ["bits per byte, zh", "8.000", "2.000", "2.500", "2.250", None],
        ["bits per byte, en", None, "3.000", None, None, None],
        ["acc, continuation_zh, %", None, "50.0 ± 2.5", None, None, "25.0"],
        ["acc_mutual_info, continuation_zh, %", None, "40.0", None, None, "25.0"],
        ["probability, continuation_zh, %", None, "30.0", None, None, "25.0"],
        ["bits_per_byte, continuation_zh", None, "2.500 ± 0.125", None, None, None],
    ]
    alone = results_table({"before": results["before"]})
    assert alone.columns == ["", "before"] and alone.rows == [["bits per byte, zh", "8.000"]]


def test_the_report_says_scale_and_protocol() -> None:
    text = report_markdown(RESULT)
    assert text.startswith("# runs/x, step 3: 3,000,000 parameters, 2,048 training tokens\n")
    assert "Protocol: seam together, system_prompt none, tokenizer_sha256 0123456789ab." in text
    assert cells(text, "bits per byte, zh") == ["bits per byte, zh", "2.000"]
    assert cells(text, "cmmlu") == [
        *("cmmlu", "5", "9", "50.0 ± 2.5", "40.0", "30.0", "2.500 ± 0.125", "25.0", "0.0", "33.3")
    ]
    assert cells(text, "gsm8k") == ["gsm8k", "5", "9", "exact_match,strict-match, %", "12.5", "0.0"]
    assert "| acc, % | acc_mutual_info, % | probability, % | bits_per_byte | chance, % | cut, % |" in text
    assert "Failed" not in text and "Compared" not in text and "Items:" not in text
    drawn = report_markdown(RESULT | {"task_settings": {"samples": 20, "seed": 4}, "training_tokens": None})
    assert drawn.startswith("# runs/x, step 3: 3,000,000 parameters\n")
    assert "\nItems: at most 20 of each task, drawn with seed 4.\n" in drawn and "max_gen_toks" not in drawn
    shorter = report_markdown(RESULT | {"task_settings": {"samples": None, "seed": 4, "max_gen_toks": 40}})
    assert "at most 40 tokens (max_gen_toks)" in shorter and "Items:" not in shorter


def test_figures_of_cut_prompts_stand_in_brackets() -> None:
    def text(cut: int) -> str:
        tasks = {"cmmlu": CHOICE | {"cut_requests": cut, "requests": 100}}
        return report_markdown(RESULT | {"tasks": tasks})

    assert cells(text(10), "cmmlu")[3] == "50.0 ± 2.5" and cells(text(11), "cmmlu")[3] == "(50.0 ± 2.5)"
    assert cells(text(11), "cmmlu")[8] == "11.0"
    assert cells(text(10), "cmmlu, acc")[1] == "50.00 ± 2.50" and cells(text(11), "cmmlu, acc")[1] == "(50.00 ± 2.50)"
    tables = [results_table({"x": {"tasks": {"cmmlu": CHOICE | {"cut_requests": cut}}}}) for cut in (0, 36)]
    assert [table.rows[0][1] for table in tables] == ["50.0 ± 2.5", "(50.0 ± 2.5)"]
    assert ["In brackets: more than 10%" in table.caption for table in tables] == [False, True]


def test_published_figures_have_a_column_for_each_model_and_source() -> None:
    def show(task: Mapping[str, Any], metric: str) -> str | None:
        return f"{100 * task[metric]:.0f}" if metric in task else None

    found = published_table({"hellaswag": {"acc": 0.3}, "mmlu": {"acc": 0.25}}, show)
    assert found is not None
    table, sources = found
    assert table.columns[:2] == ("", "this run") and "MindLLM-1.3B [1]" in table.columns
    rows = {str(row[0]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert rows["mmlu, acc"]["this run"] == "25" and rows["mmlu, acc"]["MindLLM-3B [1]"] == "26.20"
    assert rows["hellaswag, acc_norm"]["this run"] is None  # ours has another metric
    assert rows["hellaswag, acc_norm"]["MindLLM (upload) [2]"] == "34.11"
    assert [source[:3] for source in sources] == ["[1]", "[2]", "[3]"] and "2406.09900" in sources[0]
    assert published_table({"gen_demo": {}}, show) is None


def test_differences_and_failures_are_in_the_report() -> None:
    against = {"acc": {"difference": 0.03125, "low": -0.0625, "high": 0.125, "items": 9}}
    tasks = {"cmmlu": CHOICE | {"against": against}}
    text = report_markdown(RESULT | {"tasks": tasks, "against": "runs/y", "failed_tasks": {"piqa": "KeyError: 'x'"}})
    assert "## Compared with runs/y" in text and "- piqa: KeyError: 'x'" in text
    assert "| cmmlu | acc, % | 9 | +3.12 | -6.25 to +12.50 |" in text
    none = report_markdown(RESULT | {"tasks": {"cmmlu": CHOICE | {"against": {}}}, "against": "runs/y"})
    assert "| cmmlu | no item of both | 0 |" in none and "Not the model alone" not in none
    other = RESULT | {"tasks": tasks, "against": "runs/y", "against_differs": ["shots.cmmlu: there 0, here 5"]}
    assert "Not the model alone differs: shots.cmmlu: there 0, here 5." in report_markdown(other)


def test_the_report_says_what_was_left_out() -> None:
    files = {
        "a/b/default/test.jsonl": {"items": 990, "left_out": {"no label": 10}},
        "a/b/default/dev.jsonl": {"items": 5},
    }
    text = report_markdown(RESULT | {"data": {"a/b": {"notes": ["Ours."], "files": files}}})
    assert text.endswith("## Data\n\n- a/b: Ours.\n- a/b/default/test.jsonl: 10 of 1,000 items left out: no label.\n")


@pytest.mark.parametrize("content", ["", "[]", '{"step": 3}', '{"bits_per_byte": {"zh": "a"}}', '{"bits_per_byte": 1}'])
def test_a_damaged_result_is_reported_with_its_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "eval.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"eval\.json is damaged: not the result of an evaluation"):
        read_result(path)
    for result in (RESULT, {"failed_tasks": {"piqa": "no data"}}):
        path.write_text(json.dumps(result))
        assert read_result(path) == result


def test_a_task_of_empty_prompts_has_no_share_of_cut_ones() -> None:
    """As BLiMP's sentences: none of its requests has a prompt."""
    text = report_markdown(RESULT | {"tasks": {"blimp": CHOICE | {"requests": 0}}})
    assert cells(text, "blimp")[-2:] == ["0.0", "33.3"]
