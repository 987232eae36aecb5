"""Signatures: their invariances, the similarity they estimate, and their format."""

from pathlib import Path

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.io import get_datafolder
from datatrove.pipeline.dedup.minhash import read_sigs

from mindllm_jax.corpus.dedup.batches import batch_of
from mindllm_jax.corpus.dedup.minhash import Signatures, Signer, prose, stock_config
from mindllm_jax.corpus.settings import MinHash
from mindllm_jax.text.ngrams import ngrams, tokens

SIMPLIFIED = "人工智能的发展，让计算机学会了读书、写字和画画。这些模型从互联网上的文本里学习语言，没有人教它们语法。"
TRADITIONAL = "人工智能的發展，讓計算機學會了讀書、寫字和畫畫。這些模型從互聯網上的文本裡學習語言，沒有人教它們語法。"


def signed(text: str) -> np.ndarray:
    return Signer(MinHash()).sign(batch_of([text]))[0]


@pytest.mark.parametrize(
    ("text", "variant"),
    [
        (SIMPLIFIED, TRADITIONAL),
        (SIMPLIFIED, " ".join(SIMPLIFIED.replace("，", ",").replace("。", "！"))),
        ("The first of 12 ABC models", "Ｔｈｅ ｆｉｒｓｔ　ｏｆ １２ ＡＢＣ ｍｏｄｅｌｓ"),
        ("The first, of 12 models.", "the FIRST of\n\n12 - models"),
    ],
)
def test_script_width_case_and_punctuation_leave_no_trace(text: str, variant: str) -> None:
    np.testing.assert_array_equal(signed(text), signed(variant))


def test_a_text_without_letters_has_no_signature(tmp_path: Path) -> None:
    texts = ["… —— !?", "", "a"]
    Signatures(str(tmp_path), MinHash()).run(Document(x, "", metadata={"source": "a"}) for x in texts)
    table = np.load(tmp_path / "table/00000.npy")
    assert table["bits"].any(1).tolist() == [False, False, True]
    bucket = np.fromfile(tmp_path / "bucket_000/00000.minhash.sig", "<u4")
    assert bucket.shape == (MinHash().hashes_per_bucket + 1,) and bucket[-1] == 2
    assert signed("a").shape == (MinHash().buckets * MinHash().hashes_per_bucket,)


@pytest.mark.parametrize("words", [3, 5000])
def test_a_signature_holds_the_least_hash_of_all_ngrams(words: int) -> None:
    """By the plain definition, for texts beside each other, with fewer tokens than an n-gram, and of several blocks."""
    config = MinHash(ngram_words=4, buckets=5, hashes_per_bucket=2)
    signer = Signer(config)
    texts = [" ".join(f"w{start + n}" for n in range(words)) for start in (0, 7)] + ["…", "人工智能" * 3, "two words"]
    factors, terms = signer._factors.astype(np.uint64), signer._terms.astype(np.uint64)
    signatures = iter(signer.sign(batch_of(texts)))
    for text in texts:
        grams = ngrams(tokens(text).hashes, 3 if "人" in text else 4) >> np.uint64(32)
        if len(grams):
            np.testing.assert_array_equal(next(signatures), ((factors * grams + terms) % 2**32).min(1))
    assert next(signatures, None) is None


def test_prose_by_line() -> None:
    lines = ["Home", "A sentence.", "", "x" * 60, "About us"]
    sentences, rest = prose(batch_of(["\n".join(lines), "", "Home\nAbout", "句子。\n"]))
    assert sentences.tolist() == [71, 0, 9, 3]
    assert rest.tolist() == [12, 0, 0, 0]


def test_the_share_of_equal_hashes_estimates_the_jaccard_similarity() -> None:
    """Over 40 pairs of texts of single tokens, 512 hashes each: within four standard deviations of the binomial."""
    random, signer = np.random.default_rng(3), Signer(MinHash(ngram_words=1, buckets=64, hashes_per_bucket=8))
    equal, expected, variance = 0.0, 0.0, 0.0
    for _ in range(40):
        union, common = int(random.integers(50, 400)), float(random.uniform(0.05, 0.95))
        names = [f"w{number}" for number in random.choice(10**9, union, replace=False)]
        shared = round(common * union)
        half = shared + (union - shared) // 2
        one, two = signer.sign(batch_of([" ".join(x) for x in (names[:half], names[:shared] + names[half:])]))
        equal += float((one == two).mean())
        expected += shared / union
        variance += shared / union * (1 - shared / union) / 512
    assert abs(equal - expected) < 4 * variance**0.5


def test_datatrove_reads_the_buckets(tmp_path: Path) -> None:
    random, config = np.random.default_rng(0), MinHash(buckets=3, hashes_per_bucket=2)
    texts = [" ".join(f"w{n}" for n in random.integers(0, 99, 30)) for _ in range(20)]
    texts[4] = "…"
    Signatures(str(tmp_path), config).run((Document(x, "", metadata={"source": "a"}) for x in texts), rank=7)
    folder = get_datafolder(str(tmp_path))
    for bucket in range(config.buckets):
        name = f"bucket_{bucket:03d}/00007.minhash.sig"
        read = list(read_sigs(folder.open(name, "rb"), 0, stock_config(config), max_hash=2**32))
        assert sorted(x.doc_id for x in read) == [n for n in range(20) if n != 4]
        assert [x.sig for x in read] == sorted(x.sig for x in read)
        for x in read:
            signature = Signer(config).sign(batch_of([texts[x.doc_id]]))[0]
            assert x.sig == tuple(signature[2 * bucket : 2 * bucket + 2].tolist())


def test_invalid_settings_raise() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        MinHash(ngram_words=0)
    with pytest.raises(ValueError, match="similarity"):
        MinHash(min_similarity=1.5)
