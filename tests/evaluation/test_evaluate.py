import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest
from flax import nnx

from mindllm_jax.configuration import command_line, load
from mindllm_jax.evaluation import evaluate as evaluation
from mindllm_jax.evaluation import held_out
from mindllm_jax.evaluation.bilingual import Bilingual
from mindllm_jax.evaluation.bits_per_byte import split_bits
from mindllm_jax.evaluation.compression import NGram, xz_bits
from mindllm_jax.evaluation.evaluate import Evaluate, evaluate, preview, require_all_tasks
from mindllm_jax.evaluation.harness.model import HarnessRequests
from mindllm_jax.evaluation.protocol import Protocol
from mindllm_jax.evaluation.report import read_result, report_markdown, results_table
from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.store.store import TokenStore
from mindllm_jax.store.texts import split_texts
from mindllm_jax.training.load_run import load_decoder, read_run

ROOT = Path(__file__).parents[2]


ITEM = {"context": "第一条　公民的", "choices": ["甲。", "乙。", "丙。", "丁。"], "answer": 2}


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A data folder with three items of the continuation task, and of the generating one."""
    folder = tmp_path / "data"
    for name in ("continuation/zh", "gen_demo/default"):
        path = folder / f"mindllm/{name}/test.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(ITEM | {"id": str(n)}) + "\n" for n in range(3)))
    return str(folder)


@pytest.fixture(scope="module")
def trained(run: Path) -> dict:
    return evaluate(Evaluate(str(run)))


def test_the_latest_checkpoint_is_measured_on_its_own_store(run: Path, store: TokenStore, trained: dict) -> None:
    decoder = load_decoder(run).decoder
    laws, novel = (split_bits(decoder, store, source, 32) for source in ("laws", "novel"))
    assert trained["step"] == 5 and trained["store"] == store.url and trained["sequence_length"] == 32
    assert trained["bits_per_byte"]["zh"] == pytest.approx((laws + novel).per_byte, rel=1e-6)
    assert trained["bits_per_byte_of_sources"]["laws"] == pytest.approx(laws.per_byte, rel=1e-6)
    assert trained["held_out_bytes"] == {
        "en": store.split("wiki", "held_out").bytes,
        "zh": store.split("laws", "held_out").bytes + store.split("novel", "held_out").bytes,
    }
    assert json.loads(json.dumps(trained)) == trained


def test_compressors_see_the_same_bytes(store: TokenStore, trained: dict) -> None:
    held_out = list(split_texts(store, "wiki", "held_out"))
    size, five_gram = sum(map(len, held_out)), NGram(split_texts(store, "wiki", "train"), 5)
    beside = trained["baselines"]["en"]
    assert beside["xz -9"] == pytest.approx(xz_bits(held_out) / size)
    assert beside["byte 5-gram"] == pytest.approx(five_gram.bits(held_out) / size)
    assert beside["counted_bytes"] == store.split("wiki", "train").bytes


def test_bits_per_byte_by_position_add_up(trained: dict) -> None:
    for language, places in trained["bits_per_byte_by_position"].items():
        for parts in places.values():
            total = sum(part["bits"] for part in parts) / sum(part["bytes"] for part in parts)
            assert total == pytest.approx(trained["bits_per_byte"][language], rel=1e-6)
    assert "| tokens before |" in report_markdown(trained).replace("  ", " ")


def test_translations_are_measured_where_there_are_files(run: Path, tmp_path: Path) -> None:
    for language, words in (("en", "mill river miles"), ("zh", "天下 公民 财产")):
        (tmp_path / language).write_text("".join(f"{word}\n" for word in words.split()), encoding="utf-8")
    config = Evaluate(str(run), bits_per_byte=False, bilingual=Bilingual((str(tmp_path / "en"), str(tmp_path / "zh"))))
    assert "pairs of sentences" in preview(config).markdown()
    result = evaluate(config, tmp_path / "out")
    assert result["bilingual"]["sentences"] == 3 and {"en-zh", "zh-en"} < result["bilingual"].keys()
    assert "retrieval" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert read_result(tmp_path / "out" / "eval.json") == result
    shown = results_table({"step 7": result})
    assert [str(row[0]) for row in shown.rows[:2]] == ["retrieval, en-zh, %", "gain_over_none, en-zh"]


def test_before_training_and_another_step(run: Path, trained: dict) -> None:
    fresh = evaluate(Evaluate(str(run), untrained=True, baselines=False))
    earlier = evaluate(Evaluate(str(run), step=3, baselines=False))
    assert fresh["step"] == 0 and earlier["step"] == 3
    assert len({result["bits_per_byte"]["zh"] for result in (fresh, earlier, trained)}) == 3
    assert "baselines" not in fresh and "tasks" not in fresh


def test_the_training_tokens_of_an_imported_model_are_unknown(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = read_run(run)
    imported = record.identity | {"source": {"format": "GGUF"}, "position": {"rows": 0, "tokens": 0}}
    monkeypatch.setattr(evaluation, "read_run", lambda *_: record._replace(identity=imported))
    config = Evaluate(str(run), baselines=False)
    results = [evaluate(config), evaluate(dataclasses.replace(config, untrained=True))]
    assert [result["training_tokens"] for result in results] == [None, 0]
    assert results[0]["weights"] != results[1]["weights"]


def test_it_computes_in_the_dtype_that_is_decided_on_and_says_so(run: Path, trained: dict) -> None:
    def bfloat16(model: Model) -> Model:
        return dataclasses.replace(model, compute_dtype="bfloat16")

    other = evaluate(Evaluate(str(run), baselines=False), resolve_model=bfloat16)
    assert (trained["compute_dtype"], other["compute_dtype"]) == ("float32", "bfloat16")
    assert 0 < abs(other["bits_per_byte"]["zh"] - trained["bits_per_byte"]["zh"]) < 0.05


def test_the_preview_tabulates_the_work(run: Path, store: TokenStore, decoder: Decoder, data: str) -> None:
    text = preview(Evaluate(str(run), sequence_length=16, tasks=("continuation_zh",), data=data, samples=2)).markdown()
    tokens = sum(store.split(source, "held_out").tokens for source in store.sources)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(decoder)))
    for told in (
        f"{tokens:,} of wiki, laws, novel, in rows of 16",
        f"{parameters:,}",
        "checkpoints/5",
        "| items of continuation_zh | 2 |",
    ):
        assert told in text


def test_a_store_of_another_tokenizer_is_refused(run: Path, store: TokenStore, tmp_path: Path) -> None:
    manifest = json.loads((Path(store.url) / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"tokenizer_sha256": "0" * 64}))
    with pytest.raises(ValueError, match="was written with another tokenizer"):
        evaluate(Evaluate(str(run), store=str(tmp_path)))


def test_bad_settings_raise_before_the_work(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        evaluate(Evaluate(str(tmp_path)))
    with pytest.raises(FileNotFoundError, match=r"there is no token store at .*absent"):
        evaluate(Evaluate(str(run), store=str(tmp_path / "absent")))
    with pytest.raises(ValueError, match=r"sequence_length = 65 is longer than the run's Model\.max_seq_len = 64"):
        evaluate(Evaluate(str(run), sequence_length=65))
    with pytest.raises(ValueError, match=r"Evaluate\.batch_size = 0: must be at least 1"):
        Evaluate(str(run), batch_size=0)
    with pytest.raises(ValueError, match=r"Evaluate\.shots = \{'piqa': -1\}: must be at least 0"):
        Evaluate(str(run), tasks=("piqa",), shots={"piqa": -1})
    with pytest.raises(ValueError, match="there is nothing to evaluate"):
        evaluate(Evaluate(str(run), bits_per_byte=False))
    with pytest.raises(ValueError, match=r"Protocol\.first_token: .* has no symbol '<dok>'; did you mean '<doc>'"):
        evaluate(Evaluate(str(run), protocol=Protocol(first_token="<dok>")))


def test_a_task_that_cannot_run_raises_before_the_work(
    run: Path, generating: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out, "split_bits", None)  # the work
    with pytest.raises(ValueError, match=r"task 'gen_demo' generates .* = 256 tokens, .* Model\.max_seq_len = 64"):
        evaluate(Evaluate(str(run), tasks=(generating,), data=data), tmp_path / "out")
    with pytest.raises(ValueError, match=r"Evaluate\.max_gen_toks = 0: must be at least 1"):
        Evaluate(str(run), max_gen_toks=0)
    with pytest.raises(
        FileNotFoundError, match=r"Evaluate\.against: .* holds no samples_TASK\.jsonl of continuation_zh"
    ):
        evaluate(Evaluate(str(run), tasks=("continuation_zh",), data=data, against=data), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_results_are_kept_when_a_later_part_fails(
    run: Path, trained: dict, generating: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the task that failed is answered, and the other one is not asked again."""
    asked: list[str] = []

    def failing(self: Any, requests: list[Any]) -> list[str]:
        asked.append("generate")
        assert read_result(tmp_path / "eval.json")["bits_per_byte"] == trained["bits_per_byte"]
        raise KeyError("a field")

    config = Evaluate(str(run), tasks=(generating, "continuation_zh"), data=data, max_gen_toks=4)
    with monkeypatch.context() as patch:
        patch.setattr(HarnessRequests, "generate_until", failing)
        accepted: list[str] = []
        result = evaluate(config, tmp_path, accepted.append)
    assert accepted == ["float32"] and asked == ["generate"]
    assert result["failed_tasks"] == {"gen_demo": "KeyError: 'a field'"}
    with pytest.raises(ValueError, match=r"1 of 2 tasks failed; .*\n  gen_demo: KeyError: 'a field'"):
        require_all_tasks(result)
    assert list(result["tasks"]) == ["continuation_zh"] and result["tasks"]["continuation_zh"]["items"] == 3
    assert list(result["baselines"]) == ["en", "zh"] and result["protocol"]["seam"] == "together"
    assert read_result(tmp_path / "eval.json") == result
    assert "- gen_demo: KeyError: 'a field'" in (tmp_path / "report.md").read_text()

    monkeypatch.setattr(HarnessRequests, "_scored", failing)
    again = evaluate(config, tmp_path)
    require_all_tasks(again)
    assert again["tasks"]["continuation_zh"] == result["tasks"]["continuation_zh"]
    assert {path.name for path in tmp_path.glob("*.*")} >= {
        *("eval.json", "report.md", "results.json", "prompts.html", "answers.jsonl"),
        *("samples_gen_demo.jsonl", "samples_continuation_zh.jsonl"),
    }
    assert json.loads((tmp_path / "results.json").read_text())["n-samples"].keys() == {"gen_demo", "continuation_zh"}


