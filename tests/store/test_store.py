"""What is read from a store is what was written, or an error says which file is bad."""

import functools
import hashlib
import json
import math
import operator
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindllm_jax.store import store as store_module
from mindllm_jax.store.manifest import SPLITS
from mindllm_jax.store.store import TokenStore, token_dtype
from mindllm_jax.text.documents import Document, held_out
from mindllm_jax.tokenization.tokenizer import Tokenizer


def test_documents_come_back_on_their_side_of_the_split(
    text_store: TokenStore, tokenizer: Tokenizer, documents: list[Document]
) -> None:
    for split in SPLITS:
        for language in ("zh", "en"):
            wanted = [d for d in documents if d.lang == language and held_out(d.id, 0.3) == (split == "held_out")]
            info = text_store.split(f"fixture_{language}", split)
            found = [
                text_store.document(f"fixture_{language}", split, i)  # a line each
                for i in range(info.documents)
            ]
            assert sorted(map(tokenizer.decode, found)) == sorted(d.text for d in wanted)
            assert info.tokens == sum(1 + len(ids) for ids in found)
            assert info.bytes == sum(len(d.text.encode()) for d in wanted)


def test_documents_are_in_another_order_than_they_came(
    text_store: TokenStore, tokenizer: Tokenizer, documents: list[Document]
) -> None:
    came = [d.text for d in documents if d.lang == "zh" and not held_out(d.id, 0.3)]
    written = [tokenizer.decode(text_store.document("fixture_zh", "train", i)) for i in range(len(came))]
    assert written != came


def test_a_stream_is_documents_between_symbols(text_store: TokenStore) -> None:
    info = text_store.split("fixture_en", "train")
    stream = text_store.windows([("fixture_en", "train", 0)], info.tokens)[0]
    assert stream.dtype == np.int32
    assert stream[0] == text_store.manifest.doc_id
    assert np.count_nonzero(stream == text_store.manifest.doc_id) == info.documents


