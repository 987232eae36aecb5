"""Files into a store: the files of a source, and messages that name bad input."""

import dataclasses
import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mindllm_jax.corpus.report.source_summary import SourceSummary, rows
from mindllm_jax.store import prepare
from mindllm_jax.store.prepare import PrepareData, inputs_table, prepare_data, store_table

ROOT = Path(__file__).parent.parent.parent
FIXTURES = ROOT / "tests" / "fixtures"

Prepare = Callable[..., PrepareData]


def line(id: str, text: str = "some text", source: str = "a", lang: str = "en") -> str:
    return json.dumps({"id": id, "text": f"{text} {id}", "source": source, "lang": lang}) + "\n"


@pytest.fixture
def config(tmp_path: Path) -> Prepare:
    (tmp_path / "in").mkdir()

    def make(files: dict[str, str | bytes], **changes: object) -> PrepareData:
        for name, content in files.items():
            (tmp_path / "in" / name).write_bytes(content.encode() if isinstance(content, str) else content)
        settings = {"tokenizer": str(FIXTURES / "tokenizer.model"), "store": str(tmp_path / "store"), "held_out": 0.2}
        return PrepareData(inputs=(str(tmp_path / "in"),), **(settings | changes))  # pyright: ignore[reportArgumentType]

    return make


def test_sources_are_what_the_documents_say(config: Prepare) -> None:
    files = {
        "1.jsonl": line("1"),
        "2.jsonl.gz": gzip.compress(line("2").encode()),
        "3.jsonl": line("1", source="b", lang="zh"),
    }
    settings = config(files)
    prepared = prepare_data(settings)
    assert prepared.written == ["a", "b"]
    sources = prepared.store.sources
    assert {name: source.language for name, source in sources.items()} == {"a": "en", "b": "zh"}
    assert sorted(sources["a"].inputs.values()) == ["1.jsonl", "2.jsonl.gz"]
    assert sum(split.documents for split in sources["a"].splits.values()) == 2
    assert "| a" in store_table(prepared).markdown()
    assert "all of zh" in store_table(prepared).markdown()
    assert "1.jsonl, 2.jsonl.gz" in inputs_table(settings).markdown()
    again = prepare_data(settings)
    assert again.written == []
    assert "kept" in store_table(again).markdown()


def test_a_store_that_holds_nothing_out_is_reported(config: Prepare, caplog: pytest.LogCaptureFixture) -> None:
    settings = config({"1.jsonl": line("1") + line("2"), "2.jsonl": line("1", source="b")}, held_out=1e-9)
    prepare_data(settings)
    assert "none of the 3 documents of" in caplog.text and "raise PrepareData.held_out = 1e-09" in caplog.text
    caplog.clear()
    prepare_data(dataclasses.replace(settings, held_out=0.0, store=f"{settings.store}_all"))
    assert not caplog.text, "that is what was asked for"


def test_a_renamed_file_is_the_same_and_a_changed_one_is_not(config: Prepare, tmp_path: Path) -> None:
    settings = config({"1.jsonl": line("1")})
    prepare_data(settings)
    (tmp_path / "in" / "1.jsonl").rename(tmp_path / "in" / "2.jsonl")
    assert prepare_data(settings).written == []
    config({"2.jsonl": line("1") + line("2")})
    with pytest.raises(ValueError, match=r"since then 2\.jsonl changed; set PrepareData\.rebuild = True"):
        prepare_data(settings)
    assert prepare_data(config({}, rebuild=True)).written == ["a"]


def test_a_file_that_the_store_has_under_another_name_is_refused(config: Prepare, tmp_path: Path) -> None:
    unnamed = json.dumps({"text": "some text", "lang": "en"}) + "\n"
    settings = config({"w.jsonl": unnamed})
    assert prepare_data(settings).written == ["w"]
    (tmp_path / "in/w.jsonl").rename(tmp_path / "in/w.00001.jsonl")
    for rebuild in (False, True):
        with pytest.raises(ValueError, match=r"source w\.00001: its input w\.00001\.jsonl is in the .* as 'w'"):
            prepare_data(dataclasses.replace(settings, rebuild=rebuild))
    config({"w.00001.jsonl": json.dumps({"text": "some text", "lang": "en", "source": "w"}) + "\n"})
    assert prepare_data(dataclasses.replace(settings, rebuild=True)).written == ["w"]
    assert set(prepare_data(settings).store.sources) == {"w"}