@pytest.mark.long
def test_another_evaluation_is_compared_item_by_item(run: Path, data: str, tmp_path: Path) -> None:
    """The parameters of step 5 are those of step 3, larger, so that no answer differs but every likelihood does."""
    config = Evaluate(str(run), step=3, bits_per_byte=False, tasks=("continuation_zh",), data=data)
    earlier = evaluate(config, tmp_path / "3")["tasks"]["continuation_zh"]
    other = dataclasses.replace(config, step=5, against=str(tmp_path / "3"), shots={"continuation_zh": 1})
    assert evaluate(other)["against_differs"] == ["shots.continuation_zh: there 0, here 1"]
    later = evaluate(dataclasses.replace(other, shots={}), tmp_path / "5")
    assert later["against_differs"] == []
    task = later["tasks"]["continuation_zh"]
    assert task["against"]["bits_per_byte"]["items"] == 3
    expected = task["bits_per_byte"] - earlier["bits_per_byte"]
    assert task["against"]["bits_per_byte"]["difference"] == pytest.approx(expected) and expected != 0
    assert f"## Compared with {tmp_path / '3'}" in (tmp_path / "5/report.md").read_text()
    assert "bits_per_byte" not in later


@pytest.mark.long
def test_results_of_another_evaluation_do_not_stay_in_the_folder(
    run: Path, generating: str, data: str, tmp_path: Path
) -> None:
    """The samples of a task that the later one does not run would else be compared as if they were its own."""
    both = Evaluate(str(run), bits_per_byte=False, tasks=(generating, "continuation_zh"), data=data, max_gen_toks=4)
    samples = tmp_path / "samples_gen_demo.jsonl"
    evaluate(both, tmp_path)
    one = dataclasses.replace(both, tasks=("continuation_zh",))
    evaluate(one, tmp_path)
    assert samples.exists()  # of the same weights and settings
    for other in ({"samples": 2}, {"seed": 1}, {"step": 3}, {"protocol": Protocol(seam="apart")}, {"untrained": True}):
        samples.touch()
        evaluate(dataclasses.replace(one, **other), tmp_path)
        assert not samples.exists(), other
    assert (tmp_path / "samples_continuation_zh.jsonl").exists() and (tmp_path / "answers.jsonl").exists()
    evaluate(dataclasses.replace(one, samples=2), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["config"]["limit"] == 2
    with pytest.raises(ValueError, match=r"Evaluate\.against = .* is the workdir; give the folder of another"):
        evaluate(dataclasses.replace(one, against=str(tmp_path)), tmp_path)


@pytest.mark.long
def test_results_stay_until_others_are_there(
    run: Path, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on another processor, where another dtype is the fastest, and the evaluation ends early."""
    config = Evaluate(str(run), bits_per_byte=False, tasks=("continuation_zh",), data=data)
    evaluate(config, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def bfloat16(model: Model) -> Model:
        return dataclasses.replace(model, compute_dtype="bfloat16")

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "harness_model", lambda *_, **settings: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate(config, tmp_path / "out", resolve_model=bfloat16)
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    evaluate(config, tmp_path / "out", resolve_model=bfloat16)
    assert "replaced:\n  compute_dtype: was 'float32', is now 'bfloat16'" in caplog.text


@pytest.mark.parametrize("path", sorted((ROOT / "configs/eval").glob("*.gin")), ids=lambda path: path.stem)
def test_configs_parse(path: Path) -> None:
    config = load(Evaluate, command_line(None, ["--gin", str(path), "--gin.Evaluate.run=runs/x"]))
    assert config.run == "runs/x"


def command(run: Path, workdir: Path) -> list[str]:
    return [sys.executable, str(ROOT / "launch/eval.py"), f"--gin.Evaluate.run={run}", "--workdir", str(workdir)]


@pytest.mark.long
def test_the_command_writes_and_shows_its_result(run: Path, trained: dict, data: str, tmp_path: Path) -> None:
    """In a process of its own, which leaves nothing outside its workdir."""
    home = tmp_path / "home"
    home.mkdir()
    tasks = ("--gin.Evaluate.tasks=('continuation_zh',)", f"--gin.Evaluate.data={data}")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "HF_"))}
    done = subprocess.run(
        [*command(run, tmp_path / "out"), *tasks],
        env=environment | {"HOME": str(home)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out/eval.json").read_text())
    assert result["bits_per_byte"] == pytest.approx(trained["bits_per_byte"], rel=1e-6)
    assert result["tasks"]["continuation_zh"]["items"] == 3
    assert "bits per byte, zh" in done.stdout and "step 5" in done.stdout
    accuracy = result["tasks"]["continuation_zh"]["acc"]
    shown = next(line.split() for line in done.stdout.splitlines() if "acc, continuation_zh, %" in line)
    assert 0 <= accuracy <= 1 and f"{100 * accuracy:.1f}" in shown and "25.0" in shown
    assert f"continuation_zh: acc {100 * accuracy:.1f} %;" in done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} > {"config.gin", "operative_config.gin", "eval.json"}
    assert not [path for path in home.rglob("*") if path.is_file() and ".cache/mindllm-jax" not in str(path)]


@pytest.mark.slow
def test_two_processes_give_the_results_of_one(run: Path, trained: dict, data: str, tmp_path: Path) -> None:
    """Bits, likelihoods and generations."""
    for split in ("train", "test"):
        path = Path(data) / f"openai/gsm8k/main/{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps({"question": f"{n}?", "answer": f"#### {n}"}) + "\n" for n in range(5)))
    tasks = ("continuation_zh", "gsm8k")
    settings = [f"--gin.Evaluate.tasks={tasks}", f"--gin.Evaluate.data={data}", "--gin.Evaluate.max_gen_toks=4"]
    cluster = [sys.executable, str(ROOT / "launch/local_cluster.py"), "--processes", "2", "--devices", "2", "--"]
    every = [*cluster, *command(run, tmp_path / "out"), *settings, "--gin.Evaluate.shots={'gsm8k': 0}"]
    done = subprocess.run(every, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out/eval.json").read_text())
    assert result["bits_per_byte"] == pytest.approx(trained["bits_per_byte"], rel=1e-6)
    assert done.stdout.count("bits per byte, zh") == 1
    config = Evaluate(str(run), bits_per_byte=False, tasks=tasks, data=data, max_gen_toks=4, shots={"gsm8k": 0})
    alone = evaluate(config, tmp_path / "alone")
    assert result["tasks"]["continuation_zh"] == pytest.approx(alone["tasks"]["continuation_zh"], rel=1e-5)
    samples = [(tmp_path / f"{name}/samples_gsm8k.jsonl").read_text() for name in ("out", "alone")]
    answers = [[json.loads(line)["resps"] for line in content.splitlines()] for content in samples]
    assert answers[0] == answers[1] and len(answers[0]) == 10  # of two filters


def test_the_command_ends_bad_input_with_one_message(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path, tmp_path / "out"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"error: {tmp_path} holds no checkpoint; give the --workdir of a finished or interrupted run"
    )
