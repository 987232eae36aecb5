"""The pipeline on small raw files: its output does not depend on workers and interruptions."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("datatrove")

from datatrove.pipeline.base import PipelineStep

from mindllm_jax.corpus import pipeline
from mindllm_jax.corpus.executors import PipelineStage, run_stages
from mindllm_jax.corpus.pipeline import clean_corpus
from mindllm_jax.corpus.report.borderline import write_borderline
from mindllm_jax.corpus.report.card import add_tokens, card_once, decisions, write_card
from mindllm_jax.corpus.report.collect import collect
from mindllm_jax.corpus.settings import CleanCorpus, Decontamination, Executor, QualityRules, Repeats

ROOT = Path(__file__).parents[2]
HAN = "山上寺庙里住着一位老和尚他每天早晨打水傍晚读书村孩子们常来听讲故事河从桥下流过两岸柳树已经发芽了春风吹开"
WORDS = (
    "river stone garden window letter mountain market bread winter harbour candle forest bridge teacher song apple"
    " kitchen paper silver morning shadow village carpet engine island doctor summer ladder valley copper orange"
).split()
ITEM = "A train leaves the station at nine in the morning and travels at sixty miles an hour; how far is it by noon?"


def prose(seed: int, lang: str) -> str:
    """Sentences of words in a random order: alike in kind, not in wording."""
    draw = random.Random(f"{seed}/{lang}")
    if lang == "zh":
        return "".join("".join(draw.choices(HAN, k=draw.randint(8, 20))) + "。" for _ in range(14))
    few = ("the", "of", "and", "with", "that", "was", "to")
    words = [draw.choice(WORDS if draw.random() < 0.6 else few) for _ in range(90)]
    return " ".join(word + "." * (number % 9 == 8) for number, word in enumerate(words))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sources with what is to be found in them."""
    folder = tmp_path_factory.mktemp("raw")
    tales = [{"id": f"t{n}", "text": prose(n, "zh")} for n in range(30)]
    tales += [{"id": "t-copy", "text": tales[3]["text"] + "\n"}, {"id": "t-short", "text": "太短。"}]
    tales += [{"id": "t-near", "text": tales[5]["text"].replace("。", "，", 3) + "完"}]
    tales += [{"id": "t-phone", "text": prose(99, "zh") + "联系电话13812345678，邮箱zhang@mail.cn。"}]
    around = "Home | About | Contact us today\nSubscribe to our letter\n\n"
    notes = [{"id": f"n{n}", "text": around + prose(n, "en")} for n in range(30)]
    hidden = ITEM.upper().replace(" ", "  ")
    notes += [{"id": "n-item", "text": f"{prose(77, 'en')}\n{hidden}\n{prose(78, 'en')}"}]
    notes += [{"id": "n-german", "text": "Der alte Mann wohnte in der Mühle und hatte einen Garten mit Bäumen. " * 5}]
    pages = [{"id": "p0", "text": f"<html><body><nav>Home</nav><p>{prose(50, 'en')}</p></body></html>"}]
    for name, lang, rows in (("tales", "zh", tales), ("notes", "en", notes), ("pages", "en", pages)):
        lines = (json.dumps({**row, "source": name, "lang": lang}, ensure_ascii=False) for row in rows)
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    benchmarks = folder.parent / "benchmarks/trains"
    benchmarks.mkdir(parents=True, exist_ok=True)
    (benchmarks / "test.jsonl").write_text(json.dumps({"question": ITEM, "answer": "180 miles"}) + "\n")
    return folder


@pytest.fixture(scope="module")
def settings(raw: Path) -> Callable[..., CleanCorpus]:
    def make(output: Path, **changes: Any) -> CleanCorpus:
        return replace(
            CleanCorpus(
                inputs=(str(raw),),
                output=str(output),
                rules=QualityRules(zh_min_dictionary_share=0.0),
                repeats=Repeats(partitions=2),
                decontamination=Decontamination(benchmarks=str(raw.parent / "benchmarks")),
                executor=Executor(workers=1),
            ),
            **changes,
        )

    return make