def test_lines_left_out_are_counted(config: Prepare) -> None:
    files: dict[str, str | bytes] = {"1.jsonl": line("1") + "{\n" + line("2") + line("1") + '{"lang": "en"}\n'}
    prepared = prepare_data(config(files, on_bad="skip"))
    assert prepared.skipped == {"wrong JSON": 1, "duplicate id": 1, "no text": 1}
    assert sum(split.documents for split in prepared.store.sources["a"].splits.values()) == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1.jsonl": line("1") + line("1")}, r"1\.jsonl, line 2: the id '1' was seen before in source 'a'"),
        ({"1.jsonl": line("1"), "2.jsonl": line("1")}, r"2\.jsonl, line 1: the id '1' was seen before"),
        ({"1.jsonl": line("1") + "{"}, r"1\.jsonl, line 2: wrong JSON"),
        ({"1.jsonl": line("1") + '{"lang": "en"}'}, r"1\.jsonl, line 2: no `text`"),
        ({"1.jsonl": line("1").encode() + b"\xff\n"}, r"1\.jsonl, line 2: not UTF-8"),
        ({"1.jsonl.gz": gzip.compress((line("1") * 9).encode())[:-20]}, r"1\.jsonl\.gz is cut off"),
        ({"1.jsonl": ""}, r"1\.jsonl holds no document"),
        ({}, r"in holds no \.jsonl or \.jsonl\.gz file"),
        (
            {"1.jsonl": line("1") + line("2", source="b")},
            r"the document '2' is of source 'b' in 'en', others",
        ),
        ({"1.jsonl": line("1") + line("2", lang="zh")}, "is of source 'a' in 'zh', others before it of 'a' in 'en'"),
        (
            {"1.jsonl": line("1"), "2.jsonl": line("2", lang="zh")},
            r"2\.jsonl is in 'zh', .*1\.jsonl of the same source 'a' in 'en'; .* or the name of the file",
        ),
    ],
)
def test_bad_input(config: Prepare, files: dict[str, str | bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_data(config(files))


def test_the_table_of_the_inputs_finds_a_source_in_two_languages_and_takes_no_checksum(
    config: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_all(file: Path) -> str:
        raise AssertionError(f"reads all of {file}")

    monkeypatch.setattr(prepare, "sha256", read_all)
    assert "1.jsonl" in inputs_table(config({"1.jsonl": line("1")})).markdown()
    with pytest.raises(ValueError, match="of the same source 'a' in 'en'"):
        inputs_table(config({"2.jsonl": line("2", lang="zh")}))


def test_an_empty_file_is_counted_with_the_lines_left_out(config: Prepare) -> None:
    prepared = prepare_data(config({"1.jsonl": line("1"), "2.jsonl": "\n"}, on_bad="skip"))
    assert prepared.skipped == {"empty file": 1}
    with pytest.raises(ValueError, match=r"no input file holds a document: .*2\.jsonl"):
        prepare_data(config({"1.jsonl": ""}, on_bad="skip"))


def test_sources_that_no_input_has_are_reported(config: Prepare, caplog: pytest.LogCaptureFixture) -> None:
    files: dict[str, str | bytes] = {name: line("1", source=name) for name in ("b.jsonl", "c.jsonl")}
    settings = config(files)
    prepare_data(settings)
    assert "none of the inputs" not in caplog.text
    Path(settings.inputs[0], "c.jsonl").unlink()
    assert set(prepare_data(settings).store.sources) == {"b.jsonl", "c.jsonl"}, "they may come from another command"
    assert "has also sources that none of the inputs has: c.jsonl; " in caplog.text


def test_missing_files_raise(config: Prepare, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no tokenizer .*none\.model"):
        prepare_data(config({"1.jsonl": line("1")}, tokenizer=str(tmp_path / "none.model")))
    with pytest.raises(ValueError, match=r"PrepareData\.held_out must be at least 0 and below 1, not 1\.0"):
        config({}, held_out=1.0)


def test_either_a_corpus_or_inputs(tmp_path: Path) -> None:
    for given in ({}, {"corpus": "c", "inputs": ("i",)}):
        with pytest.raises(ValueError, match=r"either a cleaned corpus \(PrepareData\.corpus\) or files of documents"):
            PrepareData("t.model", "store", **given)
    with pytest.raises(FileNotFoundError, match=r"is not a finished corpus: it has no card\.json"):
        inputs_table(PrepareData("t.model", "store", corpus=str(tmp_path)))


def test_a_cleaned_corpus_is_read_and_its_card_gets_the_tokens(tmp_path: Path) -> None:
    summary = SourceSummary(documents=2, lengths=Counter({"3": 2}), entropies=Counter({"1.5": 2}))
    card: dict[str, Any] = {
        "sources": rows({("en", "a"): summary, ("zh", "b"): summary}),
        "outcomes": [],
        "seconds": [],
    }
    card |= {"benchmarks": {}, "settings": {}, "made": {"date": "", "command": "", "commit": "", "versions": {}}}
    card |= {"clusters": dict.fromkeys(("clusters", "largest", "removed"), 0), "scores": {}, "tokens": {}}
    (tmp_path / "card.json").write_text(json.dumps(card))
    for lang, source in (("en", "a"), ("zh", "b")):
        folder = tmp_path / "documents" / lang / source
        folder.mkdir(parents=True)
        for shard in range(2):
            text = line(f"{shard}", source=source, lang=lang)
            (folder / f"{shard:05d}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    settings = PrepareData(str(FIXTURES / "tokenizer.model"), str(tmp_path / "store"), str(tmp_path), held_out=0.2)
    assert prepare_data(settings).written == ["a", "b"]
    tokens = json.loads((tmp_path / "card.json").read_text())["tokens"]
    assert set(tokens) == {"a", "b"} and min(tokens.values()) > 0
    assert (tmp_path / "card.html").exists()


def test_a_tokenizer_is_trained_where_an_interrupted_training_left_its_report(config: Prepare, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{}")
    text = (FIXTURES / "documents.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    files: dict[str, str | bytes] = {"zh.jsonl": "".join(line for line in text if '"lang": "zh"' in line)}
    settings = config(files, tokenizer=str(tmp_path / "t.model"), train_vocab_size=600)
    assert prepare_data(settings).store.manifest.vocab_size == 600


def launch(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"launch/{script}.py", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_two_commands(tmp_path: Path) -> None:
    model, store = tmp_path / "t.model", tmp_path / "store"
    for lang in ("zh", "en"):
        lines = (FIXTURES / "documents.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / f"{lang}.jsonl").write_text("".join(x for x in lines if f'"lang": "{lang}"' in x), encoding="utf-8")
    inputs = f"('{tmp_path / 'zh.jsonl'}', '{tmp_path / 'en.jsonl'}')"
    train = [f"--gin.TrainTokenizer.{x}" for x in (f"inputs={inputs}", f"output={model}", "vocab_size=600")]
    assert "2 files of" in launch("train_tokenizer", train[0], "--dry_run").stdout
    done = launch("train_tokenizer", *train)
    assert done.returncode == 0, done.stderr
    assert "bytes per token" in done.stdout
    given = [f"--gin.PrepareData.{x}" for x in (f"inputs={inputs}", f"tokenizer={model}", f"store={store}")]
    assert "fixture_zh" in launch("prepare_data", given[0], "--dry_run").stdout
    assert not store.exists()
    done = launch("prepare_data", *given, "--workdir", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert "all of zh" in done.stdout
    assert (tmp_path / "run" / "config.json").exists()
    model.unlink()
    done = launch("prepare_data", *given)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: there is no tokenizer {model}; train one with launch/train_tokenizer.py"
    ]