@given(
    starts=st.lists(st.integers(0, 200), min_size=1, max_size=5),
    length=st.integers(1, 150),
    split=st.sampled_from("ab"),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_windows_go_round(count_store, tmp_path: Path, starts: list[int], length: int, split: str) -> None:
    if not (tmp_path / "counts").exists():
        count_store({"a": ("zh", [5, 1, 30]), "b": ("en", [70])})
    store = TokenStore.open(tmp_path / "counts")
    stream = store.windows([(split, "train", 0)], store.split(split, "train").tokens)[0]
    found = store.windows([(split, "train", start) for start in starts], length)
    for row, start in zip(found, starts, strict=True):
        np.testing.assert_array_equal(row, np.take(stream, range(start, start + length), mode="wrap"))


def test_small_vocabularies_take_two_bytes_a_token() -> None:
    # One value is left over to mark what was never written.
    assert [token_dtype(size) for size in (300, 65535, 65536)] == [np.uint16, np.uint16, np.uint32]


def test_the_store_holds_its_tokenizer(text_store: TokenStore, tokenizer: Tokenizer) -> None:
    assert text_store.tokenizer.sha256 == text_store.tokenizer_sha256 == tokenizer.sha256
    assert text_store.tokenizer.decode(tokenizer.encode("道可道")) == "道可道"


def test_languages_and_their_sources(count_store) -> None:
    store = count_store({"c": ("zh", [9]), "b": ("en", [9]), "a": ("zh", [9])})
    assert store.languages() == {"en": ["b"], "zh": ["a", "c"]}


def test_a_url_is_a_path(text_store: TokenStore) -> None:
    again = TokenStore.open("file://" + text_store.url)
    assert again.manifest == text_store.manifest
    np.testing.assert_array_equal(
        again.document("fixture_zh", "train", 0), text_store.document("fixture_zh", "train", 0)
    )


def test_unknown_names(text_store: TokenStore) -> None:
    with pytest.raises(ValueError, match=r"has no source 'fixture'; it has fixture_en, fixture_zh"):
        text_store.split("fixture", "train")
    with pytest.raises(ValueError, match="splits train and held_out, not 'test'"):
        text_store.split("fixture_zh", "test")
    with pytest.raises(ValueError, match=r"has \d+ documents in its split train: there is no document 99"):
        text_store.document("fixture_zh", "train", 99)


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no token store at .*nothing .*prepare_data\.py"):
        TokenStore.open(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is not a path or URL that TensorStore can open"):
        TokenStore.open("nowhere://here")


def test_paths_that_would_name_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one the current folder, and one with a backslash a folder in a folder."""
    with pytest.raises(ValueError, match=r"the path of the token store is empty \(Mixture\.store"):
        TokenStore.open("")
    with pytest.raises(ValueError, match=r"a\\b: TensorStore takes \\ for /"):
        TokenStore.open(tmp_path / "a\\b")
    (tmp_path / "a\\b").mkdir()
    monkeypatch.chdir(tmp_path / "a\\b")
    with pytest.raises(ValueError, match=r"a\\b/store: TensorStore takes \\ for /"):
        TokenStore.open("store")


def test_a_store_of_another_tokenizer(text_store: TokenStore, tokenizer: Tokenizer) -> None:
    other = Tokenizer(Path("other.model"), tokenizer.model)
    other.sha256 = hashlib.sha256(b"another").hexdigest()
    assert TokenStore.open(text_store.url, tokenizer).sources
    with pytest.raises(ValueError, match=r"was written with another tokenizer \(sha256 .*\) than other\.model"):
        TokenStore.open(text_store.url, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: "{", r"manifest\.json is not JSON .* is damaged; remove it and write it again"),
        (
            lambda manifest: json.dumps(manifest | {"format": 99}),
            "the store is of format 99, this program reads 1",
        ),
        (lambda manifest: json.dumps({"format": 1}), r"manifest\.json: Manifest\.tokenizer_sha256 is missing"),
        (lambda manifest: json.dumps([1]), r"manifest\.json: must be the fields of Manifest, not list"),
        (
            lambda manifest: json.dumps(manifest | {"vocab_size": "9"}),
            r"manifest\.json: Manifest\.vocab_size = '9': must be int, not str: the token store is damaged",
        ),
        (
            lambda manifest: json.dumps(manifest | {"doc_id": 5000}),
            r"manifest\.json: doc_id = 5000: must be an id below vocab_size = 1000",
        ),
    ],
)
def test_a_bad_manifest(text_store: TokenStore, change, message: str) -> None:
    path = Path(text_store.url) / "manifest.json"
    path.write_text(change(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        TokenStore.open(text_store.url)


def test_a_whole_store_is_verified_without_a_word(text_store: TokenStore) -> None:
    text_store.verify()
    assert sum(len(source.files) for source in text_store.sources.values()) == 2 * 2 * 3 * 2


def test_verifying_names_every_file_that_is_missing_or_changed(text_store: TokenStore) -> None:
    bad = sorted(text_store.sources["fixture_zh"].files)
    changed, missing = Path(text_store.url) / bad[0], Path(text_store.url) / bad[-1]
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    missing.unlink()
    with pytest.raises(ValueError, match="is damaged; remove it and write it again") as error:
        text_store.verify()
    assert str(error.value).splitlines()[1:] == [f"  {bad[0]} changed since it was written", f"  {bad[-1]} is missing"]


@pytest.mark.parametrize("name", ["tokens/c/0", "tokens/zarr.json", "offsets/zarr.json"])
def test_a_flipped_bit_is_found_when_it_is_read(text_store: TokenStore, name: str) -> None:
    path = Path(text_store.url) / "fixture_zh/train" / name
    content = bytearray(path.read_bytes())
    content[content.index(b":") if name.endswith(".json") else 100] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged; remove it and write it again") as raised:
        TokenStore.open(text_store.url).document("fixture_zh", "train", 0)
    assert str(raised.value).count("is damaged") == 1 and name in str(raised.value)


def test_a_file_that_cannot_be_read_is_not_damaged(text_store: TokenStore) -> None:
    path = Path(text_store.url) / "fixture_zh/train/tokens/c/0"
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(OSError, match=r"the token store .* cannot be read: .*Too many levels of symbolic links"):
        TokenStore.open(text_store.url).document("fixture_zh", "train", 0)


@pytest.mark.parametrize("name", ["tokens/c/0", "offsets/c/0", "offsets/zarr.json"])
def test_a_lost_file_is_found_when_it_is_read(text_store: TokenStore, name: str) -> None:
    (Path(text_store.url) / f"fixture_zh/train/{name}").unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 of the 12 files of the source fixture_zh are missing .*{name}"):
        TokenStore.open(text_store.url).document("fixture_zh", "train", 0)


def test_a_lost_source_is_missing_not_damaged(text_store: TokenStore) -> None:
    shutil.rmtree(Path(text_store.url) / "fixture_zh")
    with pytest.raises(FileNotFoundError, match=r"12 of the 12 files .* is the disk mounted and the copy complete\?"):
        TokenStore.open(text_store.url).windows([("fixture_en", "train", 0), ("fixture_zh", "train", 0)], 5)


def test_a_lost_or_changed_tokenizer(text_store: TokenStore) -> None:
    path = Path(text_store.url) / "tokenizer.model"
    path.write_bytes(path.read_bytes() + b"\xfa\x07\x00")
    with pytest.raises(ValueError, match=r"tokenizer\.model has the sha256 .* manifest\.json has .* is damaged"):
        _ = TokenStore.open(text_store.url).tokenizer
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.model is missing: is the disk mounted"):
        _ = TokenStore.open(text_store.url).tokenizer


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/store", "s3://bucket/store"])
def test_a_store_that_does_not_answer_is_reported(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{port}")
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"the token store .* has not answered within 0 s: are its address"):
            TokenStore.open(url.format(port))
    assert time.monotonic() - began < 5


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a JSON value, its own places and those in it."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))


def mutated(manifest: dict[str, Any], path: tuple[Any, ...], kind: Any) -> str:
    changed = json.loads(json.dumps(manifest))
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    if kind == "delete":
        del parent[path[-1]]
    elif kind == "add one":
        parent[path[-1]] += 1
    elif kind == "another key":
        parent["another"] = parent.pop(path[-1])
    else:
        parent[path[-1]] = kind
    return json.dumps(changed)


def everything(store: TokenStore) -> tuple[Any, ...]:
    """What is read of a store: its tokenizer, every stream, documents and figures."""
    names = [(name, split) for name in ("fixture_en", "fixture_zh") for split in SPLITS]
    streams = [store.windows([(*at, 0)], store.split(*at).tokens).tolist() for at in names]
    documents = [store.document(*at, 0).tolist() for at in names]
    sizes = [store.split(*at).documents for at in names]
    symbols = store.manifest.doc_id, store.manifest.pad_id, store.manifest.vocab_size
    return store.tokenizer.sha256, streams, documents, sizes, symbols


def outcome(url: str) -> tuple[Any, ...] | str:
    """What is read of a store, or why nothing is."""
    try:
        return everything(TokenStore.open(url))
    except ValueError as error:
        return str(error)


KINDS = ("delete", "another key", "add one", None, True, "x", -1, 10**30, 0.5, math.nan, math.inf, [], {}, {"a": 1})


def test_a_manifest_is_believed_only_where_it_is_true(text_store: TokenStore) -> None:
    path = Path(text_store.url) / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    expected = everything(text_store)
    refused = 0
    for place in places(manifest):
        if "files" in place[:-1] and not place[-1].endswith("train/tokens/zarr.json"):
            continue  # all alike
        for kind in KINDS:
            if kind == "add one" and not isinstance(functools.reduce(operator.getitem, place, manifest), int | float):
                continue
            path.write_text(mutated(manifest, place, kind), encoding="utf-8")
            found = outcome(text_store.url)
            if isinstance(found, str):
                assert "manifest.json" in found or "has no source" in found, (place, kind, found)
                refused += 1
            else:
                assert found == expected, (place, kind)
    assert refused > 200


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("doc_id", r"manifest\.json: doc_id = 3, the tokenizer's is 2: "),
        ("pad_id", r"manifest\.json: pad_id = 1, the tokenizer's is 0: "),
        ("vocab_size", r"manifest\.json: vocab_size = 1001, the tokenizer's is 1000: "),
        (
            "tokens",
            r"manifest\.json: tokens = \d+ of fixture_zh train, and the array .*/tokens has the shape",
        ),
        (
            "documents",
            r"manifest\.json: documents = \d+ of fixture_zh train, and the array .*/offsets has",
        ),
    ],
)
def test_a_wrong_figure_is_reported_with_the_actual_one(text_store: TokenStore, field: str, message: str) -> None:
    path = Path(text_store.url) / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    place = (field,) if field in manifest else ("sources", "fixture_zh", "splits", "train", field)
    path.write_text(mutated(manifest, place, "add one"), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        everything(TokenStore.open(text_store.url))


def test_tokens_wider_than_the_vocabulary(text_store: TokenStore) -> None:
    path = Path(text_store.url) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"vocab_size": 70000}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocab_size = 70000 takes uint32, and the array .*tokens holds uint16"):
        TokenStore.open(text_store.url).windows([("fixture_zh", "train", 0)], 5)