@pytest.fixture(scope="module")
def corpus(settings: Callable[..., CleanCorpus], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "out"
    assert clean_corpus(settings(folder))
    return folder


def documents(corpus: Path) -> dict[str, dict[str, Any]]:
    files = sorted((corpus / "documents").rglob("*.gz"))
    return {
        row["id"]: row for file in files for row in map(json.loads, gzip.decompress(file.read_bytes()).splitlines())
    }


def dropped(corpus: Path, reason: str) -> dict[str, str]:
    files = sorted((corpus / "dropped" / reason).glob("*.gz"))
    rows = (json.loads(line) for file in files for line in gzip.decompress(file.read_bytes()).splitlines())
    return {row["id"]: row["metadata"].get("filter_reason", "") for row in rows}


def digest(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*.gz"))
    }


def test_each_kind_of_bad_document_is_dropped_for_its_reason(corpus: Path) -> None:
    assert dropped(corpus, "exact").keys() == {"t-copy"}
    assert dropped(corpus, "quality")["t-short"] == "too few Han characters"
    assert dropped(corpus, "language") == {"n-german": "other language"}
    assert len(dropped(corpus, "near").keys() & {"t5", "t-near"}) == 1
    kept = documents(corpus)
    assert {f"t{n}" for n in range(30) if n != 5} <= kept.keys() and {f"n{n}" for n in range(30)} <= kept.keys()


def test_kept_documents_are_cleaned(corpus: Path) -> None:
    kept = documents(corpus)
    assert "联系电话<phone>，邮箱<email>。" in kept["t-phone"]["text"]
    assert all("Subscribe" not in row["text"] and "About" not in row["text"] for row in kept.values())
    assert "TRAIN" not in kept["n-item"]["text"] and prose(78, "en") in kept["n-item"]["text"]
    assert kept["n0"]["text"] == prose(0, "en")


def test_two_workers_make_the_same(corpus: Path, settings: Callable[..., CleanCorpus], tmp_path: Path) -> None:
    assert clean_corpus(settings(tmp_path / "two", executor=Executor(workers=2)))
    assert digest(tmp_path / "two/documents") == digest(corpus / "documents")
    # A token store knows its inputs by their checksums: gzip may not write the time.
    assert all(file.read_bytes()[4:8] == bytes(4) for file in (corpus / "documents").rglob("*.gz"))


def test_a_killed_run_resumes(corpus: Path, settings: Callable[..., CleanCorpus], tmp_path: Path) -> None:
    config = settings(tmp_path / "out")
    program = (
        "from mindllm_jax.corpus.settings import *; from mindllm_jax.corpus.pipeline import clean_corpus;"
        f"clean_corpus({config!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, start_new_session=True)
    finished = tmp_path / "out/logs/04_count_lines/completions/00000"
    while not finished.exists():
        assert process.poll() is None
        time.sleep(0.02)
    subprocess.run(["kill", "-9", "--", f"-{process.pid}"], check=True)
    process.wait()
    before = finished.stat().st_mtime_ns
    assert clean_corpus(config)
    assert digest(tmp_path / "out/documents") == digest(corpus / "documents")
    assert finished.stat().st_mtime_ns == before, "a finished task was run again"


def test_a_shard_without_documents_moves_no_other(
    raw: Path, settings: Callable[..., CleanCorpus], tmp_path: Path
) -> None:
    """The ids of c repeat those of b, and nothing of a is kept."""
    german = "Der alte Mann wohnte in der Mühle und hatte einen Garten mit Bäumen. " * 5
    for number, name in enumerate("abc"):
        texts = [german] * 3 if name == "a" else [prose(1000 * number + n, "en") for n in range(4)]
        rows = [{"id": str(n), "text": text, "source": "s"} for n, text in enumerate(texts)]
        (tmp_path / f"raw/{name}.jsonl").parent.mkdir(exist_ok=True)
        (tmp_path / f"raw/{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert clean_corpus(settings(tmp_path / "out", inputs=(str(tmp_path / "raw"),)))
    assert set(documents(tmp_path / "out")) == {*"0123", *(f"{n}@c.jsonl" for n in range(4))}


def test_a_shard_that_was_cut_is_named(corpus: Path, settings: Callable[..., CleanCorpus], tmp_path: Path) -> None:
    """As by a host that crashed; the reader of datatrove takes what is left."""
    folder = shutil.copytree(corpus, tmp_path / "out")
    shard = folder / "work/clean/00000.jsonl.zst"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size * 3 // 4])
    shutil.rmtree(folder / "logs/11_documents")
    with pytest.raises(
        ValueError, match=r"work/clean/00000\.jsonl\.zst was damaged after line \d+ .*: delete the folder"
    ):
        clean_corpus(settings(folder))


def test_a_second_command_is_refused(
    corpus: Path, settings: Callable[..., CleanCorpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(shutil.copytree(corpus, tmp_path / "out"))

    def again(*_: Any) -> bool:
        with pytest.raises(ValueError, match="is in use by a command that cleans it of process"):
            clean_corpus(config)
        return True

    monkeypatch.setattr(pipeline, "run_stages", again)
    assert clean_corpus(config)


def test_benchmarks_are_looked_for_before_anything_runs(
    corpus: Path, settings: Callable[..., CleanCorpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tmp_path / "out", decontamination=Decontamination(benchmarks=str(tmp_path / "EVLA")))
    with pytest.raises(FileNotFoundError, match=r"no folder .*EVLA"):
        clean_corpus(config)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(pipeline, "run_stages", lambda *_: True)
    more = shutil.copytree(Path(settings(corpus).decontamination.benchmarks), tmp_path / "EVLA")
    assert clean_corpus(config)
    moved = replace(config, decontamination=Decontamination(benchmarks=str(more.rename(tmp_path / "moved"))))
    assert clean_corpus(moved)
    (tmp_path / "moved/new.txt").write_text(ITEM)
    with pytest.raises(ValueError, match="benchmark_files differ"):
        clean_corpus(moved)
    for other in (Decontamination(), replace(moved.decontamination, action="drop")):
        with pytest.raises(ValueError, match=r"benchmark_files.* differ"):
            clean_corpus(replace(config, decontamination=other))


def test_an_older_record_holds_for_decontamination_and_lexicon(
    corpus: Path, settings: Callable[..., CleanCorpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has them as they were set, and no contents."""
    config = settings(tmp_path / "out", lexicon="")
    old = {"decontamination": asdict(config.decontamination), "lexicon": ""}
    (tmp_path / "out").mkdir()
    (tmp_path / "out/settings.json").write_text(json.dumps(old))
    (tmp_path / "words.txt").write_text("word")
    monkeypatch.setattr(pipeline, "run_stages", lambda *_: True)
    assert clean_corpus(config)
    with pytest.raises(ValueError, match=r"\(lexicon differ"):
        clean_corpus(replace(config, lexicon=str(tmp_path / "words.txt")))
    for other in (Decontamination(), replace(config.decontamination, action="drop")):
        with pytest.raises(ValueError, match=r"\(decontamination differ"):
            clean_corpus(replace(config, decontamination=other))


def test_an_output_in_the_input_folder_is_refused_before_anything_runs(
    raw: Path, settings: Callable[..., CleanCorpus]
) -> None:
    with pytest.raises(ValueError, match=r"CleanCorpus\.output = .* is in the input folder"):
        clean_corpus(settings(raw / "out"))
    assert not (raw / "out").exists()


def test_a_worker_that_the_kernel_kills_is_named(tmp_path: Path) -> None:
    """The pool of datatrove would wait for it for ever."""
    stage = PipelineStage("heavy", [Killed()], 3)
    with pytest.raises(ChildProcessError, match="a worker was killed, for want of memory perhaps: set Executor"):
        run_stages([stage], tmp_path / "logs", Executor(workers=2))
    assert not (tmp_path / "logs/00_heavy/completions/00001").exists()


def test_an_error_of_a_worker_is_raised_as_it_is(settings: Callable[..., CleanCorpus], tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"raw/{name}.jsonl").parent.mkdir(exist_ok=True)
        (tmp_path / f"raw/{name}.jsonl").write_text('{"text": ')
    with pytest.raises(ValueError, match=r"[ab]\.jsonl, line 1: wrong JSON"):
        clean_corpus(settings(tmp_path / "out", inputs=(str(tmp_path / "raw"),), executor=Executor(workers=2)))


def test_workers_end_with_their_command(tmp_path: Path) -> None:
    """However it ends: they would take further tasks beside the command that resumes."""
    program = (
        "import sys; from pathlib import Path; from mindllm_jax.corpus.executors import PipelineStage, run_stages;"
        "from mindllm_jax.corpus.settings import Executor; from tests.corpus.test_pipeline import Slow;"
        f"stages = [PipelineStage('slow', [Slow({str(tmp_path)!r})], 8)];"
        f"run_stages(stages, Path({str(tmp_path / 'logs')!r}), Executor(workers=2))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 100
    while len(begun := list(tmp_path.glob("*.begun"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    workers = {int(path.read_text()) for path in begun}
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert len(list(tmp_path.glob("*.begun"))) == 2, "no further task began"


class Slow(PipelineStep):
    """Says that a task began, by which process, and takes a minute."""

    name = "Slow"

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Runs a task."""
        written = Path(self.folder, f"{rank}.partial")
        written.write_text(str(os.getpid()))
        written.rename(written.with_suffix(".begun"))
        time.sleep(60)


class Strange(Exception):
    """An error that does not come back from another process as it went."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)


class Fails(PipelineStep):
    """Raises such an error."""

    name = "Fails"

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Runs a task."""
        raise Strange("kind", "the true reason")


def test_an_error_that_cannot_be_pickled_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Strange: the true reason"):
        run_stages([PipelineStage("fails", [Fails()], 2)], tmp_path / "logs", Executor(workers=2))


class Full(PipelineStep):
    """Fails as a full disk does."""

    name = "Full"

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Runs a task."""
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, r"No space left on device, in the stage 'full', which reads and writes below .*\. Run the same"),
        (errno.EMFILE, r"Too many open files, in the stage 'full', .*; join small files, or raise the limit"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_system_names_stage_and_folder(tmp_path: Path, number: int, message: str, workers: int) -> None:
    with pytest.raises(OSError, match=message) as error:
        run_stages([PipelineStage("full", [Full(number)], 2)], tmp_path / "logs", Executor(workers=workers))
    assert error.value.errno == number and str(tmp_path) in str(error.value)


def test_the_limit_on_open_files_is_raised(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[1]), before[1]))
    try:
        assert run_stages([], tmp_path / "logs", Executor())
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Killed(PipelineStep):
    """Ends the second task as a machine without memory does."""

    name = "Killed"

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Runs a task."""
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_finished_corpus_needs_no_work_folder(corpus: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(corpus, tmp_path / "out")
    page = card_once(folder, partial(collect, folder))
    shutil.rmtree(folder / "work")
    assert card_once(folder, partial(collect, folder)) == page and page.exists()


def test_other_settings_in_the_same_folder_are_refused(corpus: Path, settings: Callable[..., CleanCorpus]) -> None:
    with pytest.raises(ValueError, match=r"was made with other settings \(rules differ, see .*settings\.json\)"):
        clean_corpus(settings(corpus, rules=QualityRules(zh_min_han_chars=5)))


def test_other_raw_files_are_refused_and_moved_ones_are_not(
    raw: Path, settings: Callable[..., CleanCorpus], tmp_path: Path
) -> None:
    copies = shutil.copytree(raw, tmp_path / "raw")
    config = settings(tmp_path / "out", inputs=(str(copies),))
    assert clean_corpus(config)
    moved = replace(config, inputs=(str(copies.rename(tmp_path / "moved")),))
    assert clean_corpus(moved)
    with open(tmp_path / "moved/tales.jsonl.gz", "ab") as file:
        file.write(gzip.compress(b'{"text": "more"}'))
    with pytest.raises(ValueError, match=r"other settings \(files differ"):
        clean_corpus(moved)


def test_the_card_accounts_for_every_document(corpus: Path) -> None:
    write_card(corpus, collect(corpus))
    page = add_tokens(corpus, {"tales": 1234}).read_text("utf-8")
    assert "1,234" in page and "near-duplicate" in page
    assert collect(corpus)["tokens"] == {"tales": 1234}, "a card that is written again keeps the tokens"
    card = json.loads((corpus / "card.json").read_text("utf-8"))
    (tales,) = (row for row in card["sources"] if row["source"] == "tales")
    assert tales["documents"] == len([i for i in documents(corpus) if i.startswith("t")])
    of_tales = decisions(card)["tales"]
    assert of_tales.total() == 34 and of_tales["exact copy"] == of_tales["near-duplicate"] == 1
    assert card["benchmarks"]["trains"] == {"items": 1, "passages": 1, "too short": 0, "documents": {"notes": 1}}
    assert card["clusters"]["removed"] == 1


def test_borderline_documents(corpus: Path, settings: Callable[..., CleanCorpus], tmp_path: Path) -> None:
    page = write_borderline(settings(corpus)).read_text("utf-8")
    assert "zh: too few Han characters, min 100" in page and "just dropped" in page and "太短。" in page
    with pytest.raises(FileNotFoundError, match="has no text yet: run the command without --borderline first"):
        write_borderline(settings(tmp_path))


def test_bad_input_is_named_or_counted(raw: Path, settings: Callable[..., CleanCorpus], tmp_path: Path) -> None:
    broken = tmp_path / "raw/broken.jsonl.gz"
    broken.parent.mkdir()
    whole = (raw / "notes.jsonl.gz").read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"broken\.jsonl\.gz"):
        clean_corpus(settings(tmp_path / "strict", inputs=(str(tmp_path / "raw"),)))


def test_every_dropped_document_is_written(corpus: Path) -> None:
    """As many as the outcomes count: no two steps share a file."""
    files = sorted((corpus / "dropped").rglob("*.gz"))
    written = sum(len(gzip.decompress(file.read_bytes()).splitlines()) for file in files)
    card = collect(corpus)
    assert written == sum(o["documents"] for o in card["outcomes"] if o["kind"] == "dropped") > 3


def test_a_corpus_that_runs_again_has_no_card_meanwhile(
    corpus: Path, settings: Callable[..., CleanCorpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(corpus, tmp_path / "out")
    (folder / "card.json").write_text("{}")
    assert clean_corpus(settings(folder)) and (folder / "card.json").exists(), "nothing was left to do"
    shutil.rmtree(folder / "logs")
    monkeypatch.setattr(pipeline, "run_stages", lambda *_: False)
    clean_corpus(settings(folder))
    assert not (folder / "card.json").exists()
