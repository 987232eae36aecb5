import pytest

from mindllm_jax.store import texts as module
from mindllm_jax.store.store import TokenStore
from mindllm_jax.store.texts import split_texts
from mindllm_jax.text.documents import Document, held_out


@pytest.mark.parametrize("block", [7, 64, 1 << 20])
@pytest.mark.parametrize("split", ["train", "held_out"])
def test_texts_come_back_as_they_were(
    text_store: TokenStore, documents: list[Document], split: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    expected = [
        document.text.encode()
        for document in documents
        if document.lang == "zh" and held_out(document.id, 0.3) == (split == "held_out")
    ]
    found = list(split_texts(text_store, "fixture_zh", split))
    assert len(found) > 2
    assert sorted(found) == sorted(expected)


def test_a_share_is_whole_documents_from_the_beginning(text_store: TokenStore) -> None:
    whole = list(split_texts(text_store, "fixture_en", "train"))
    half = list(split_texts(text_store, "fixture_en", "train", share=0.5))
    assert half == whole[: len(half)]
    assert len(whole) / 2 - 2 <= len(half) <= len(whole) / 2 + 1
    assert list(split_texts(text_store, "fixture_en", "train", share=0.0)) == []
