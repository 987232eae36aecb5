"""A store depends on documents and settings alone; an interrupted one is completed; changed files are reported."""

import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindllm_jax.store import tokenized, writer
from mindllm_jax.store.store import TokenStore
from mindllm_jax.store.writer import SourceDocuments, build_store
from mindllm_jax.text.documents import Document
from mindllm_jax.tokenization.tokenizer import Tokenizer

SourceOf = Callable[[str], SourceDocuments]


def files_of(store: Path) -> dict[str, float]:
    return {str(path.relative_to(store)): path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}


def test_the_store_does_not_depend_on_the_order_of_the_documents(
    tmp_path: Path, tokenizer: Tokenizer, source_of: SourceOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of("zh")
    backwards = source._replace(read=lambda: list(source.read())[::-1])
    build_store(str(tmp_path / "a"), [source], tokenizer)
    monkeypatch.setattr(tokenized, "_BATCH_CHARACTERS", 100)
    build_store(str(tmp_path / "b"), [backwards], tokenizer)
    assert TokenStore.open(tmp_path / "a").manifest == TokenStore.open(tmp_path / "b").manifest


def test_another_seed_is_another_order(tmp_path: Path, tokenizer: Tokenizer, source_of: SourceOf) -> None:
    for seed in (0, 1):
        build_store(str(tmp_path / f"{seed}"), [source_of("zh")], tokenizer, seed=seed)
    first, second = (TokenStore.open(tmp_path / name).document("fixture_zh", "train", 0) for name in "01")
    assert first.tolist() != second.tolist()


def test_streams_of_many_shards(
    tmp_path: Path, tokenizer: Tokenizer, source_of: SourceOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_store(str(tmp_path / "one"), [source_of("zh")], tokenizer)
    monkeypatch.setattr(writer, "SHARD", 64)
    monkeypatch.setattr(writer, "BLOCK", 16)
    build_store(str(tmp_path / "many"), [source_of("zh")], tokenizer)
    assert len(list((tmp_path / "many/fixture_zh/train/tokens/c").iterdir())) > 10
    one, many = (TokenStore.open(tmp_path / name) for name in ("one", "many"))
    size = one.split("fixture_zh", "train").tokens
    place = [("fixture_zh", "train", 0)]
    np.testing.assert_array_equal(one.windows(place, size), many.windows(place, size))
    many.verify()


def test_an_empty_split_and_a_source_of_nothing(tmp_path: Path, tokenizer: Tokenizer, source_of: SourceOf) -> None:
    nothing = SourceDocuments("nothing", "zh", {}, list)
    build_store(str(tmp_path), [source_of("zh"), nothing], tokenizer, held_out=0.0)
    store = TokenStore.open(tmp_path)
    assert store.split("fixture_zh", "held_out").documents == 0
    assert store.split("nothing", "train").tokens == 0
    store.verify()


def test_existing_sources_are_not_written_again(tmp_path: Path, tokenizer: Tokenizer, source_of: SourceOf) -> None:
    assert build_store(str(tmp_path), [source_of("zh")], tokenizer) == ["fixture_zh"]
    before = files_of(tmp_path / "fixture_zh")
    assert build_store(str(tmp_path), [source_of("zh"), source_of("en")], tokenizer) == ["fixture_en"]
    assert files_of(tmp_path / "fixture_zh") == before
    assert set(TokenStore.open(tmp_path).sources) == {"fixture_zh", "fixture_en"}
    assert build_store(str(tmp_path), [source_of("zh"), source_of("en")], tokenizer) == []


def test_an_interrupted_source_is_written_again(tmp_path: Path, tokenizer: Tokenizer, source_of: SourceOf) -> None:
    english = source_of("en")

    def interrupted() -> Iterator[Document]:
        yield next(iter(english.read()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_store(str(tmp_path), [source_of("zh"), english._replace(read=interrupted)], tokenizer)
    assert set(TokenStore.open(tmp_path).sources) == {"fixture_zh"}
    assert not (tmp_path / ".scratch").exists()
    assert build_store(str(tmp_path), [source_of("zh"), english], tokenizer) == ["fixture_en"]
    TokenStore.open(tmp_path).verify()


def test_a_source_that_fails_while_it_is_rebuilt_is_no_longer_named(
    tmp_path: Path, tokenizer: Tokenizer, source_of: SourceOf
) -> None:
    build_store(str(tmp_path), [source_of("zh"), source_of("en")], tokenizer)

    def failing() -> Iterator[Document]:
        raise ValueError("line 3: wrong JSON")
        yield

    changed = source_of("zh")._replace(inputs={"another sha": "file"}, read=failing)
    with pytest.raises(ValueError, match="source fixture_zh: line 3: wrong JSON"):
        build_store(str(tmp_path), [changed], tokenizer, rebuild=True)
    assert set(TokenStore.open(tmp_path).sources) == {"fixture_en"}


def test_changed_inputs_are_reported_and_rebuilt_on_request(
    tmp_path: Path, tokenizer: Tokenizer, source_of: SourceOf
) -> None:
    source = source_of("zh")
    build_store(str(tmp_path), [source], tokenizer)
    fewer = source._replace(inputs={"new sha": "a.jsonl"}, read=lambda: list(source.read())[:5])
    before = files_of(tmp_path)
    with pytest.raises(ValueError, match=r"fixture_zh .* since then a\.jsonl changed; set PrepareData\.rebuild = True"):
        build_store(str(tmp_path), [fewer], tokenizer)
    assert files_of(tmp_path).keys() == before.keys()
    assert build_store(str(tmp_path), [fewer], tokenizer, rebuild=True) == ["fixture_zh"]
    splits = TokenStore.open(tmp_path).sources["fixture_zh"].splits.values()
    assert sum(split.documents for split in splits) == 5


def test_a_file_that_is_no_longer_among_the_inputs(tmp_path: Path, tokenizer: Tokenizer, source_of: SourceOf) -> None:
    source = source_of("zh")
    build_store(str(tmp_path), [source._replace(inputs={"1": "a", "2": "b"})], tokenizer)
    with pytest.raises(ValueError, match="its language or the list of its files changed"):
        build_store(str(tmp_path), [source._replace(inputs={"1": "a"})], tokenizer)


def test_another_setting_than_the_stores(tmp_path: Path, tokenizer: Tokenizer, source_of: SourceOf) -> None:
    build_store(str(tmp_path), [source_of("zh")], tokenizer)
    with pytest.raises(
        ValueError,
        match=r"was made with other settings:\n  seed: 0 in the store, 5 requested\n  held_out: 0\.01 in the store",
    ):
        build_store(str(tmp_path), [source_of("en")], tokenizer, seed=5, held_out=0.5)


def test_two_documents_of_one_id(tmp_path: Path, tokenizer: Tokenizer, source_of: SourceOf) -> None:
    source = source_of("zh")
    first, second, *rest = source.read()
    twice = source._replace(read=lambda: [first, second, replace(rest[0], id=second.id)])
    with pytest.raises(ValueError, match="source fixture_zh: documents number 2 and 3 of the source have the same id"):
        build_store(str(tmp_path), [twice], tokenizer)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".scratch", "a b", "a\\b", "a\nb"])
def test_a_name_that_cannot_be_a_folder(tmp_path: Path, tokenizer: Tokenizer, source_of: SourceOf, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a source"):
        build_store(str(tmp_path), [source_of("zh")._replace(name=name)], tokenizer)


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.model"])
def test_a_name_of_a_file_of_the_store(tmp_path: Path, tokenizer: Tokenizer, source_of: SourceOf, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is a file of the store, so no source can have this name"):
        build_store(str(tmp_path), [source_of("zh")._replace(name=name)], tokenizer)
    assert not (tmp_path / name).is_dir()


def test_a_store_that_cannot_be_written(tmp_path: Path, tokenizer: Tokenizer, source_of: SourceOf) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises((OSError, ValueError), match="file"):
        build_store(str(tmp_path / "file"), [source_of("zh")], tokenizer)


def test_a_disk_that_is_full_for_some_documents_alone(
    tmp_path: Path, tokenizer: Tokenizer, source_of: SourceOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hole in the file of the tokens would read as <pad>, and the checksums would be those of the hole."""
    monkeypatch.setattr(tokenized, "_BATCH_CHARACTERS", 1)
    source, limits = source_of("zh"), resource.getrlimit(resource.RLIMIT_FSIZE)
    one = next(iter(source.read()))

    def full_for_a_moment() -> Iterator[Document]:
        for number in range(40):
            full = 10 <= number < 30
            resource.setrlimit(resource.RLIMIT_FSIZE, (100 if full else limits[0], limits[1]))
            yield replace(one, text=one.text * 20, id=str(number))

    try:
        with pytest.raises(OSError, match="File too large"):
            build_store(str(tmp_path), [source._replace(read=full_for_a_moment)], tokenizer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with pytest.raises(FileNotFoundError, match="there is no token store"):
        TokenStore.open(tmp_path)


def test_a_second_command_is_refused_while_a_store_is_written(
    tmp_path: Path, tokenizer: Tokenizer, source_of: SourceOf
) -> None:
    """Together they would mix their texts, and the later manifest would not name the sources of the other."""
    english = source_of("en")
    refused = []

    def disturbed() -> Iterator[Document]:
        with pytest.raises(
            ValueError, match=f"is in use by a command that writes it of process {os.getpid()}"
        ) as error:
            build_store(str(tmp_path / "store"), [source_of("zh")], tokenizer)
        refused.append(error)
        yield from english.read()

    build_store(str(tmp_path / "store"), [english._replace(read=disturbed)], tokenizer)
    assert refused
    build_store(str(tmp_path / "store"), [source_of("zh")], tokenizer)
    assert set(TokenStore.open(tmp_path / "store").sources) == {"fixture_zh", "fixture_en"}
    TokenStore.open(tmp_path / "store").verify()
