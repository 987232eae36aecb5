"""The report of a run, from the files of its workdir."""

import json

import pytest

from mindllm_jax.reporting.page import Figure, Paragraph
from mindllm_jax.reporting.run import curves, read_metrics, run_report
from mindllm_jax.reporting.tables import Table


@pytest.fixture
def workdir(tmp_path):
    """A run that was killed while it wrote its last line."""
    rows = [
        {"step": s, "time": 1e9 + s, "loss": 9 - s / 10, "learning_rate": 1e-3, "tokens_per_second": 3e3}
        for s in range(9)
    ]
    rows[3]["loss"] = None  # as a step without a finite loss is logged
    rows.append(
        {"step": 8, "time": 2e9, "bits_per_byte/zh": 2.0, "bits_per_byte/en": 2.5, "bits_per_byte/laws_zh": 1.75}
    )
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 9, "lo')
    (tmp_path / "config.json").write_text(json.dumps({"Pretrain": {"note": "中文 <b>"}}, ensure_ascii=False))
    command = {
        "command": ["launch/train.py", "--gin", "a b.gin"],
        "git": "0123abcd",
        "python": "3.11.7",
        "versions": {"jax": "0.10.2"},
    }
    (tmp_path / "command.json").write_text(json.dumps(command))
    (tmp_path / "operative_config.gin").write_text("Pretrain.note = '中文'\n")
    return tmp_path


def test_report_has_curves_and_setup(workdir):
    path = run_report(workdir)
    assert path == workdir / "report.html"
    text = path.read_text("utf-8")
    assert "8 steps" in text
    for phrase in (
        "bits_per_byte/laws_zh",
        "8.2",
        "launch/train.py --gin &#x27;a b.gin&#x27;",
        "0123abcd",
        "0.10.2",
        "中文 &lt;b&gt;",
    ):
        assert phrase in text
    assert text.count("<svg") == 5
    assert run_report(workdir).read_text("utf-8") == text


def test_code_is_drawn_beside_the_languages_and_not_as_a_source():
    row = {"step": 1, "bits_per_byte/zh": 2.0, "bits_per_byte/en": 2.5, "bits_per_byte/code": 1.5}
    figures = [part.caption for part in curves([row])[0].parts if isinstance(part, Figure)]
    assert figures == ["Held-out text by language."]


def test_sections_follow_what_was_measured():
    assert [section.title for section in curves([{"step": 1, "loss": 2.0}])] == ["Loss", "Last values"]
    titles = [
        section.title
        for section in curves([{"step": 1, "tokens_per_second": 5.0}, {"step": 1, "bits_per_byte/zh": 2.0}])
    ]
    assert titles == ["Held-out text", "Throughput", "Last values"]


def test_benchmark_tasks_have_a_figure_per_metric():
    metrics = [
        {"step": step, "tasks/cmmlu/acc": 0.25, "tasks/piqa/acc": 0.5 + step / 100, "tasks/piqa/probability": 0.5}
        for step in (1, 2)
    ]
    tasks, last = curves(metrics)
    assert tasks.title == "Benchmark tasks" and last.title == "Last values"
    _, acc, probability = tasks.parts
    assert isinstance(acc, Figure) and isinstance(probability, Figure)
    assert (acc.caption, probability.caption) == ("acc by task.", "probability by task.")
    (table,) = last.parts
    assert isinstance(table, Table) and ("tasks/piqa/acc, %", pytest.approx(52), 2) in table.rows
    assert "acc, %" in acc.svg and "cmmlu" in acc.svg and "piqa" in acc.svg and "cmmlu" not in probability.svg
    many = curves([{"step": 1} | {f"tasks/t{n}/acc": 0.5 for n in range(9)}])
    assert many[0].parts[1] == Paragraph("acc: 9 tasks are too many for a figure; their last values are below.")


def test_incomplete_last_line_is_ignored(workdir):
    assert len(read_metrics(workdir)) == 10


def test_a_folder_without_configuration_still_gets_its_curves(workdir):
    for name in ("config.json", "command.json", "operative_config.gin"):
        (workdir / name).unlink()
    assert "How it was run" not in run_report(workdir).read_text("utf-8")


def test_bad_input_raises(workdir):
    for name, content in (("config.json", "{"), ("command.json", '{"command": 3}'), ("command.json", "[]")):
        kept = (workdir / name).read_text("utf-8")
        (workdir / name).write_text(content)
        with pytest.raises(ValueError, match=rf"{name}: damaged: "):
            run_report(workdir)
        (workdir / name).write_text(kept)
    metrics = workdir / "metrics.jsonl"
    for line in (b"not json", b"[1]", b'{"loss": 2}', b'{"step": 1.5}', b'{"step": 2, "loss": "1"}', b'{"\xff": 1}'):
        metrics.write_bytes(b'{"step": 1}\n' + line + b"\n")
        with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: damaged: "):
            read_metrics(workdir)
    metrics.write_text("")
    with pytest.raises(ValueError, match=r"metrics\.jsonl is empty"):
        read_metrics(workdir)
    metrics.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no metrics\.jsonl: it is not a run's workdir"):
        read_metrics(workdir)
