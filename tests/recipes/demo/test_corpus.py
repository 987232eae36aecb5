"""The corpus of the demo, built from small files of its three formats and from a folder of user-supplied text."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mindllm_jax.recipes.demo.corpus import CONTINUATIONS, DemoCorpus, build
from mindllm_jax.recipes.demo.sources import WIKIPEDIA
from mindllm_jax.text.documents import held_out, read_documents

ROOT = Path(__file__).parents[3]
FRACTION = 0.3


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def no_log(_: str) -> None:
    pass


@pytest.fixture
def pinned(tmp_path, statutes, novel, dump) -> DemoCorpus:
    """A configuration with small files in place of the downloads."""
    raw = tmp_path / "corpus.partial" / "raw"
    raw.mkdir(parents=True)
    article = "本法第{law}号所称的第{n}种活动，是指在规定的地方和时间进行的公开活动，其第{n}种办法由有关机关规定。"
    articles = [
        (f"第{law}号法", "现行有效", "第一章 总则", None, f"第{n}条", article.format(law=law, n=n))
        for law in range(20)
        for n in range(12)
    ]
    statutes(raw / "laws.db", articles)
    novel(raw / "sanguo_docs.json", [f"第{n}回\n\n\t话说第{n}回的天下大势。" for n in range(12)])
    paragraph = (
        "The {n}th paragraph of page {p} says one thing at length here."
        " Its second sentence says {n} other things, also at length, to the end."
    )
    markup = {f"Page {p}": "\n\n".join(paragraph.format(n=n, p=p) for n in range(8)) for p in range(12)}
    dump(raw / Path(WIKIPEDIA.member).name, markup)
    return DemoCorpus(directory=str(tmp_path / "corpus"), held_out=FRACTION)


def test_a_second_build_at_once_is_refused(pinned):
    """Its first act is to clear the folder that the first one writes."""
    refused = []

    def log(line: str) -> None:
        if line.startswith("reading"):
            with pytest.raises(ValueError, match=r"corpus\.building is in use by another build of the corpus"):
                build(pinned, no_log)
            refused.append(line)

    build(pinned, log)
    assert len(refused) == 3 and build(pinned, no_log).rows
    assert not list(Path(pinned.directory).parent.glob("*.building"))


def test_every_file_is_written_and_split_by_document(pinned):
    table = build(pinned, no_log)
    directory = Path(pinned.directory)
    assert [row[:3] for row in table.rows] == [
        ("laws_zh", "zh", 20),
        ("novel_zh", "zh", 12),
        ("wikipedia_en", "en", 12),
    ]
    documents = {d.id: d for file in sorted((directory / "documents").iterdir()) for d in read_documents(file)}
    assert len(documents) == 44
    assert "CC BY-SA 3.0" in (directory / "SOURCES.md").read_text()
    for side in ("train", "held_out"):
        for lang in ("zh", "en"):
            instructions = rows(directory / "instructions" / side / f"{lang}.jsonl")
            assert instructions
            for row in instructions:
                assert held_out(row["id"].split("#")[0], FRACTION) == (side == "held_out")
                assert row["lang"] == lang
    for lang in ("zh", "en"):
        task = rows(directory / CONTINUATIONS / lang / "test.jsonl")
        assert task
        for item in task:
            document = item["id"].split("#")[0]
            assert held_out(document, FRACTION)
            assert item["context"] + item["choices"][item["answer"]] in documents[document].text


def test_a_finished_corpus_is_left_as_it_is_and_another_is_refused(pinned):
    first = build(pinned, no_log)
    before = {path: path.stat().st_mtime_ns for path in Path(pinned.directory).rglob("*")}
    messages = []
    assert build(pinned, messages.append) == first
    assert messages == [f"{pinned.directory} is complete"]
    assert {path: path.stat().st_mtime_ns for path in Path(pinned.directory).rglob("*")} == before
    with pytest.raises(ValueError, match=r"has a corpus of other settings \(seed was 0 and is 1\); delete it or"):
        build(DemoCorpus(directory=pinned.directory, held_out=FRACTION, seed=1), no_log)


def test_an_interrupted_build_resumes(pinned):
    def interrupted(message: str) -> None:
        if "wikipedia" in message:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(pinned, interrupted)
    assert not Path(pinned.directory).exists()
    assert len(build(pinned, no_log).rows) == 3


def test_a_damaged_download_raises(pinned):
    path = Path(f"{pinned.directory}.partial/raw") / Path(WIKIPEDIA.member).name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"is damaged .*delete it and fetch it again"):
        build(pinned, no_log)


def write_text(folder: Path, lines: int = 60, **fields) -> Path:
    folder.mkdir(exist_ok=True)
    with open(folder / "notes.jsonl", "w") as file:
        for n in range(lines):
            note = (
                "Note {n}.{k} begins with one sentence of some length, which says this much."
                " It then goes on for {k} more and ends the note {n}.{k} quite late."
            )
            text = "\n".join(note.format(n=n, k=k) for k in range(6))
            file.write(json.dumps({"text": text, "id": f"n{n}", **fields}) + "\n")
    return folder


def test_user_supplied_text(tmp_path):
    config = DemoCorpus(
        directory=str(tmp_path / "out"),
        text=str(write_text(tmp_path / "in", lang="en")),
        held_out=FRACTION,
        instructions=50,
    )
    (row,) = build(config, no_log).rows
    assert row[:3] == ("notes", "en", 60)
    assert len(rows(tmp_path / "out/instructions/train/en.jsonl")) == 50
    assert rows(tmp_path / "out" / CONTINUATIONS / "en/test.jsonl")
    assert not (tmp_path / "out/SOURCES.md").exists()
    write_text(tmp_path / "in", lines=61, lang="en")
    with pytest.raises(ValueError, match=r"other settings .*files"):
        build(config, no_log)


def test_bad_lines_of_user_supplied_text(tmp_path):
    config = DemoCorpus(directory=str(tmp_path / "out"), text=str(write_text(tmp_path / "in")), held_out=FRACTION)
    with pytest.raises(ValueError, match=r'notes\.jsonl, line 1: no `lang`; .*\(lang = "zh"\)'):
        build(config, no_log)
    with open(tmp_path / "in/notes.jsonl", "a") as file:
        file.write("{}\n")
    messages = []
    build(
        DemoCorpus(directory=config.directory, text=config.text, lang="en", on_bad="skip", held_out=FRACTION),
        messages.append,
    )
    assert "skipped 1 lines: no text" in messages


def test_an_empty_file_of_user_supplied_text_is_no_source(tmp_path):
    folder = write_text(tmp_path / "in", lang="en")
    (folder / "empty.jsonl").touch()
    config = DemoCorpus(directory=str(tmp_path / "out"), text=str(folder), on_bad="skip", held_out=FRACTION)
    assert [row[0] for row in build(config, no_log).rows] == ["notes"]
    assert [file.name for file in (tmp_path / "out/documents").iterdir()] == ["notes.jsonl"]


def test_invalid_corpora_raise(tmp_path):
    folder = write_text(tmp_path / "in", lines=1, lang="en")
    with pytest.raises(ValueError, match=r"no document was held out at DemoCorpus\.held_out = 0\.01"):
        build(DemoCorpus(directory=str(tmp_path / "out"), text=str(folder), held_out=0.01), no_log)
    with pytest.raises(ValueError, match="exists and has no corpus; set another"):
        build(DemoCorpus(directory=str(folder), text=str(folder)), no_log)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        build(DemoCorpus(directory=str(tmp_path / "out"), text=str(tmp_path / "absent")), no_log)
    (folder / "notes.jsonl.gz").touch()
    with pytest.raises(ValueError, match=r"notes\.jsonl and notes\.jsonl\.gz; keep one"):
        build(DemoCorpus(directory=str(tmp_path / "out"), text=str(folder)), no_log)


def test_text_without_an_instruction_is_refused_before_a_model_is_trained(tmp_path):
    lines = [{"text": f"line number {n} of a long list of things", "id": f"n{n}", "lang": "en"} for n in range(60)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = DemoCorpus(directory=str(tmp_path / "out"), text=str(tmp_path / "in"), held_out=0.2)
    with pytest.raises(ValueError, match="train documents give no instruction, because no paragraph of them has two"):
        build(config, no_log)
    assert not (tmp_path / "out").exists()


def test_invalid_settings_raise():
    with pytest.raises(ValueError, match=r"DemoCorpus\.on_bad must be"):
        DemoCorpus(on_bad="ignore")
    with pytest.raises(ValueError, match=r"DemoCorpus\.held_out must lie between 0 and 1, not 5"):
        DemoCorpus(held_out=5)


def test_the_entry_point_reports_bad_input_in_one_line(tmp_path):
    command = [sys.executable, "launch/demo_corpus.py", f"--gin.DemoCorpus.text={tmp_path / 'absent'}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert run.returncode == 2
    assert run.stderr == f"error: there is no folder {tmp_path / 'absent'}\n"
