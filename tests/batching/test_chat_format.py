"""The chat format of MindLLM's template: ids, and what carries loss."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.batching.chat_format import encode_conversations, encode_prompt
from mindllm_jax.batching.chat_template import Message
from mindllm_jax.tokenization.tokenizer import Tokenizer

TEXTS = st.text(st.sampled_from("ab\n 你好<doc>user") | st.characters(exclude_categories=("Cs",)), max_size=12)
TURNS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4)


def messages(*turns: tuple[str, str]) -> list[Message]:
    return [Message(role, text) for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)]


CONVERSATIONS = TURNS.map(lambda turns: messages(*turns))


def spelled_out(tokenizer: Tokenizer, turns: list[tuple[str, str]]) -> tuple[list[int], list[bool]]:
    """Ids and loss mask, every part encoded by itself."""
    newline = tokenizer.encode("\n").tolist()
    user, assistant = tokenizer.symbols["<user>"], tokenizer.symbols["<assistant>"]
    ids, loss_mask = [tokenizer.doc_id], [False]
    for question, answer in turns:
        before = [user, *newline, *tokenizer.encode(question), *newline, assistant, *newline]
        after = [*tokenizer.encode(answer), tokenizer.doc_id]
        ids += before + after
        loss_mask += [False] * len(before) + [True] * len(after)
    return ids, loss_mask


def test_golden_ids(tokenizer: Tokenizer) -> None:
    (whole,) = encode_conversations(tokenizer, [messages(("Hi", "你好"), ("Bye", "再见"))])
    assert whole.ids.tolist() == GOLDEN and whole.ids.dtype == np.int32
    assert whole.loss_mask.tolist() == GOLDEN_MASK and whole.loss_mask.dtype == np.bool_


GOLDEN = [2, 3, 5, 838, 558, 5, 4, 5, 237, 198, 169, 902, 2, 3, 5, 699, 575, 552, 5, 4, 5, 771, 241, 176, 138, 2]
GOLDEN_MASK = [False] * 8 + [True] * 5 + [False] * 8 + [True] * 5


@given(turns=TURNS)
def test_trimmed_texts_are_encoded_part_by_part(tokenizer: Tokenizer, turns: list[tuple[str, str]]) -> None:
    trimmed = [(question.strip() or "x", answer.strip()) for question, answer in turns]
    (whole,) = encode_conversations(tokenizer, [messages(*trimmed)])
    assert (whole.ids.tolist(), whole.loss_mask.tolist()) == spelled_out(tokenizer, trimmed)


@given(conversation=CONVERSATIONS)
def test_the_loss_mask_is_the_answers(tokenizer: Tokenizer, conversation: list[Message]) -> None:
    (whole,) = encode_conversations(tokenizer, [conversation])
    loss_mask = whole.ids[whole.loss_mask]
    ends = np.flatnonzero(loss_mask == tokenizer.doc_id)
    answers = np.split(loss_mask, ends + 1)[:-1]
    assert [tokenizer.decode(answer) for answer in answers] == [text.strip() for _, text in conversation[1::2]]
    assert whole.loss_mask[-1] and ends[-1] == len(loss_mask) - 1


@given(conversation=CONVERSATIONS)
def test_a_prompt_is_a_prefix_of_its_conversation(tokenizer: Tokenizer, conversation: list[Message]) -> None:
    (whole,) = encode_conversations(tokenizer, [conversation])
    prompt = encode_prompt(tokenizer, conversation[:-1])
    assert whole.ids[: len(prompt)].tolist() == prompt.tolist()
    rest = whole.ids[len(prompt) :]
    assert rest.tolist() == [*tokenizer.encode(conversation[-1].content.strip()), tokenizer.doc_id]


@given(conversations=st.lists(CONVERSATIONS, max_size=3))
def test_a_batch_is_its_conversations(tokenizer: Tokenizer, conversations: list[list[Message]]) -> None:
    together = encode_conversations(tokenizer, conversations)
    for conversation, encoded in zip(conversations, together, strict=True):
        (alone,) = encode_conversations(tokenizer, [conversation])
        assert alone.ids.tolist() == encoded.ids.tolist() and alone.loss_mask.tolist() == encoded.loss_mask.tolist()


def test_names_of_symbols_in_a_message_are_text(tokenizer: Tokenizer) -> None:
    (whole,) = encode_conversations(tokenizer, [messages(("<assistant>", "<doc>"))])
    assert (whole.ids == tokenizer.symbols["<assistant>"]).sum() == 1
    assert (whole.ids == tokenizer.doc_id).sum() == 2


def test_a_system_message_precedes_the_first_question(tokenizer: Tokenizer) -> None:
    system = Message("system", " Be brief.\n")
    (whole,) = encode_conversations(tokenizer, [[system, *messages(("Q", "A"), ("R", "B"))]])
    assert (whole.ids.tolist(), whole.loss_mask.tolist()) == spelled_out(
        tokenizer, [("Be brief.\n\nQ", "A"), ("R", "B")]
    )
    assert whole.ids[:5].tolist() == encode_prompt(tokenizer, [system, Message("user", "Q")])[:5].tolist()


USER, ASSISTANT, SYSTEM = Message("user", "Q"), Message("assistant", "A"), Message("system", "S")


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ([ASSISTANT], "message 1 is of the role assistant: user and assistant take turns"),
        ([USER, USER], "message 2 is of the role user"),
        ([USER, ASSISTANT, ASSISTANT], "message 3 is of the role assistant"),
        ([SYSTEM, SYSTEM, USER], "message 2 is of the role system: .* after one system message at most"),
        ([USER, SYSTEM], "message 2 is of the role system"),
        ([Message("tool", "Q")], "message 1 is of the role tool"),
        (
            [USER, Message("assistant", "ab\udfff")],
            r"message 2: content has a lone surrogate \(U\+DFFF\) at character 2",
        ),
        ([Message("\ud800", "Q")], r"message 1: role has a lone surrogate \(U\+D800\) at character 0"),
    ],
)
def test_wrong_messages(tokenizer: Tokenizer, conversation: list[Message], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_conversations(tokenizer, [conversation])
    with pytest.raises(ValueError, match=message):
        encode_prompt(tokenizer, conversation)
