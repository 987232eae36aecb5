import pytest

from mindllm_jax.corpus.documents import held_out
from mindllm_jax.data.store import TokenStore
from mindllm_jax.evaluation import texts as module
from mindllm_jax.evaluation.texts import split_texts


@pytest.mark.parametrize("block", [7, 64, 1 << 20])
@pytest.mark.parametrize("split", ["train", "held_out"])
def test_texts_come_back_as_they_were(
    store: TokenStore, texts: dict[str, list[str]], split: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    expected = [
        text.encode() for n, text in enumerate(texts["laws"]) if held_out(f"laws-{n}", 1 / 3) == (split == "held_out")
    ]
    found = list(split_texts(store, "laws", split))
    assert len(found) > 5
    assert sorted(found) == sorted(expected)


def test_a_share_is_whole_documents_from_the_beginning(store: TokenStore) -> None:
    whole = list(split_texts(store, "wiki", "train"))
    half = list(split_texts(store, "wiki", "train", share=0.5))
    assert half == whole[: len(half)]
    assert len(whole) / 2 - 2 <= len(half) <= len(whole) / 2 + 1
    assert list(split_texts(store, "wiki", "train", share=0.0)) == []
