"""Requests become the tokens that lm-evaluation-harness's class `hf` gives the exported tokenizer."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.batching.chat_template import Message
from mindllm_jax.evaluation.encoding import Encoder, chat_text
from mindllm_jax.evaluation.protocol import Protocol
from mindllm_jax.interop.tokenizer import hugging_face_files
from mindllm_jax.model.config import Model
from mindllm_jax.tokenization.tokenizer import Tokenizer

TOKENIZER = Tokenizer.load(Path(__file__).parents[1] / "fixtures/tokenizer.model")
TOGETHER, APART = Encoder(TOKENIZER, Protocol()), Encoder(TOKENIZER, Protocol(seam="apart"))
CHAT = Encoder(TOKENIZER, Protocol(chat_template=True))
DOC = TOKENIZER.doc_id
PIECES = [TOKENIZER.piece(id) for id in range(TOKENIZER.vocab_size)]
WORD = next(piece for piece in PIECES if len(piece) == 2 and piece > "一")
TEXT = st.lists(st.sampled_from([*PIECES, " ", "\n", "　", "<doc>"]), max_size=8).map("".join)


@pytest.fixture(scope="module")
def transformers_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    transformers = pytest.importorskip("transformers", reason="transformers (the extra `hf`) is not installed")
    folder = tmp_path_factory.mktemp("hf")
    for name, content in hugging_face_files(TOKENIZER).items():
        (folder / name).write_text(content, encoding="utf-8")
    return transformers.AutoTokenizer.from_pretrained(folder)


def theirs(tokenizer: Any, *, symbols: bool) -> Any:
    """The harness's own code for a pair, over a tokenizer."""
    model = pytest.importorskip("lm_eval.api.model", reason="lm-eval (the extra `eval`) is not installed")

    class Pairs(model.TemplateLM):
        eot_token_id = DOC
        _loglikelihood_tokens = loglikelihood_rolling = generate_until = None

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
            if symbols and string.startswith("<doc>"):  # as `hf` does where a string begins with bos
                add_special_tokens = False
            settings = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
            return tokenizer(string, split_special_tokens=not symbols, **settings)["input_ids"]

        def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
            if not context:
                return [self.prefix_token_id], self.tok_encode(continuation, add_special_tokens=False)
            return self._encode_pair(context, continuation)

    return Pairs()


@given(context=TEXT, continuation=TEXT.filter(bool))
def test_together_gives_the_harness_s_own_tokens(transformers_tokenizer: Any, context: str, continuation: str) -> None:
    (pair,) = TOGETHER.pairs([(context, continuation)])
    expected = theirs(transformers_tokenizer, symbols=False).pair(context, continuation)
    assert pair.swallowed == (not expected[1])
    assert pair.query.context == expected[0]
    if not pair.swallowed:
        assert pair.query.continuation == expected[1]


def test_together_in_a_chat_template(transformers_tokenizer: Any) -> None:
    """Symbols are symbols, and the first token is not put before the template's own."""
    messages = [Message("user", " 一加一？ "), Message("assistant", "二"), Message("user", "a<doc>b")]
    text = chat_text(TOKENIZER, messages)
    mine = [message._asdict() for message in messages]
    rendered = transformers_tokenizer.apply_chat_template(mine, tokenize=False, add_generation_prompt=True)
    assert text == rendered
    (pair,) = CHAT.pairs([(text, "三")])
    assert pair.query.context.count(DOC) == 3  # type: ignore[attr-defined]
    expected = theirs(transformers_tokenizer, symbols=True).pair(text, "三")
    assert tuple(pair.query) == expected
    assert CHAT.prompts([text]) == [transformers_tokenizer(text, add_special_tokens=False)["input_ids"]]


@pytest.mark.parametrize("answer", ["二，", "  二 ", "二\n"])
def test_a_prefilled_answer(transformers_tokenizer: Any, answer: str) -> None:
    messages = [Message("user", "一加一？"), Message("assistant", answer)]
    rendered = transformers_tokenizer.apply_chat_template(
        [message._asdict() for message in messages], tokenize=False, continue_final_message=True
    )
    assert chat_text(TOKENIZER, messages, prefilled=True) == rendered


@given(pairs=st.lists(st.tuples(TEXT, TEXT), max_size=6))
def test_apart_loses_no_character(pairs: list[tuple[str, str]]) -> None:
    encoded = APART.pairs(pairs)
    for (context, continuation), (query, seam_differs, _), other in zip(
        pairs, encoded, TOGETHER.pairs(pairs), strict=True
    ):
        assert query.context[0] == DOC
        assert TOKENIZER.decode([*query.context, *query.continuation]) == context + continuation
        assert TOKENIZER.decode(query.context) == context.rstrip()
        assert other.seam_differs == seam_differs
        assert seam_differs == (other.swallowed or other.query.continuation != query.continuation)


def test_a_continuation_that_the_context_swallows_is_encoded_apart() -> None:
    assert len(TOKENIZER.encode(WORD)) == 1
    (pair,) = TOGETHER.pairs([(WORD[0], WORD[1])])
    assert pair.swallowed and pair.seam_differs
    assert pair.query.continuation == TOKENIZER.encode(WORD[1]).tolist()


def test_requests_with_one_context_share_its_ids() -> None:
    first, second = TOGETHER.pairs([("问题\n答案：", "A"), ("问题\n答案：", "B")])
    assert first.query.context is second.query.context


@pytest.mark.parametrize(("first_token", "expected"), [("tokenizer", [DOC]), (None, []), ("<user>", None)])
def test_the_first_token(first_token: str | None, expected: list[int] | None) -> None:
    expected = [TOKENIZER.symbols["<user>"]] if expected is None else expected
    protocol = Protocol(first_token=first_token)
    encoder = Encoder(TOKENIZER, protocol)
    ids = TOKENIZER.encode("a").tolist()
    assert encoder.prompts(["a"]) == [[*expected, *ids]]
    (pair, empty, blank) = encoder.pairs([("a", " b"), ("", "b"), (" ", "b")])
    assert pair.query.context == [*expected, *ids]
    assert empty.query.context == blank.query.context == (expected or [DOC]), "bos stands for an empty context"
    record = protocol.record(TOKENIZER, Model(vocab_size=512, compute_dtype="float32"))
    assert record["first_token"] == ("".join(map(TOKENIZER.piece, expected)) or None)
    assert record["prefix_token"] == TOKENIZER.piece((expected or [DOC])[0])
    assert record["compute_dtype"] == "float32" and record["tokenizer_sha256"] == TOKENIZER.sha256


def test_wrong_protocols() -> None:
    with pytest.raises(ValueError, match=r"Protocol.seam = 'between': must be 'together' or 'apart'"):
        Protocol(seam="between")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"has no symbol '<dok>'; did you mean '<doc>'\?"):
        Protocol(first_token="<dok>").first_ids(TOKENIZER)
