"""Documents chosen by score: the parts of a source, the kept shares, and the files written."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("datatrove")

from mindllm_jax.corpus.pipeline import clean_corpus
from mindllm_jax.corpus.report.card import decisions, write_card
from mindllm_jax.corpus.report.collect import collect
from mindllm_jax.corpus.scoring import Parts, Score, score_corpus
from mindllm_jax.corpus.settings import CleanCorpus, Executor, QualityRules, Repeats, Scoring


def by_number(texts: Iterable[str]) -> Iterator[float]:
    """Bits of a text: a hundredth of the number that it begins with, and 0.004, which is rounded away."""
    for text in texts:
        yield int(text.split()[0]) / 100 + 0.004


def load() -> Any:
    return by_number


def prose(number: int) -> str:
    draw = np.random.default_rng(number)
    few = "the river of stone and garden with window that was letter to mountain market bread harbour candle".split()
    words = [str(draw.choice(few)) + "." * (place % 9 == 8) for place in range(99)]
    return f"{number} {' '.join(words)}"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> CleanCorpus:
    """Settings of a corpus that is clean: 40 documents of one source, one of another."""
    folder = tmp_path_factory.mktemp("scored")
    (folder / "raw").mkdir()
    for source, numbers in (("tales", range(100, 140)), ("alone", [777])):
        rows = [{"text": prose(n), "id": f"{source}{n}", "source": source, "lang": "en"} for n in numbers]
        (folder / f"raw/{source}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = CleanCorpus(
        inputs=(str(folder / "raw"),),
        output=str(folder / "corpus"),
        rules=QualityRules(en_max_duplicate_ngram_share=1.0, en_max_top_ngram_share=1.0),
        repeats=Repeats(partitions=1),
        scoring=Scoring(output=str(folder / "chosen"), step=7, keep=(0.0, 1.0, 1.0, 1.0)),
        executor=Executor(workers=1),
    )
    assert clean_corpus(made) and score_corpus(made, load)
    return made


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (line for file in sorted(folder.rglob("*.gz")) for line in gzip.decompress(file.read_bytes()).splitlines())
    return {row["id"]: row for row in map(json.loads, lines)}


def test_the_quarter_with_the_fewest_bits_per_token_is_dropped(config: CleanCorpus) -> None:
    folder = Path(config.output)
    kept, gone = rows(Path(config.scoring.output) / "documents"), rows(Path(config.scoring.output) / "dropped")
    assert kept.keys() == {f"tales{n}" for n in range(110, 140)} | {"alone777"}, "one document alone is in the middle"
    assert gone.keys() == {f"tales{n}" for n in range(100, 110)}
    assert {row["metadata"]["filter_reason"] for row in gone.values()} == {"bits per token, part 1 of 4"}
    assert kept["tales123"]["bits_per_token"] == 1.23
    before = rows(folder / "documents")
    assert {id: row["text"] for id, row in before.items()} == {id: row["text"] for id, row in (kept | gone).items()}


def test_the_card_counts_them(config: CleanCorpus) -> None:
    chosen = Path(config.scoring.output)
    page = write_card(chosen, collect(Path(config.output), chosen=chosen))
    assert page == chosen / "card.html"
    assert "bits per token, part 1 of 4" in page.read_text("utf-8")
    card = json.loads((chosen / "card.json").read_text())
    assert {row["source"]: row["documents"] for row in card["sources"]} == {"alone": 1, "tales": 30}
    assert decisions(card)["tales"] == {"kept": 30, "bits per token, part 1 of 4": 10}
    assert card["scores"]["en/tales"]["quantiles"] == [1.04, 1.2, 1.36]
    outcomes = [outcome for outcome in card["outcomes"] if outcome["filter"] == "Choose by score"]
    assert {(row["source"], row["kind"], row["reason"], row["documents"]) for row in outcomes} == {
        ("tales", "kept", "", 30),
        ("tales", "dropped", "bits per token, part 1 of 4", 10),
        ("alone", "kept", "", 1),
    }


def test_what_was_scored_stays_and_other_settings_are_refused(config: CleanCorpus) -> None:
    marks = sorted((Path(config.output) / "scored/logs").rglob("completions/*"))
    before = [mark.stat().st_mtime_ns for mark in marks]
    assert len(marks) == 2 and score_corpus(config, load)
    assert [mark.stat().st_mtime_ns for mark in marks] == before
    with pytest.raises(
        ValueError, match=r"scored was made with other settings \(step differ.* set Scoring\.run, Scoring\.step and"
    ):
        score_corpus(replace(config, scoring=replace(config.scoring, step=8)), load)
    with pytest.raises(ValueError, match=r"Scoring\.step is None"):
        score_corpus(replace(config, scoring=replace(config.scoring, step=None)), load)


def test_other_shares_only_choose_again(config: CleanCorpus) -> None:
    def not_again() -> Any:
        raise AssertionError("scored again")

    everything = replace(
        config, scoring=replace(config.scoring, output=f"{config.output}-all", keep=(1.0,), batch_size=3)
    )
    assert score_corpus(everything, not_again)
    assert rows(Path(everything.scoring.output) / "documents").keys() == rows(Path(config.output) / "documents").keys()
    assert len(rows(Path(config.scoring.output) / "documents")) == 31, "what was chosen before is still there"


def test_a_share_of_a_part_is_kept(config: CleanCorpus) -> None:
    kept: list[set[str]] = []
    for share in (0.5, 0.8):
        of_part = replace(config, scoring=replace(config.scoring, output=f"{config.output}-{share}", keep=(share, 1.0)))
        assert score_corpus(of_part, load)
        kept.append({id for id in rows(Path(of_part.scoring.output) / "documents") if id < "tales120"})
    assert 5 <= len(kept[0]) <= 15
    assert kept[0] < kept[1], "keeping more keeps what was kept"


def test_two_workers_choose_the_same(config: CleanCorpus, tmp_path: Path) -> None:
    for name in ("documents", "settings.json"):
        (tmp_path / name).symlink_to(Path(config.output) / name)
    scoring = replace(config.scoring, output=str(tmp_path / "chosen"))
    two = replace(config, output=str(tmp_path), scoring=scoring, executor=Executor(workers=2))
    assert score_corpus(two, load)
    assert rows(Path(two.scoring.output) / "documents") == rows(Path(config.scoring.output) / "documents")


def test_a_corpus_of_other_documents_is_refused(config: CleanCorpus, tmp_path: Path) -> None:
    """Its settings may be the same: they have the sizes of the raw files."""
    folder = shutil.copytree(config.output, tmp_path / "corpus")
    (alone,) = (folder / "documents").rglob("alone/*.gz")
    content = gzip.decompress(alone.read_bytes())
    alone.write_bytes(gzip.compress(content.replace(b"alone777", b"alone778"), mtime=0))
    with pytest.raises(ValueError, match=r"chosen was made with other settings \(documents differ"):
        score_corpus(replace(config, output=str(folder)), load)


def not_a_number() -> Any:
    return lambda texts: (float("nan") for _ in texts)


def test_a_diverged_model_raises(config: CleanCorpus, tmp_path: Path) -> None:
    for name in ("documents", "settings.json"):
        (tmp_path / name).symlink_to(Path(config.output) / name)
    with pytest.raises(ValueError, match=r"document 1 of file 0 of en/alone.*set an earlier Scoring\.step"):
        score_corpus(replace(config, output=str(tmp_path)), not_a_number)
    with pytest.raises(ValueError, match="there are no documents to score in"):
        score_corpus(replace(config, output=str(tmp_path / "none")), load)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 7))
def test_parts_are_equal_up_to_ties(
    tmp_path_factory: pytest.TempPathFactory, hundredths: list[int], count: int
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    np.savez(folder / "00000.npz", bits=np.array(hundredths, np.uint16), source="zh/x")
    Parts(str(folder), str(folder), count).run()
    found = json.loads((folder / "parts.json").read_text())["zh/x"]
    borders = found["borders"]
    assert len(borders) == count - 1 and borders == sorted(borders)
    parts = np.searchsorted(borders, np.array(hundredths) / 100, side="right")
    sizes = Counter(parts.tolist())
    alike = max(Counter(hundredths).values())
    assert all(abs(sizes[part] - len(hundredths) / count) <= alike for part in range(count))


def test_a_score_beyond_the_scale_is_the_largest(tmp_path: Path) -> None:
    from datatrove.data import Document

    document = Document("100000 x", "a", metadata={"lang": "zh", "source": "x"})
    Score(str(tmp_path), load).run([document], 3)
    with np.load(tmp_path / "00003.npz", allow_pickle=False) as found:
        assert found["bits"].tolist() == [65535] and str(found["source"]) == "zh/x"


@pytest.mark.parametrize("keep", [(), (0.0, 0.0), (1.2,), (-0.1, 1.0)])
def test_impossible_shares_are_refused(keep: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"Scoring\.keep must be shares between 0 and 1"):
        Scoring(keep=keep)


def test_the_corpus_is_no_place_for_what_is_chosen_of_it(config: CleanCorpus) -> None:
    same = replace(config, scoring=replace(config.scoring, output=config.output, step=1))
    with pytest.raises(ValueError, match=r"Scoring\.output = .* is CleanCorpus\.output: give the chosen"):
        score_corpus(same, load)
