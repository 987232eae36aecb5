"""The chat format: ids and what carries loss."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.batching.chat_format import Turn, encode_conversations, encode_prompt
from mindllm_jax.tokenization.tokenizer import Tokenizer

TEXTS = st.text(st.sampled_from("ab\n 你好<doc>user") | st.characters(exclude_categories=("Cs",)), max_size=12)
CONVERSATIONS = st.lists(st.builds(Turn, TEXTS, TEXTS), min_size=1, max_size=4)


def test_two_turns_spelled_out(tokenizer: Tokenizer) -> None:
    (whole,) = encode_conversations(tokenizer, [[Turn("Hi", "你好"), Turn("Bye", "再见")]])
    expected: list[int] = [tokenizer.doc_id]
    loss_mask = [False]
    for question, answer in (("Hi", "你好"), ("Bye", "再见")):
        newline = tokenizer.encode("\n").tolist()
        before = [
            tokenizer.symbols["<user>"],
            *newline,
            *tokenizer.encode(question),
            *newline,
            tokenizer.symbols["<assistant>"],
            *newline,
        ]
        after = [*tokenizer.encode(answer), tokenizer.doc_id]
        expected += before + after
        loss_mask += [False] * len(before) + [True] * len(after)
    assert whole.ids.tolist() == expected and whole.ids.dtype == np.int32
    assert whole.loss_mask.tolist() == loss_mask


@given(conversation=CONVERSATIONS)
def test_the_loss_mask_is_the_answers(tokenizer: Tokenizer, conversation: list[Turn]) -> None:
    (whole,) = encode_conversations(tokenizer, [conversation])
    loss_mask = whole.ids[whole.loss_mask]
    ends = np.flatnonzero(loss_mask == tokenizer.doc_id)
    answers = np.split(loss_mask, ends + 1)[:-1]
    assert [tokenizer.decode(answer) for answer in answers] == [turn.answer for turn in conversation]
    assert whole.loss_mask[-1] and ends[-1] == len(loss_mask) - 1


@given(conversation=CONVERSATIONS)
def test_a_prompt_is_a_prefix_of_its_conversation(tokenizer: Tokenizer, conversation: list[Turn]) -> None:
    *before, last = conversation
    (whole,) = encode_conversations(tokenizer, [conversation])
    prompt = encode_prompt(tokenizer, before, last.question)
    assert whole.ids[: len(prompt)].tolist() == prompt.tolist()
    rest = whole.ids[len(prompt) :]
    assert rest.tolist() == [*tokenizer.encode(last.answer), tokenizer.doc_id]


@given(conversations=st.lists(CONVERSATIONS, max_size=3))
def test_a_batch_is_its_conversations(tokenizer: Tokenizer, conversations: list[list[Turn]]) -> None:
    together = encode_conversations(tokenizer, conversations)
    for conversation, encoded in zip(conversations, together, strict=True):
        (alone,) = encode_conversations(tokenizer, [conversation])
        assert alone.ids.tolist() == encoded.ids.tolist() and alone.loss_mask.tolist() == encoded.loss_mask.tolist()


def test_marks_in_a_text_are_text(tokenizer: Tokenizer) -> None:
    (whole,) = encode_conversations(tokenizer, [[Turn("<assistant>", "<doc>")]])
    assert (whole.ids == tokenizer.symbols["<assistant>"]).sum() == 1
    assert (whole.ids == tokenizer.doc_id).sum() == 2
