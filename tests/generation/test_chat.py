"""A session with a model, and the terminal chat around it."""

from collections.abc import Iterator

import pytest

from mindllm_jax.batching.chat_format import encode_prompt
from mindllm_jax.batching.chat_template import Message
from mindllm_jax.generation.chat import HELP, Chat, Session, strip_control_chars, talk
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


def said(session: Session, lines: list[str]) -> str:
    """What a chat writes for these lines."""
    written: list[str] = []
    talk(session, lines, written.append)
    return "".join(written)


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
    written = said(session, ["one two three four"] * 4)
    assert session.dropped > 0
    assert len(session.messages) == 2 * (4 - session.dropped)
    assert "turns no longer fit in Model.max_seq_len and were dropped]" in written


def test_a_question_that_does_not_fit_is_told_and_the_chat_goes_on(session: Session) -> None:
    written = said(session, ["x y " * 200, "Hi"])
    assert "not fit behind it in Model.max_seq_len = 96" in written
    assert [message.content for message in session.messages[::2]] == ["Hi"]


def test_commands(session: Session) -> None:
    written = said(session, ["", "Hi", "/reset", "/what", "Ho", "/quit", "never read"])
    assert [message.content for message in session.messages[::2]] == ["Ho"]
    assert "a new conversation\n" in written
    assert written.count(HELP) == 2, "at the start and for an unknown command"


def test_an_interrupted_answer_is_kept_and_the_chat_goes_on(session: Session) -> None:
    written: list[str] = []

    def write(text: str) -> None:
        written.append(text)
        if len(written) == 2:  # the first piece of the first answer
            raise KeyboardInterrupt

    talk(session, ["Hi", "Ho"], write)
    assert written[1].strip() == session.messages[1].content
    assert written[2] == " [stopped]"
    assert [message.content for message in session.messages[::2]] == ["Hi", "Ho"]


def test_an_interruption_while_waiting_leaves(session: Session) -> None:
    def lines() -> Iterator[str]:
        yield "Hi"
        raise KeyboardInterrupt

    written: list[str] = []
    talk(session, lines(), written.append)
    assert len(session.messages) == 2 and written[-1] == "\n"


def test_what_a_terminal_would_obey_is_not_written() -> None:
    assert strip_control_chars("a\x1b[2J\x07\r\x9b你\u3000好\n\tb") == "a [2J   你\u3000好\n\tb"
