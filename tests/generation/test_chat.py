"""A session with a model: its conversation, its system message and answers that are generated again."""

import pytest

from mindllm_jax.batching.chat_format import encode_prompt
from mindllm_jax.batching.chat_template import Message
from mindllm_jax.generation.chat import Chat, Session
from mindllm_jax.generation.engine import stream
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.load_run import LoadedRun

SAMPLING = Sampling(temperature=0.0, max_tokens=11)


@pytest.fixture
def run(decoder: Decoder, tokenizer: Tokenizer) -> LoadedRun:
    return LoadedRun(decoder, decoder.config, tokenizer, 0, {})


@pytest.fixture
def session(run: LoadedRun) -> Session:
    return Session(run, Chat(run="unused", sampling=SAMPLING))


def test_an_answer_is_what_the_model_says_after_the_prompt(
    session: Session, decoder: Decoder, tokenizer: Tokenizer
) -> None:
    answers = []
    for question in ("Hi", "再见"):
        prompt = encode_prompt(tokenizer, [*session.messages, Message("user", question)])
        expected = "".join(stream(decoder, tokenizer, prompt, SAMPLING, stop_ids=tokenizer.ends))
        answers.append("".join(session.reply(question)))
        assert answers[-1] == expected
    assert [message.role for message in session.messages] == ["user", "assistant"] * 2
    assert [message.content for message in session.messages] == ["Hi", answers[0].strip(), "再见", answers[1].strip()]


def test_a_document_is_continued(run: LoadedRun, decoder: Decoder, tokenizer: Tokenizer) -> None:
    session = Session(run, Chat(run="unused", mode="continue", sampling=SAMPLING))
    expected = "".join(stream(decoder, tokenizer, "Once", SAMPLING))
    assert "".join(session.reply("Once")) == expected
    assert session.messages == []


def test_the_first_turns_are_dropped(session: Session) -> None:
    for _ in range(4):
        list(session.reply("one two three four"))
    assert session.dropped > 0
    assert len(session.messages) == 2 * (4 - session.dropped)


def test_a_question_that_does_not_fit_changes_nothing(session: Session) -> None:
    list(session.reply("Hi"))
    before = list(session.messages)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"not fit behind it in Model\.max_seq_len = 96"):
            list(session.reply("x y " * 200))
        assert session.messages == before and session.dropped == 0
    session.system = "long " * 200
    with pytest.raises(ValueError, match="not fit"):
        list(session.regenerate())
    assert session.messages == before


def test_a_system_message_stands_in_front(session: Session, decoder: Decoder, tokenizer: Tokenizer) -> None:
    session.system = "Be brief."
    answer = "".join(session.reply("Hi"))
    prompt = encode_prompt(tokenizer, [Message("system", "Be brief."), Message("user", "Hi")])
    assert answer == "".join(stream(decoder, tokenizer, prompt, SAMPLING, stop_ids=tokenizer.ends))
    session.reset()
    assert session.system and [message.role for message in session.messages] == []
    session.system = ""
    assert "".join(session.reply("Hi")) != answer


@pytest.mark.parametrize("mode", ["chat", "continue"])
def test_an_answer_is_generated_again(run: LoadedRun, mode: str) -> None:
    sampling = Sampling(temperature=1.0, max_tokens=11, seed=2**31 - 1)
    session = Session(run, Chat(run="unused", mode=mode, sampling=sampling))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="there is no question to answer again"):
        list(session.regenerate())
    list(session.reply("Ho"))
    answers = ["".join(session.reply("Hi")), "".join(session.regenerate()), "".join(session.regenerate())]
    assert len({*answers}) == 3
    if mode == "chat":
        assert [message.content for message in session.messages[2:]] == ["Hi", answers[2].strip()]
    assert "".join(session.reply("Ho")) != ""
    session.reset()
    with pytest.raises(ValueError, match="there is no question"):
        list(session.regenerate())
