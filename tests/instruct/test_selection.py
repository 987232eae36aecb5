"""Columns, buckets, rules and budgets on numbers that are worked out by hand, and the command as a whole."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindllm_jax.instruct.conversations import read_conversations
from mindllm_jax.instruct.scoring.shards import ScoreShards
from mindllm_jax.instruct.selection.budget import take
from mindllm_jax.instruct.selection.clusters import Buckets, bucket_numbers, bucket_ranges
from mindllm_jax.instruct.selection.columns import COLUMNS, columns
from mindllm_jax.instruct.selection.correlation import rank_correlations, ranks
from mindllm_jax.instruct.selection.rules import admitted
from mindllm_jax.instruct.selection.select import score, select
from mindllm_jax.instruct.selection.settings import SelectInstructions, Selection
from mindllm_jax.instruct.selection.zip_order import zip_order

ROOT = Path(__file__).parents[2]


def launch(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "launch" / script), *arguments]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


RAW = {
    "whole_tokens": [10, 20, 0], "whole_bytes": [30, 50, 0], "answer_tokens": [4, 1, 0], "answer_bytes": [8, 3, 0],
    "alone_tokens": [3, 0, 0], "turns": [1, 1, 1], "text_bytes": [40, 60, 9], "zlib_bytes": [20, 60, 9],
    "whole_nll": [20.0, 30.0, np.nan], "answer_nll": [6.0, 2.0, np.nan], "answer_entropy": [8.0, 1.0, np.nan],
    "end_nll": [0.5, 0.25, np.nan], "header_nll": [12.0, 4.0, np.nan], "alone_nll": [6.0, 0.0, np.nan],
    "cut_tokens": [0, 5, np.nan],
    "cut_answer_tokens": [0, 3, np.nan], "quality": [4.0, 1.0, 5.0],
    "tuned_nll": [4.0, 2.0, np.nan], "tuned_entropy": [6.0, 1.5, np.nan],
}  # fmt: skip


def test_columns_by_their_definitions() -> None:
    found = columns({name: np.array(values, np.float64) for name, values in RAW.items()})
    assert found.keys() == COLUMNS.keys()
    expected = {
        "answer_loss": [1.5, 2.0],
        "answer_entropy": [2.0, 1.0],
        "whole_loss": [2.0, 1.5],
        "header_loss": [3.0, 4.0],
        "alone_loss": [2.0, math.nan],
        "end_loss": [0.5, 0.25],
        "answer_bits_per_byte": [6 / math.log(2) / 8, 2 / math.log(2) / 3],
        "whole_bits_per_byte": [20 / math.log(2) / 30, 30 / math.log(2) / 50],
        "entropy_bits_per_byte": [1 / math.log(2), 1 / math.log(2) / 3],
        "ifd_loss_ratio": [0.5, 0.5],
        "ifd_ppl_ratio": [math.exp(-0.5), math.nan],
        "answer_tokens": [4, 4],
        "whole_tokens": [10, 25],
        "zlib_ratio": [2.0, 1.0],
        "record_score": [4.0, 1.0],
        "d_nll": [0.5, 0.0],
        "d_entropy": [0.5, -0.5],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name][:2], values, err_msg=name)
        if name not in ("answer_tokens", "whole_tokens"):
            assert math.isnan(found[name][2]), name


def test_the_two_ifds_rank_differently() -> None:
    """A ratio of losses is not a ratio of perplexities: why they are two columns."""
    raw = {name: np.ones(2) for name in RAW}
    raw |= {"answer_nll": np.array([1.0, 4.0]), "header_nll": np.array([2.0, 6.0]), "alone_nll": np.array([2.0, 6.0])}
    found = columns(raw)
    assert found["ifd_loss_ratio"].argmax() == 1 and found["ifd_ppl_ratio"].argmax() == 0


VALUES = np.array([1.0, 1.1, 0.9, 5.0, 5.2, np.nan, 9.0, 1.0, np.inf])


@pytest.mark.parametrize("method", ["exact", "kmeans"])
def test_clusters_are_numbered_from_the_lowest(method: Any) -> None:
    pytest.importorskip("ckwrap" if method == "exact" else "sklearn")
    numbers = bucket_numbers(VALUES, Buckets(method, 3))
    assert numbers.tolist() == [0, 0, 0, 1, 1, -1, 2, 0, -1]
    assert bucket_ranges(VALUES, numbers) == [(0.9, 1.1), (5.0, 5.2), (9.0, 9.0)]
    assert bucket_numbers(np.ones(4), Buckets(method, 3)).tolist() == [0] * 4
    assert bucket_numbers(np.full(2, np.nan), Buckets(method, 3)).tolist() == [-1, -1]


def test_the_exact_clusters_are_no_worse_than_k_means() -> None:
    pytest.importorskip("ckwrap")
    pytest.importorskip("sklearn")
    values = np.random.default_rng(0).gamma(2.0, 1.0, 400)

    def within(method: Any) -> float:
        numbers = bucket_numbers(values, Buckets(method, 6))
        return sum(((values[numbers == k] - values[numbers == k].mean()) ** 2).sum() for k in range(6))

    assert within("exact") <= within("kmeans") + 1e-9
    best = min(
        sum(((part - part.mean()) ** 2).sum() for part in np.split(np.sort(values[:12]), (i, j)))
        for i in range(1, 11)
        for j in range(i + 1, 12)
    )
    numbers = bucket_numbers(values[:12], Buckets("exact", 3))
    assert sum(((values[:12][numbers == k] - values[:12][numbers == k].mean()) ** 2).sum() for k in range(3)) == (
        pytest.approx(best)
    )


def test_quantiles_and_edges() -> None:
    assert bucket_numbers(np.arange(8.0), Buckets("quantiles", 4)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    numbers = bucket_numbers(np.array([0.99, 1.0, 1.49, 1.5, np.nan]), Buckets("edges", edges=(1.0, 1.5)))
    assert numbers.tolist() == [0, 1, 1, 2, -1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "edges"}, "give edges exactly with"),
        ({"edges": (1.0,)}, "give edges exactly with"),
        ({"method": "edges", "edges": (2.0, 1.0)}, "must increase"),
        ({"count": 0}, r"Buckets\.count = 0"),
    ],
)
def test_wrong_buckets(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Buckets(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "answer_los"}, "unknown; did you mean 'answer_loss'"),
        ({"rule": "bucket"}, r"give them exactly with Selection\.rule = 'bucket'"),
        ({"chosen_buckets": (1,)}, "give them exactly with"),
        ({"minimum": 2.0, "maximum": 1.0}, r"Selection\.minimum = 2\.0 is more than"),
        ({"min_similarity": 0.0}, "must be above 0 and at most 1"),
        ({"end_share": 0.5}, "below 0.5"),
        ({"rule": "zip", "balance": ("lang",)}, "has its own order"),
        ({"conversations": 0}, r"Selection\.conversations = 0"),
    ],
)
def test_wrong_selections(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Selection(**settings)
    with pytest.raises(ValueError, match=r"set SelectInstructions\.tuned"):
        SelectInstructions("run", ("a",), selection=Selection(rule="instruct_diff"))


def table() -> dict[str, np.ndarray]:
    some = {name: np.zeros(6) for name in COLUMNS}
    some["answer_loss"] = np.array([0.5, 1.2, 1.4, 3.0, np.nan, 1.3])
    some["answer_tokens"] = np.array([5.0, 50, 10, 7, 99, 8])
    some["ifd_loss_ratio"] = np.array([0.9, 1.1, 0.2, 0.5, 0.99, 0.7])
    some["ifd_ppl_ratio"] = np.array([0.1, 0.3, 0.2, 1.4, 0.9, np.nan])
    some["zlib_ratio"] = np.array([3.0, 1.0, 2.0, 5.0, 0.5, 4.0])
    some["d_nll"] = np.array([0.0, 1.0, 2.0, 3.0, np.nan, 9.0])
    some["d_entropy"] = np.array([0.0, 5.0, 1.0, 3.0, 0.0, 0.0])
    return some


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"rule": "highest"}, [3, 2, 5, 1, 0]),
        ({"rule": "lowest", "maximum": 1.4}, [0, 1, 5, 2]),
        ({"rule": "longest"}, [1, 2, 5, 3, 0]),
        ({"rule": "ifd_loss"}, [0, 5, 3, 2]),
        ({"rule": "ifd_ppl"}, [1, 2, 0]),
        ({"rule": "zlib", "minimum": 1.0}, [1, 2, 5, 3]),
        ({"rule": "instruct_diff", "end_share": 0.2}, [2, 3, 1]),
    ],
)
def test_ordered_rules(settings: dict[str, Any], rows: list[int]) -> None:
    assert admitted(table(), Selection(**settings)).tolist() == rows


def test_random_rules() -> None:
    edges = Buckets("edges", edges=(1.0, 1.5))
    cases: list[tuple[dict[str, Any], set[int]]] = [
        ({"rule": "random"}, {0, 1, 2, 3, 5}),
        ({"rule": "range", "minimum": 1.0, "maximum": 1.5}, {1, 2, 5}),
        ({"rule": "bucket", "buckets": edges, "chosen_buckets": (0, 2)}, {0, 3}),
    ]
    for settings, rows in cases:
        orders = {tuple(admitted(table(), Selection(**settings, seed=seed)).tolist()) for seed in range(20)}
        assert {frozenset(order) for order in orders} == {frozenset(rows)}
        assert len(orders) > 1
        assert len({tuple(admitted(table(), Selection(**settings, seed=3)).tolist()) for _ in range(3)}) == 1


def test_a_missing_package_is_reported_before_scoring(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ckwrap" else True)
    with pytest.raises(ImportError, match=r"needs ckwrap.*mindllm-jax\[select\]"):
        score(SelectInstructions("run", ("a",)), Path("nowhere"))
    with pytest.raises(FileNotFoundError):
        score(SelectInstructions("run", ("a",), selection=Selection(buckets=Buckets("quantiles"))), Path("nowhere"))


def test_budgets() -> None:
    tokens, one = np.array([10, 20, 30, 40, 5]), ["a"] * 5
    order = [3, 0, 1, 2, 4]
    assert take(order, tokens, one, max_conversations=2, max_tokens=None).chosen.tolist() == [3, 0]
    assert take(order, tokens, one, max_conversations=None, max_tokens=75).chosen.tolist() == [3, 0, 1, 4]
    assert take(order, tokens, one, max_conversations=None, max_tokens=None).chosen.tolist() == order
    new = take(order, tokens, one, max_conversations=3, max_tokens=None, is_new=lambda row: row != 0)
    assert new.chosen.tolist() == [3, 1, 2] and new.near_duplicates == 1


def test_balance() -> None:
    groups = ["a"] * 8 + ["b"] * 3 + ["c"]
    rows = take(range(12), np.full(12, 10), groups, max_conversations=8, max_tokens=None).chosen
    counts = [[groups[row] for row in rows].count(name) for name in "abc"]
    assert counts == [4, 3, 1], "what a small group lacks goes to the others"
    tokens = np.array([40, 40, 40, 10, 10, 10, 10, 10, 10, 10, 10, 10])
    rows = take(range(12), tokens, ["a"] * 3 + ["b"] * 9, max_conversations=None, max_tokens=160).chosen
    assert tokens[rows[rows < 3]].sum() == 80 and tokens[rows[rows >= 3]].sum() == 80


def test_a_conversation_that_does_not_fit_is_passed_over() -> None:
    tokens = np.array([10] * 100 + [1000])
    rows = take(range(101), tokens, ["a"] * 100 + ["b"], max_conversations=None, max_tokens=500).chosen
    assert len(rows) == 50
    longest = take(range(101)[::-1], tokens, [()] * 101, max_conversations=3, max_tokens=500).chosen
    assert longest.tolist() == [99, 98, 97]


def test_near_duplicates_are_passed_over() -> None:
    pytest.importorskip("datatrove")
    pytest.importorskip("opencc")
    from mindllm_jax.instruct.selection.near_duplicates import NearDuplicates

    text = "给出三个保持健康的秘诀。均衡饮食，多吃水果和蔬菜，定期锻炼，充足的睡眠。"
    texts = [text, text.replace("秘诀", "建议"), "写一首关于夏天的诗，押韵，四句，每句七个字。", "!!!", "?!", text]
    near = NearDuplicates(0.5)
    assert [near.add(signature) for signature in near.signatures(texts)] == [True, False, True, True, True, False]
    strict = NearDuplicates(0.95)
    assert [strict.add(signature) for signature in strict.signatures(texts[:2])] == [True, True]


def test_zip_order() -> None:
    rng = np.random.default_rng(0)
    random = ["".join(chr(97 + c) for c in rng.integers(0, 26, 200)) for _ in range(6)]
    texts = ["a" * 200, *random[:3], random[0], *random[3:]]
    order = list(zip_order(texts))
    assert sorted(order) == list(range(8))
    assert set(order[-2:]) < {0, 1, 4}, "what repeats itself or another comes last"
    assert set(order[-2:]) & {0} and set(order[-2:]) & {1, 4}

    def ratio(*chosen: str) -> float:
        content = "".join(f"{text}\n" for text in chosen).encode()
        return len(content) / len(zlib.compress(content, 9))

    assert ratio(texts[order[0]]) == pytest.approx(min(map(ratio, texts)))
    pairs = [ratio(texts[order[0]], text) for number, text in enumerate(texts) if number != order[0]]
    assert ratio(texts[order[0]], texts[order[1]]) == pytest.approx(min(pairs))


def test_rank_correlations() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    length = rng.normal(size=400)
    quality = np.round(length + rng.normal(size=400))
    score = length + 0.5 * rng.normal(size=400)
    quality[:5] = np.nan
    one = rank_correlations({"x": score, "few": np.where(np.arange(400) < 20, score, np.nan)}, quality, length)
    assert one.keys() == {"x"}
    x = one["x"]
    assert x.conversations == 395 and x.raw == pytest.approx(stats.spearmanr(score[5:], quality[5:]).statistic)
    assert x.raw_interval[0] < x.raw < x.raw_interval[1] and x.raw_interval[1] - x.raw_interval[0] < 0.2
    assert x.partial_interval[0] < 0 < x.partial_interval[1], "length tells all that the score does"
    assert math.isnan(rank_correlations({"length": length}, quality, length)["length"].partial)


@pytest.mark.long
def test_the_command(base: Path, write, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("ckwrap")
    rows = [
        {"en_instruction": f"Say {n}.", "en_output": "x" * (n + 2), "zh_instruction": "说", "zh_input": f"{n}",
         "zh_output": "好" * (n % 7 + 1), "metadata": {"score": n % 5}}
        for n in range(40)
    ]  # fmt: skip
    inputs = write(*rows, {"instruction": "Q", "output": ""}, name="scored.jsonl")
    workdir = tmp_path / "selection"
    settings = {
        "SelectInstructions.run": str(base),
        "SelectInstructions.inputs": f"('{inputs}',)",
        "SelectInstructions.batch_tokens": "960",
        "Selection.minimum": "None",
        "Selection.maximum": "None",
        "Selection.conversations": "10",
        "Selection.balance": "('lang',)",
        "Buckets.method": "'exact'",
        "Buckets.edges": "()",
    }
    words = ["--gin", "configs/instruct/select.gin", *(f"--gin.{name}={value}" for name, value in settings.items())]
    dry = launch("select_instructions.py", *words, "--workdir", str(workdir), "--dry_run")
    assert dry.returncode == 0 and "80 of" in dry.stdout and not workdir.exists(), dry.stderr
    run = launch("select_instructions.py", *words, "--workdir", str(workdir))
    assert run.returncode == 0, run.stderr
    assert "selection.jsonl" in run.stdout
    selected = list(read_conversations(workdir / "selection.jsonl"))
    assert len(selected) == 10 and [one.lang for one in selected].count("zh") == 5
    assert {one.dataset for one in selected} == {"scored"}
    lines = [json.loads(line) for line in (workdir / "selection.jsonl").read_text().splitlines()]
    assert all(math.isfinite(line["selection"]["score"]) and line["selection"]["bucket"] >= 0 for line in lines)
    assert [one.metadata.get("score") for one in selected] == [line.get("metadata", {}).get("score") for line in lines]
    (refused,) = map(json.loads, (workdir / "refused.jsonl").read_text().splitlines())
    assert refused["kind"] == "empty text" and refused["where"].endswith("scored.jsonl, line 41")
    page, tables = (workdir / "selection.html").read_text(), (workdir / "tables.md").read_text()
    assert page.count("<svg") == 2 and "1 empty text" in page
    assert "rank correlation" in tables and "ifd_ppl_ratio" in tables
    assert {"config.json", "command.json", "operative_config.gin"} <= {path.name for path in workdir.iterdir()}

    before = (workdir / "selection.jsonl").read_bytes()
    none = launch("select_instructions.py", *words, "--gin.Selection.minimum=1e9", "--workdir", str(workdir),
                  "--accept_changes")  # fmt: skip
    assert none.returncode == 2 and "selects none of 80 conversations" in none.stderr
    assert (workdir / "selection.jsonl").read_bytes() == before
    other = launch("select_instructions.py", *words, "--gin.Selection.rule='zip'", "--gin.Selection.balance=()",
                   f"--gin.SelectInstructions.scores={workdir}/scores", "--workdir", str(tmp_path / "zip"))  # fmt: skip
    assert other.returncode == 0, other.stderr
    assert (
        len((tmp_path / "zip/selection.jsonl").read_text().splitlines()) == 10
        and not (tmp_path / "zip/scores").exists()
    )
    own = launch("select_instructions.py", *words, "--gin.Selection.rule='highest'",
                 "--gin.Selection.score='record_score'",
                 f"--gin.SelectInstructions.scores={workdir}/scores", "--workdir", str(tmp_path / "own"))  # fmt: skip
    assert own.returncode == 0, own.stderr
    lines = [json.loads(line) for line in (tmp_path / "own/selection.jsonl").read_text().splitlines()]
    assert [line["selection"]["score"] for line in lines] == [4.0] * 10  # 16 of the 80 have it
    assert [line["metadata"]["score"] for line in lines] == [4.0] * 10


@pytest.mark.long
def test_an_own_score_that_no_record_has(base: Path, write, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    config = SelectInstructions(
        str(base), (str(write({"instruction": "Q", "output": "A"})),), batch_tokens=400,
        selection=Selection("highest", "record_score", Buckets("quantiles", 2)),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"'record_score': no record of SelectInstructions\.inputs has a number"):
        select(config, tmp_path / "selection", score(config, tmp_path / "selection"))


@pytest.mark.slow
def test_two_processes_score_as_one(base: Path, write, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    rows = [{"instruction": f"Q{n}", "output": f"答案 {n}" * (n % 5 + 1)} for n in range(30)]
    settings = {
        "SelectInstructions.run": str(base),
        "SelectInstructions.inputs": f"('{write(*rows)}',)",
        "SelectInstructions.batch_tokens": "400",
        "Selection.minimum": "None",
        "Selection.maximum": "None",
    }
    words = ["--gin", "configs/instruct/select.gin", *(f"--gin.{name}={value}" for name, value in settings.items())]
    command = [sys.executable, str(ROOT / "launch/select_instructions.py"), *words, "--workdir"]
    several = launch("local_cluster.py", "--processes", "2", "--devices", "2", "--", *command, str(tmp_path / "two"))
    alone = launch("select_instructions.py", *words, "--workdir", str(tmp_path / "one"))
    assert several.returncode == 0 and alone.returncode == 0, several.stderr + alone.stderr
    two, one = (ScoreShards(tmp_path / name / "scores").columns().to_pylist() for name in ("two", "one"))
    assert len(two) == len(one) == 30
    for a, b in zip(two, one, strict=True):
        assert a["answer_nll"] == pytest.approx(b["answer_nll"], rel=1e-4)
        assert a["answer_entropy"] == pytest.approx(b["answer_entropy"], rel=1e-4)
