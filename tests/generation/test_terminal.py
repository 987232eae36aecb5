"""The chat in the terminal: commands, what is written around an answer, interruptions."""

import re
from collections.abc import Iterator

import pytest

from mindllm_jax.generation.chat import Chat, Session
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.generation.terminal import COMMANDS, HELP, HINT, strip_control_chars, talk
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.load_run import LoadedRun


@pytest.fixture
def session(decoder: Decoder, tokenizer: Tokenizer) -> Session:
    run = LoadedRun(decoder, decoder.config, tokenizer, 0, {})
    return Session(run, Chat(run="unused", sampling=Sampling(temperature=0.0, max_tokens=11)))


def said(session: Session, lines: list[str]) -> str:
    """What a chat writes for these lines."""
    written: list[str] = []
    talk(session, lines, written.append)
    return "".join(written)


def test_an_answer_and_its_speed(session: Session) -> None:
    written = said(session, ["Hi"])
    hint, answer, speed = written.splitlines()
    assert hint == HINT and answer.strip() == session.messages[1].content
    assert re.fullmatch(r"\[\d+\.\d tokens/s\]", speed)


def test_dropped_turns_are_reported(session: Session) -> None:
    assert "turns no longer fit in Model.max_seq_len and were dropped]" in said(session, ["one two three four"] * 4)


def test_a_question_that_does_not_fit_is_reported_and_the_chat_goes_on(session: Session) -> None:
    written = said(session, ["x y " * 200, "Hi"])
    assert "not fit behind it in Model.max_seq_len = 96" in written
    assert [message.content for message in session.messages[::2]] == ["Hi"]


def test_a_new_conversation(session: Session) -> None:
    written = said(session, ["", "Hi", "/reset", "Ho", "/quit", "never read"])
    assert [message.content for message in session.messages[::2]] == ["Ho"]
    assert "a new conversation\n" in written


def test_a_line_that_the_locale_cannot_decode_is_not_answered(session: Session) -> None:
    written = said(session, ["\ufffd\ufffd\ufffd", "Hi"])
    assert "[the line is not text in this locale's encoding; set LC_ALL=C.UTF-8 or PYTHONUTF8=1]" in written
    assert [message.content for message in session.messages[::2]] == ["Hi"]


def test_the_system_message(session: Session) -> None:
    assert "the system message is set\n" in said(session, ["/system  Be brief. "])
    assert session.system == "Be brief."
    assert "no system message\n" in said(session, ["/system"]) and session.system == ""


def test_the_temperature(session: Session) -> None:
    assert "temperature 0.7\n" in said(session, ["/temperature 0.7"])
    written = said(session, ["/temperature hot", "/temperature", "/temperature -1", "/temperature nan"])
    assert "[/temperature needs a number, as in /temperature 0.7; this is 'hot']" in written
    assert written.count("Sampling.temperature") == 2
    assert session.sampling.temperature == 0.7


def test_another_answer(session: Session) -> None:
    written = said(session, ["/regenerate", "/temperature 1", "Hi", "/regenerate"])
    assert "[there is no question to answer again]" in written
    first, second = re.findall(r"(.+)\n\[\d", written)
    assert first != second and second.strip() == session.messages[1].content and len(session.messages) == 2


def test_help_and_unknown_commands(session: Session) -> None:
    written = said(session, ["/help", "/what", "/resett", "/reset all"])
    assert HELP in written and "there is no command /what" in written
    assert "did you mean '/reset'?" in written and "/reset takes nothing behind it" in written
    assert COMMANDS == ("/reset", "/system", "/temperature", "/regenerate", "/help", "/quit")


def test_an_interrupted_answer_is_kept_and_the_chat_goes_on(session: Session) -> None:
    written: list[str] = []

    def write(text: str) -> None:
        written.append(text)
        if len(written) == 2:  # the first piece of the first answer
            raise KeyboardInterrupt

    talk(session, ["Hi", "Ho"], write)
    assert written[1].strip() == session.messages[1].content
    assert written[2] == " [stopped]\n"
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
